"""A table of rules that people wrote: conditions in CEL over a row's columns, the first that holds decides.

columns: [income, age]         # in the order of the matrix; every value is a double, a missing one is null
rules:
  - {when: age < 18, decide: refuse}
  - {when: income != null && income / 12.0 > 4000.0, decide: grant}
otherwise: ask
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from services.kit import cel, plain_yaml

from . import Array, Unreadable

_MOST_RULES, _MOST_COLUMNS = 1000, 1000
_AT_ONCE = 16
"""Rules that are folded into one expression: each evaluation has its price, and so has its depth."""
_MEMBERS = {"columns", "rules", "otherwise"}


class RulesModel:
    """A decision table with one hit."""

    made_with = "rules in CEL"
    scores = False
    datatype = "FP64"
    takes_missing = True

    def __init__(self, names: Sequence[str], whens: Sequence[str], decisions: list[Any]) -> None:
        self.names = tuple(names)
        self.columns = len(names)
        self._whens = whens
        self._folds = [(at, _folded(whens[at : at + _AT_ONCE])) for at in range(0, len(whens), _AT_ONCE)]
        self._decisions, self.classes = _decided(decisions)

    def predict(self, matrix: Array) -> Array:
        if matrix.shape[1] != self.columns:
            raise ValueError(f"the rules speak of {self.columns} columns, not {matrix.shape[1]}")
        return self._decisions[[self._first(values) for values in matrix.tolist()]]

    def scored(self, matrix: Array) -> tuple[Array, Array]:
        raise NotImplementedError("rules decide; they have no probabilities")

    def _first(self, values: list[float]) -> int:
        """Which rule decides; -1 for none, which is the place of `otherwise`."""
        facts = {name: None if value != value else value for name, value in zip(self.names, values, strict=True)}
        for at, fold in self._folds:
            try:
                found = cel.evaluate(fold, facts)
            except cel.CelError:
                found = self._alone(at, facts)
            if found >= 0:
                return at + found
        return -1

    def _alone(self, at: int, facts: dict[str, Any]) -> int:
        """The same, rule by rule. Raises ValueError naming the rule that cannot be evaluated."""
        for number, when in enumerate(self._whens[at : at + _AT_ONCE]):
            try:
                if cel.holds(when, facts):
                    return number
            except cel.CelError as error:
                raise ValueError(f"rule {at + number + 1} cannot be evaluated over this row: {error}") from None
        return -1


def open_model(data: bytes) -> RulesModel:
    """The table in a YAML file. Raises Unreadable naming what is wrong."""
    try:
        said = plain_yaml.load(data)
    except plain_yaml.BadYaml as error:
        raise Unreadable(f"this is not readable YAML: {error}") from None
    if type(said) is not dict or set(said) != _MEMBERS:
        raise Unreadable(f"a table of rules has {', '.join(sorted(_MEMBERS))}, and nothing else")
    names, rules = said["columns"], said["rules"]
    if type(names) is not list or not 0 < len(names) <= _MOST_COLUMNS or any(type(name) is not str for name in names):
        raise Unreadable(f"columns: a list of 1 to {_MOST_COLUMNS} names is needed")
    if len(set(names)) != len(names):
        raise Unreadable("columns: one is named twice")
    if type(rules) is not list or not 0 < len(rules) <= _MOST_RULES:
        raise Unreadable(f"rules: a list of 1 to {_MOST_RULES} rules is needed")
    for number, rule in enumerate(rules, 1):
        _check(number, rule, frozenset(names))
    return RulesModel(names, [rule["when"] for rule in rules], [*(rule["decide"] for rule in rules), said["otherwise"]])


def _check(number: int, rule: object, names: frozenset[str]) -> None:
    if type(rule) is not dict or set(rule) != {"when", "decide"}:
        raise Unreadable(f"rule {number}: it has `when` and `decide`, and nothing else")
    if type(rule["when"]) is not str:
        raise Unreadable(f"rule {number}: `when` is a condition in CEL, as text")
    try:
        cel.check(rule["when"], names)
    except cel.CelError as error:
        raise Unreadable(f"rule {number}: {error}") from None


def _folded(whens: Sequence[str]) -> str:
    """The number of the first that holds, else -1, as one expression.

    Each compiles alone, so its brackets and texts are closed; a comment at its end is closed by a new line alone.
    """
    choices = "".join(f"({when}\n) ? {number} : " for number, when in enumerate(whens))
    return f"{choices}-1"


def _decided(decisions: list[Any]) -> tuple[Array, Array | None]:
    """What each rule decides, `otherwise` last, and the classes among it: none where they have a point."""
    kinds = {type(each) for each in decisions}
    if kinds <= {int, float} and float in kinds:
        return np.array(decisions, np.float64), None
    if kinds not in ({str}, {int}, {bool}):
        raise Unreadable("decide: all rules and `otherwise` must decide texts, or whole numbers, or numbers, or truths")
    if int in kinds and any(not -(2**63) <= each < 2**63 for each in decisions):
        raise Unreadable("decide: a number is beyond 64 bits")
    made = np.array(decisions, object if str in kinds else None)
    return made, np.array(sorted(set(decisions)), object if str in kinds else None)
