"""Business rules over the rows of one model: each is looked at in all rows where numpy can, else in as many as there is
time for; where neither would end in time, in rows that are evenly spread."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts import Rule

from . import cel, columnar
from .cel_tree import Tree
from .columnar import COLUMNS
from .rules import PREDICTION, SCORE, Facts

Array = NDArray[Any]
Columns = Mapping[str, Array]
_Asked = tuple[Mapping[str, Array | None], Mapping[str, Array | None] | None]
"""Variables, and the members of `columns` where it speaks of them; None for a column that these rows do not have."""

COMPARISONS_AT_MOST = 50_000_000
"""Of all rules that are looked at in whole columns, for rows that come at once: about a quarter of a second."""
ROWS_AT_LEAST = 20
"""That are looked at row by row, whatever time is left: no rule waits for another one."""


@dataclass(frozen=True)
class Looked:
    """What rows were looked at for one rule, and which of them broke it; masks [rows]."""

    looked: Array
    broken: Array
    undecided: Array
    """Rows for which it has no truth: a value is missing, or of another kind."""


@dataclass(frozen=True)
class _Plan:
    tree: Tree
    comparisons: int | None
    """A row, in whole columns; none of a rule that goes row by row."""


@lru_cache(maxsize=1024)
def _plan(must: str, names: frozenset[str]) -> _Plan | None:
    """None of what was set for another version, which had other columns."""
    try:
        tree = cel.tree(must, names)
    except cel.CelError:
        return None
    return _Plan(tree, columnar.comparisons(tree) if columnar.is_columnar(tree) else None)


@dataclass(frozen=True)
class Rulebook:
    """Conditions over one model's rows."""

    facts: Facts
    rules: Mapping[str, str]
    """By name, in the order in which they were set."""

    @classmethod
    def of(cls, facts: Facts, rules: Mapping[str, Rule]) -> "Rulebook":
        """Of an endpoint, for one version that it serves: `facts` are of its schema."""
        return cls(facts, {name: rule.must for name, rule in rules.items()})

    def by_row(self, must: str) -> bool:
        """Whether it is one that goes row by row."""
        plan = _plan(must, self.facts.names)
        return plan is not None and plan.comparisons is None

    def look(
        self, columns: Columns, prediction: Array, score: Array | None, seconds: float,
        comparisons: int = COMPARISONS_AT_MOST,
    ) -> list[Looked]:  # fmt: skip
        """Each condition over rows. Those that are looked at in whole columns share so many comparisons, those that go
        row by row so much time; rows that they do not reach, evenly spread, are not looked at."""
        answers = {PREDICTION: prediction} | ({} if score is None else {SCORE: score})
        known = {name: values for name, values in columns.items() if name not in self.facts.sensitive}
        look = _Look(self.facts, known, answers, len(prediction))
        plans = {name: _plan(must, self.facts.names) for name, must in self.rules.items()}
        found = {name: look.nothing() for name, plan in plans.items() if plan is None}
        found |= look.whole({name: plan for name, plan in plans.items() if plan}, comparisons)
        left = {
            name: (must, plan.tree) for name, must in self.rules.items() if name not in found and (plan := plans[name])
        }
        found |= look.by_row(left, seconds)
        return [found[name] for name in self.rules]


@dataclass(frozen=True)
class _Some:
    """Rows to look at in whole columns, so many; their places where they are not all."""

    cells: columnar.Cells
    many: int
    places: Array | None = None


class _Look:
    """At rows, for several rules."""

    def __init__(self, facts: Facts, columns: Columns, answers: Columns, rows: int) -> None:
        self._facts, self._columns, self._answers, self._rows = facts, columns, answers, rows
        self._order: Array | None = None

    def nothing(self) -> Looked:
        """No row has what is asked for."""
        every = np.ones(self._rows, bool)
        return Looked(every, ~every, every)

    def whole(self, plans: Mapping[str, _Plan], comparisons: int) -> dict[str, Looked]:
        """Rules that can be looked at so over these rows. The cheapest come first, and what one does not need is for
        those that come after it, so that few rows are left out, of the dearest."""
        prices = sorted((plan.comparisons, name) for name, plan in plans.items() if plan.comparisons is not None)
        some, left, found = _Some(self._every(), self._rows), comparisons, dict[str, Looked]()
        for place, (price, name) in enumerate(prices):
            many = min(self._rows, max(ROWS_AT_LEAST, left // (len(prices) - place) // price))
            if many < some.many:  # the next rule has as many mostly, and reads no column again
                some = self._first(many)
            try:
                found[name] = self._in_columns(plans[name].tree, some)
            except columnar.NotColumnar:
                continue
            left -= some.many * price
        return found

    def _every(self) -> columnar.Cells:
        return columnar.Cells(self._columns, self._answers)

    def _first(self, many: int) -> "_Some":
        places = np.sort(self._drawn()[:many])
        return _Some(self._every().at(places), many, places)

    def _in_columns(self, tree: Tree, some: "_Some") -> Looked:
        truths = columnar.truths(tree, some.cells, some.many)
        if some.places is None:
            return Looked(np.ones(self._rows, bool), truths.false, ~(truths.true | truths.false))
        looked, broken, undecided = np.zeros((3, self._rows), bool)
        looked[some.places], broken[some.places] = True, truths.false
        undecided[some.places] = ~(truths.true | truths.false)
        return Looked(looked, broken, undecided)

    def by_row(self, rules: Mapping[str, tuple[str, Tree]], seconds: float) -> dict[str, Looked]:
        """Each has the time that is left, divided by the rules that are left."""
        end, found = perf_counter() + seconds, dict[str, Looked]()
        for place, (name, (must, tree)) in enumerate(rules.items()):
            now = perf_counter()
            until = now + max(0.0, end - now) / (len(rules) - place)
            found[name] = self._row_by_row(must, self._asked(tree), until)
        return found

    def _row_by_row(self, must: str, asked: _Asked, until: float) -> Looked:
        looked, broken, undecided = np.zeros((3, self._rows), bool)
        named, members = asked
        for many, place in enumerate(self._drawn()):
            if many >= ROWS_AT_LEAST and perf_counter() > until:
                break
            at = int(place)
            facts = _values(named, at) | ({} if members is None else {COLUMNS: _values(members, at)})
            looked[at] = True
            try:
                broken[at] = not cel.holds(must, facts)
            except cel.CelError:
                undecided[at] = True
        return Looked(looked, broken, undecided)

    def _asked(self, tree: Tree) -> _Asked:
        """What it asks for, and nothing else: each value that CEL is given has its price."""
        variables, members = self._facts.asked(tree)
        everything = {**self._columns, **self._answers}
        named = {name: everything.get(name) for name in variables}
        return named, None if members is None else {name: self._columns.get(name) for name in members}

    def _drawn(self) -> Array:
        """All rows, in an order of which any beginning is evenly spread."""
        if self._order is None:
            self._order = np.random.default_rng(self._rows).permutation(self._rows)
        return self._order


def _values(arrays: Mapping[str, Array | None], at: int) -> dict[str, Any]:
    return {name: None if values is None else _value(values[at]) for name, values in arrays.items()}


def _value(value: Any) -> Any:
    """As CEL takes it; a missing number is null."""
    plain = value.item() if isinstance(value, np.generic) else value
    return None if plain != plain else plain
