"""How far counts of new rows are from a profile's, looked at once: sizes with intervals, for a file or a report.

The monitor looks again and again and has intervals that bear it; these are narrower, and hold at one look.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

from numpy.typing import NDArray

from .binned import normal_scores, stability
from .profiles import Binner

Array = NDArray[Any]
Z99 = 2.576


@dataclass(frozen=True)
class Moved:
    """One column's change: `location` in standard deviations of its normal scores, `distribution` as a population
    stability index (0.1 is small, 0.25 large by custom)."""

    name: str
    measure: Literal["location", "distribution"]
    effect: float
    low: float
    high: float
    missing: float
    """The share of missing values among the new rows; before, `missing_before`."""
    missing_before: float


def moved(binner: Binner, counts: Array) -> list[Moved]:
    """Of each watched column of a profile, by counts [tracks, width] of new rows. The one that moved most is first."""
    before = binner.reference
    found = [
        _moved(name, kind == "numeric", int(binner.sizes[place]), before[place], counts[place])
        for place, (name, kind) in enumerate(zip(binner.names, binner.kinds, strict=True))
    ]
    return sorted(found, key=lambda each: -abs(each.effect))


def _moved(name: str, numeric: bool, bins: int, before: Array, live: Array) -> Moved:
    shares = [float(row[bins] / max(row.sum(), 1)) for row in (live, before)]
    if numeric and (shifted := _shift(before[:bins], live[:bins])):
        return Moved(name, "location", *shifted, *shares)
    index = stability(before[: bins + 2], live[: bins + 2])
    error = Z99 * sqrt(index.variance_of_live + index.variance_of_before)
    return Moved(name, "distribution", *index.interval(error), *shares)


def _shift(before: Array, live: Array) -> tuple[float, float, float] | None:
    """The mean's shift of the normal scores of the reference's bins; None where there is no spread to measure by."""
    if before.sum() < 2 or live.sum() < 2:
        return None
    scores = normal_scores(before)
    (was, spread), (now, live_spread) = (_moments(counts, scores) for counts in (before, live))
    if spread == 0:
        return None
    size = (now - was) / spread
    error = Z99 * sqrt((live_spread / spread) ** 2 / live.sum() + 1 / before.sum())
    return size, size - error, size + error


def _moments(counts: Array, scores: Array) -> tuple[float, float]:
    mean = float(counts @ scores / counts.sum())
    return mean, sqrt(max(float(counts @ (scores - mean) ** 2 / counts.sum()), 0.0))
