"""Business rules: conditions in CEL that every decision must keep, over a model's columns and what it decided.

A rule is refused when it is set where it could never be evaluated, or where the log does not hold what it asks for.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from time import perf_counter
from typing import Any

from contracts import ModelSchema, Rule

from . import cel, cel_tree, columnar
from .cel_tree import Tree
from .columnar import COLUMNS
from .errors import Invalid

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

    def asked(self, tree: Tree) -> tuple[frozenset[str], tuple[str, ...] | None]:
        """The variables that an expression speaks of, and the members of `columns` where it speaks of that."""
        variables = frozenset(cel_tree.names(tree)) & self.names
        if COLUMNS not in variables:
            return variables, None
        members = cel_tree.members(tree, COLUMNS)
        whole = cel_tree.is_whole(tree, COLUMNS)
        return variables - {COLUMNS}, tuple(name for name in self.columns if whole or name in members)


def _is_variable(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and name not in _RESERVED | _TYPES and name not in _ANSWERS


def check_rules(rules: Mapping[str, Rule], schema: ModelSchema, where: str) -> None:
    """Raises Invalid naming the rule, as a member of `where`, that cannot be evaluated for decisions of this model."""
    facts = Facts.of(schema)
    for name, rule in rules.items():
        try:
            _check(rule.must, facts, schema, timed=True)
        except cel.CelError as error:
            raise Invalid(f"{where}.{name}.must: {error}", f"{where}.{name}.must") from None


def check_rule(must: str, schema: ModelSchema) -> None:
    """Refuse what cannot be evaluated for decisions of this model. Raises CelError that says why."""
    _check(must, Facts.of(schema), schema, timed=True)


def unfit(rules: Mapping[str, Rule], facts: Facts, schema: ModelSchema) -> dict[str, str]:
    """Why rules that were set cannot be evaluated for decisions of this model, by name; how long one takes was looked
    at when it was set."""
    found: dict[str, str] = {}
    for name, rule in rules.items():
        try:
            _check(rule.must, facts, schema, timed=False)
        except cel.CelError as error:
            found[name] = str(error)
    return found


def _check(must: str, facts: Facts, schema: ModelSchema, *, timed: bool) -> None:
    if len(must) > LENGTH_AT_MOST:
        raise cel.CelError(f"it has {len(must)} characters, and may have {LENGTH_AT_MOST}")
    try:
        tree = _known(must, facts)
    except cel.CelError as error:
        raise cel.CelError(f"{error}{_typed(must, facts)}") from None
    _check_samples(must, _samples(tree, facts, schema), timed=timed and not columnar.is_columnar(tree))


def _known(must: str, facts: Facts) -> Tree:
    """Raises CelError, which names the column that is sensitive, or the columns that there are."""
    try:
        tree = cel.tree(must, facts.names)
    except cel.CelError as error:
        everything = facts.names | {*filter(_is_variable, facts.sensitive)}
        try:
            asked = cel_tree.names(cel.tree(must, everything)) & facts.sensitive
        except cel.CelError:
            told = f"{error}; the columns are: {', '.join(facts.columns)[:300]}"
            raise cel.CelError(told if "undeclared" in str(error) else _hinted(str(error))) from None
        raise cel.CelError(_hidden(sorted(asked)[0])) from None
    for name in sorted(cel_tree.members(tree, COLUMNS) - {*facts.columns}):
        if name in facts.sensitive:
            raise cel.CelError(_hidden(name))
        raise cel.CelError(f"{name} is not a column; the columns are: {', '.join(facts.columns)[:300]}")
    if _TYPES & {*facts.columns} & cel_tree.names(tree):
        raise cel.CelError("a type is compared with a value")
    return tree


def _typed(must: str, facts: Facts) -> str:
    """What people forget who have a column that is called as a type is."""
    asked = sorted(_TYPES & {*facts.columns} & {*_NAME.findall(must)})
    return f"; {asked[0]} by itself is a type of CEL: the column is columns['{asked[0]}']" if asked else ""


def _hidden(name: str) -> str:
    return f"column {name} is sensitive: the log holds no value of it that a rule could look at"


def _check_samples(must: str, samples: Sequence[dict[str, Any]], *, timed: bool) -> None:
    """Some rows may have no truth for it, but not all that can be thought of."""
    values, refused = list[Any](), list[str]()
    for sample in samples:
        try:
            values.append(_timely(must, sample) if timed else cel.evaluate(must, sample))
        except (_TooLong, cel.CelTooMuch):
            raise
        except cel.CelError as error:
            refused.append(str(error))
    if values and not any(isinstance(value, bool) for value in values):
        raise cel.CelError(f"its value is {type(values[0]).__name__}, not true or false")
    if not values and all(_NO_OVERLOAD in each.lower() for each in refused):
        raise cel.CelError(_hinted(refused[0]))


def _hinted(error: str) -> str:
    """With what people forget."""
    if _NO_OVERLOAD not in error.lower():
        return error
    return f"{error}; every number of a row is a double: write 2.0 where you reckon with it"


class _TooLong(cel.CelError):
    """For one row."""


def _timely(must: str, facts: dict[str, Any]) -> Any:
    """Its value; it has some looks to be in time, since a machine may be busy. Raises CelError."""
    least = inf
    for _ in range(_LOOKS):
        began = perf_counter()
        value = cel.evaluate(must, facts)
        least = min(least, perf_counter() - began)
        if least <= SECONDS_AT_MOST:
            return value
    raise _TooLong(f"it takes {least * 1e3:.1f} ms for one row, and may take {SECONDS_AT_MOST * 1e3:g}")


def _samples(tree: Tree, facts: Facts, schema: ModelSchema) -> list[dict[str, Any]]:
    """What it asks for of rows as they may come: numbers, texts, and each of both for what was decided."""
    variables, members = facts.asked(tree)
    asked = variables.union(members or ())
    known = {column.name: column for column in schema.columns if column.name in asked}
    rows: list[dict[str, Any]] = []
    for number, text in ((1.0, "1"), (0.0, "")):
        for decided in (number, text):
            for unsure in (number, text):
                row: dict[str, Any] = {}
                for name in asked:
                    column = known.get(name)
                    classes = column.categories if column else None
                    is_open = column is None or (column.kind == "categorical" and not classes)
                    row[name] = classes[0] if classes else unsure if is_open else number
                named = {name: row[name] for name in variables} | _answers(variables, decided)
                rows.append(named if members is None else named | {COLUMNS: {name: row[name] for name in members}})
    return rows


def _answers(variables: frozenset[str], decided: Any) -> dict[str, Any]:
    return {name: value for name, value in ((PREDICTION, decided), (SCORE, 0.5)) if name in variables}
