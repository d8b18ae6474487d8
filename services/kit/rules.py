"""Business rules: conditions in CEL that every decision must keep, over a model's columns and what it decided.

A rule is refused when it is set where it could never be evaluated, or where the log does not hold what it asks for.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts import ModelSchema, Rule

from . import cel, columnar
from .cel_tree import Tree
from .columnar import COLUMNS
from .errors import Invalid

Array = NDArray[Any]
Columns = Mapping[str, Array]
_Asked = tuple[Mapping[str, Array | None], Mapping[str, Array | None] | None]
"""Variables, and the members of `columns` where it speaks of them; None for a column that these rows do not have."""

LENGTH_AT_MOST = 1_000
"""Characters."""
SECONDS_AT_MOST = 0.001
"""For one row, of a rule that is evaluated row by row."""
PREDICTION, SCORE = "prediction", "score"
_ANSWERS = (PREDICTION, SCORE, COLUMNS)
_LOOKS = 5
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_RESERVED = frozenset({
    "as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop",
    "namespace", "null", "package", "return", "true", "var", "void", "while",
})  # fmt: skip
_TYPES = frozenset({
    "bool", "bytes", "double", "dyn", "int", "list", "map", "null_type", "string", "type", "uint",
})  # fmt: skip
"""Names that CEL has for types: a variable of such a name is declared twice, and nothing compiles beside it."""
_NO_OVERLOAD = "no matching overload"


@dataclass(frozen=True)
class Looked:
    """What rows were looked at for one rule, and which of them broke it; masks [rows]."""

    looked: Array
    broken: Array
    undecided: Array
    """Rows for which it has no truth: a value is missing, or of another kind."""


@dataclass(frozen=True)
class Facts:
    """What rules of a model may speak of."""

    columns: tuple[str, ...]
    sensitive: frozenset[str]
    names: frozenset[str]
    """Variables of an expression: columns whose names CEL takes, what was decided, and `columns` for all others."""

    @classmethod
    def of(cls, schema: ModelSchema) -> "Facts":
        """A model without columns is asked by its tensors."""
        hidden = frozenset(column.name for column in schema.columns if column.sensitive)
        shown = tuple(each.name for each in schema.columns or schema.inputs if each.name not in hidden)
        return cls(shown, hidden, frozenset({*_ANSWERS, *filter(_is_variable, shown)}))


def _is_variable(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and name not in _RESERVED | _TYPES and name not in _ANSWERS


def check_rules(rules: Mapping[str, Rule], schema: ModelSchema, where: str) -> None:
    """Raises Invalid naming the rule, as a member of `where`, that cannot be evaluated for decisions of this model."""
    for name, rule in rules.items():
        try:
            check_rule(rule.must, schema)
        except cel.CelError as error:
            raise Invalid(f"{where}.{name}.must: {error}", f"{where}.{name}.must") from None


def check_rule(must: str, schema: ModelSchema) -> None:
    """Refuse what cannot be evaluated for decisions of this model. Raises CelError that says why."""
    if len(must) > LENGTH_AT_MOST:
        raise cel.CelError(f"it has {len(must)} characters, and may have {LENGTH_AT_MOST}")
    facts = Facts.of(schema)
    try:
        tree = _known(must, facts)
    except cel.CelError as error:
        raise cel.CelError(f"{error}{_typed(must, facts)}") from None
    _check_samples(must, facts, schema, is_columnar=columnar.is_columnar(tree))


def _known(must: str, facts: Facts) -> Tree:
    """Raises CelError, which names the column that is sensitive, or the columns that there are."""
    try:
        tree = cel.tree(must, facts.names)
    except cel.CelError as error:
        everything = facts.names | {*filter(_is_variable, facts.sensitive)}
        try:
            asked = columnar.names_of(cel.tree(must, everything)) & facts.sensitive
        except cel.CelError:
            told = f"{error}; the columns are: {', '.join(facts.columns)[:300]}"
            raise cel.CelError(told if "undeclared" in str(error) else _hinted(str(error))) from None
        raise cel.CelError(_hidden(sorted(asked)[0])) from None
    for name in sorted(columnar.members_of(tree) - {*facts.columns}):
        if name in facts.sensitive:
            raise cel.CelError(_hidden(name))
        raise cel.CelError(f"{name} is not a column; the columns are: {', '.join(facts.columns)[:300]}")
    if _TYPES & {*facts.columns} & columnar.names_of(tree):
        raise cel.CelError("a type is compared with a value")
    return tree


def _typed(must: str, facts: Facts) -> str:
    """What people forget who have a column that is called as a type is."""
    asked = sorted(_TYPES & {*facts.columns} & {*_NAME.findall(must)})
    return f"; {asked[0]} by itself is a type of CEL: the column is columns['{asked[0]}']" if asked else ""


def _hidden(name: str) -> str:
    return f"column {name} is sensitive: the log holds no value of it that a rule could look at"


def _check_samples(must: str, facts: Facts, schema: ModelSchema, *, is_columnar: bool) -> None:
    """Some rows may have no truth for it, but not all that can be thought of."""
    values, refused = list[Any](), list[str]()
    for sample in _samples(facts, schema):
        try:
            seconds, value = min((_timed(must, sample) for _ in range(_LOOKS)), key=lambda each: each[0])
        except cel.CelTooMuch:
            raise
        except cel.CelError as error:
            refused.append(str(error))
            continue
        if seconds > SECONDS_AT_MOST and not is_columnar:
            raise cel.CelError(f"it takes {seconds * 1e3:.1f} ms for one row, and may take {SECONDS_AT_MOST * 1e3:g}")
        values.append(value)
    if values and not any(isinstance(value, bool) for value in values):
        raise cel.CelError(f"its value is {type(values[0]).__name__}, not true or false")
    if not values and all(_NO_OVERLOAD in each.lower() for each in refused):
        raise cel.CelError(_hinted(refused[0]))


def _hinted(error: str) -> str:
    """With what people forget."""
    if _NO_OVERLOAD not in error.lower():
        return error
    return f"{error}; every number of a row is a double: write 2.0 where you reckon with it"


def _timed(must: str, facts: dict[str, Any]) -> tuple[float, Any]:
    began = perf_counter()
    value = cel.evaluate(must, facts)
    return perf_counter() - began, value


def _samples(facts: Facts, schema: ModelSchema) -> list[dict[str, Any]]:
    """Rows as they may come: numbers, texts, and each of both for what was decided."""
    known = {column.name: column for column in schema.columns}
    rows: list[dict[str, Any]] = []
    for number, text in ((1.0, "1"), (0.0, "")):
        for decided in (number, text):
            for unsure in (number, text):
                row: dict[str, Any] = {}
                for name in facts.columns:
                    column = known.get(name)
                    classes = column.categories if column else None
                    is_open = column is None or (column.kind == "categorical" and not classes)
                    row[name] = classes[0] if classes else unsure if is_open else number
                rows.append(_facts(row, facts.names, decided, 0.5))
    return rows


def _facts(row: Mapping[str, Any], names: frozenset[str], prediction: Any, score: Any) -> dict[str, Any]:
    told = {name: value for name, value in row.items() if name in names}
    return told | {PREDICTION: prediction, SCORE: score, COLUMNS: dict(row)}


@dataclass(frozen=True)
class Rulebook:
    """Conditions over one model's rows; each is looked at in all rows where numpy can, else in some."""

    facts: Facts
    rules: Mapping[str, str]
    """By name, in the order in which they are looked at."""

    @classmethod
    def of(cls, schema: ModelSchema, rules: Mapping[str, Rule]) -> "Rulebook":
        """Of an endpoint, for one version that it serves."""
        return cls(Facts.of(schema), {name: rule.must for name, rule in rules.items()})

    def look(self, columns: Columns, prediction: Array, score: Array | None, seconds: float) -> list[Looked]:
        """Each condition over rows. Those that go row by row share so much time; rows that it does not reach, evenly
        spread, are not looked at."""
        answers = {PREDICTION: prediction} | ({} if score is None else {SCORE: score})
        until, found = perf_counter() + seconds, list[Looked]()
        for must in self.rules.values():
            found.append(self._look(must, columns, answers, until))
        return found

    def by_row(self, must: str) -> bool:
        """Whether it is one that goes row by row."""
        try:
            return not columnar.is_columnar(cel.tree(must, self.facts.names))
        except cel.CelError:
            return False

    def _look(self, must: str, columns: Columns, answers: Columns, until: float) -> Looked:
        rows = len(answers[PREDICTION])
        try:
            tree = cel.tree(must, self.facts.names)
        except cel.CelError:  # set for another version, which had other columns
            every = np.ones(rows, bool)
            return Looked(every, ~every, every)
        known = {name: values for name, values in columns.items() if name not in self.facts.sensitive}
        if columnar.is_columnar(tree):
            try:
                truths = columnar.truths(tree, known, answers, rows)
                return Looked(np.ones(rows, bool), truths.false, ~(truths.true | truths.false))
            except columnar.NotColumnar:
                pass
        return _row_by_row(must, self._asked(tree, known, answers), rows, until)

    def _asked(self, tree: Tree, columns: Columns, answers: Columns) -> _Asked:
        """What it asks for, and nothing else: each value that CEL is given has its price."""
        variables = columnar.names_of(tree) & self.facts.names
        named = {name: {**columns, **answers}.get(name) for name in variables - {COLUMNS}}
        return named, {name: columns.get(name) for name in self.facts.columns} if COLUMNS in variables else None


def _row_by_row(must: str, asked: _Asked, rows: int, until: float) -> Looked:
    looked, broken, undecided = np.zeros((3, rows), bool)
    named, members = asked
    for at in np.random.default_rng(rows).permutation(rows).tolist():
        if perf_counter() > until:
            break
        facts = _values(named, at) | ({} if members is None else {COLUMNS: _values(members, at)})
        looked[at] = True
        try:
            broken[at] = not cel.holds(must, facts)
        except cel.CelError:
            undecided[at] = True
    return Looked(looked, broken, undecided)


def _values(arrays: Mapping[str, Array | None], at: int) -> dict[str, Any]:
    return {name: None if values is None else _value(values[at]) for name, values in arrays.items()}


def _value(value: Any) -> Any:
    """As CEL takes it; a missing number is null."""
    plain = value.item() if isinstance(value, np.generic) else value
    return None if plain != plain else plain
