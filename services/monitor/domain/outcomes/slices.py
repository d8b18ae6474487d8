"""Where a model errs most: losses by group and by pair of groups, and the search for the worst of these slices.

As many slices as are looked at, so many chances to be misled. Here the doubt is shared out: each of the K slices that
a version's declaration allows (known before the first row) has intervals for its loss and for that of the rest, at
1 - alpha / K together and at all looks (`intervals`). So with probability 1 - alpha all of them hold, whenever somebody
looks, those of the slices that are named, too, although these were picked for being extreme. A slice is named where its
whole interval is above that of the rest: the chance that one is ever named that is no worse is at most alpha
(Bonferroni over confidence sequences; ADR 32).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from services.kit.groups import OTHER

from .intervals import ALPHA, LEAST_ROWS, Interval, about, is_above, share
from .labelled import Labelled, Meaning, Task
from .sums import BITS, fixed, real

LEAST_NUMBERS = 100
"""Intervals of numbers are asymptotic, and at the doubt of one slice they need more rows than at the whole of it."""

Slice = tuple[tuple[str, str], ...]
"""One segment and group, or two, in the order of the segments' names."""


@dataclass(slots=True)
class Loss:
    """Exact sums over some rows: of the losses and of their squares, in multiples of 2^-160 (`sums`)."""

    rows: int = 0
    total: int = 0
    square: int = 0

    def add(self, other: "Loss", sign: int = 1) -> None:
        """Count what the other one has counted, or (`sign` -1) take it out."""
        self.rows += sign * other.rows
        self.total += sign * other.total
        self.square += sign * other.square

    def without(self, other: "Loss") -> "Loss":
        """Of the rows that the other one does not have."""
        return Loss(self.rows - other.rows, self.total - other.total, self.square - other.square)

    @property
    def mean(self) -> float:
        """0 of no rows."""
        return real(self.total) / self.rows if self.rows else 0.0

    def may_be_above(self, bound: float, task: Task, alpha: float) -> bool:
        """Whether the interval can begin above a bound: a cheap look that spares most slices their intervals."""
        if task == "regression" or self.mean <= bound:
            return self.mean > bound
        return is_above(self.total >> BITS, self.rows, bound, alpha)

    def interval(self, task: Task, alpha: float) -> Interval | None:
        """Of an error rate exact; of a mean absolute error asymptotic, and None of too few rows."""
        if task != "regression":
            return share(self.total >> BITS, self.rows, alpha)
        if self.rows < LEAST_NUMBERS:
            return None
        found = about(self.mean, real(self.square) / self.rows - self.mean**2, self.rows, alpha)
        return found and replace(found, low=max(0.0, found.low))


@dataclass
class Losses:
    """Of the rows of one version: all of them, and by slice."""

    whole: Loss = field(default_factory=Loss)
    slices: dict[Slice, Loss] = field(default_factory=dict[Slice, Loss])

    def add(self, row: Labelled, sign: int = 1) -> None:
        """Count a row, or (`sign` -1) take one out that was counted. One without a label is not counted."""
        size = _size(row)
        if size is None:
            return
        one = Loss(1, fixed(size), fixed(size * size))
        self.whole.add(one, sign)
        for each in _slices_of(row):
            self._add(each, one, sign)

    def merge(self, other: "Losses") -> None:
        """Count what the other one has counted."""
        self.whole.add(other.whole)
        for each, loss in other.slices.items():
            self._add(each, loss)

    def _add(self, which: Slice, loss: Loss, sign: int = 1) -> None:
        known = self.slices.setdefault(which, Loss())
        known.add(loss, sign)
        if not known.rows:
            del self.slices[which]

    def to_json(self) -> dict[str, Any]:
        """As it is stored; sums as texts in base 16, since JSON has no such integers."""
        return {"w": _said(self.whole), "s": [[each, *_said(loss)] for each, loss in sorted(self.slices.items())]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Losses":
        """What `to_json` wrote."""
        slices = {tuple((s, g) for s, g in each): _read(*loss) for each, *loss in data["s"]}
        return cls(_read(*data["w"]), slices)


def _said(loss: Loss) -> tuple[int, str, str]:
    return loss.rows, f"{loss.total:x}", f"{loss.square:x}"


def _read(rows: int, total: str, square: str) -> Loss:
    return Loss(rows, int(total, 16), int(square, 16))


def _size(row: Labelled) -> float | None:
    """1 for a wrong class, else 0; of a number the size of its error; None where there is no label to compare with."""
    if isinstance(row.prediction, float) and isinstance(row.label, float):
        return abs(row.prediction - row.label)
    if isinstance(row.prediction, str) and isinstance(row.label, str):
        return float(row.prediction != row.label)
    return None


def _slices_of(row: Labelled) -> Iterator[Slice]:
    paired = sorted((row.paired or {}).items())
    for segment, _ in paired:
        yield ((segment, row.segments[segment]),)
    yield from combinations(paired, 2)


def possible(meaning: Meaning) -> int:
    """How many slices there can be: every group and every pair of groups of the segments that are searched."""
    sizes = [meaning.groupings[name].sizes for name in meaning.searched]
    return sum(alone for alone, _ in sizes) + sum(one * other for (_, one), (_, other) in combinations(sizes, 2))


@dataclass(frozen=True)
class Worse:
    """A slice whose loss is above that of all other rows."""

    where: Slice
    inside: Interval
    outside: Interval
    """Of all rows that are not in it."""
    like: int | None = None
    """The place, from 1, of the first slice before it that has a group in common: it may be bad for the same rows."""

    @property
    def difference(self) -> Interval:
        """How much larger its loss is."""
        inside, outside = self.inside, self.outside
        apart = inside.value - outside.value
        return Interval(apart, inside.low - outside.high, inside.high - outside.low, inside.rows)

    @property
    def excess(self) -> float:
        """Loss over its rows beyond what it would be at the rest's rate: of classes, so many more wrong decisions."""
        return self.difference.value * self.inside.rows


def worst(losses: Losses, task: Task, slices: int, alpha: float = ALPHA) -> tuple[list[Worse], int]:
    """The slices that are surely worse than the rest, the most surely bad first, and how many had rows enough.

    `slices` is how many there can be (`possible`), however many were seen. `OTHER` is no slice: which rows are in it
    says nothing of what they have in common.
    """
    each = alpha / max(1, slices) / 2
    found: list[Worse] = []
    enough = 0
    for where, inside in losses.slices.items():
        rest = losses.whole.without(inside)
        if min(inside.rows, rest.rows) < _least(task) or any(group == OTHER for _, group in where):
            continue
        enough += 1
        if not inside.may_be_above(rest.mean, task, each):
            continue
        one, other = inside.interval(task, each), rest.interval(task, each)
        if one and other and one.low > other.high:
            found.append(Worse(where, one, other))
    found.sort(key=lambda worse: (-worse.difference.low, worse.where))
    return [replace(one, like=_like(one, found[:place])) for place, one in enumerate(found)], enough


def _least(task: Task) -> int:
    return LEAST_NUMBERS if task == "regression" else LEAST_ROWS


def _like(one: Worse, before: list[Worse]) -> int | None:
    return next((place for place, other in enumerate(before, 1) if set(one.where) & set(other.where)), None)
