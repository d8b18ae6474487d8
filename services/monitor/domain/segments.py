"""How far columns moved within each group of each segment: figures to look at; alarms are `grouped`.

The index of stability over ten bins, less its bias (`services.kit.binned`), of a group's live rows against the same
group's rows of the reference. All groups and columns are looked at together, so the doubt is shared out over them: with
99 % every interval of one answer holds (Bonferroni). Nothing is raised, so none of the budget of false alarms is spent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any

from numpy.typing import NDArray

from services.kit.binned import stability

from .outcomes.intervals import ALPHA, z_ever

Array = NDArray[Any]

LEAST_ROWS = 100
"""Of a group, live and in the reference: the index is asymptotic."""


@dataclass(frozen=True)
class Moved:
    """How far one column moved within a group: an index of stability with its interval."""

    column: str
    size: float
    low: float
    high: float


@dataclass(frozen=True)
class Group:
    """One group of a segment."""

    segment: str
    group: str
    rows: int
    reference_rows: int
    columns: tuple[Moved, ...]
    """The most surely moved first, then by size; empty where there are too few rows."""


def by_group(
    groups: Sequence[tuple[str, str]], columns: Sequence[str], before: Array, live: Array, alpha: float = ALPHA
) -> list[Group]:
    """Of counts [groups, columns, coarse bins] of the reference and of live rows. A segment's own column is left out:
    within a group it hardly can move."""
    each = alpha / max(1, len(groups) * len(columns))
    return [
        _group(segment, group, columns, before[place], live[place], each)
        for place, (segment, group) in enumerate(groups)
    ]


def _group(segment: str, group: str, columns: Sequence[str], before: Array, live: Array, alpha: float) -> Group:
    was, rows = (int(counts.sum(axis=1).max(initial=0)) for counts in (before, live))
    moved: list[Moved] = []
    if min(was, rows) >= LEAST_ROWS:
        of = [(name, place) for place, name in enumerate(columns) if name != segment]
        moved = [_moved(name, before[place], live[place], alpha) for name, place in of]
        moved.sort(key=lambda each: (-each.low, -each.size))
    return Group(segment, group, rows, was, tuple(moved))


def _moved(name: str, before: Array, live: Array, alpha: float) -> Moved:
    """Half of the doubt is the live rows', half the reference's, which is drawn once."""
    index = stability(before, live)
    error = z_ever(max(1, int(live.sum())), alpha / 2) * sqrt(index.variance_of_live)
    error += NormalDist().inv_cdf(1 - alpha / 4) * sqrt(index.variance_of_before)
    return Moved(name, *index.interval(error))
