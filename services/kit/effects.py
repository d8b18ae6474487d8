"""How far counts of new rows are from a profile's, looked at once: sizes with intervals, for a file or a report.

The monitor looks again and again and has intervals that bear it; these are narrower, and hold at one look.
"""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .profiles import Binner

Array = NDArray[Any]
Z99 = 2.576
_NORMAL = NormalDist()


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
    before = binner.reference()
    found = [
        _moved(column.name, column.kind == "numeric", int(binner.sizes[place]), before[place], counts[place])
        for place, column in enumerate(binner.profile.columns)
    ]
    return sorted(found, key=lambda each: -abs(each.effect))


def _moved(name: str, numeric: bool, bins: int, before: Array, live: Array) -> Moved:
    shares = [float(row[bins] / max(row.sum(), 1)) for row in (live, before)]
    if numeric and (shifted := _shift(before[:bins], live[:bins])):
        return Moved(name, "location", *shifted, *shares)
    return Moved(name, "distribution", *stability_index(before[: bins + 2], live[: bins + 2]), *shares)


def _shift(before: Array, live: Array) -> tuple[float, float, float] | None:
    """The mean's shift of the normal scores of the reference's bins; None where there is no spread to measure by."""
    if before.sum() < 2 or live.sum() < 2:
        return None
    ranks = (np.cumsum(before) - before / 2 + 0.25) / (before.sum() + 0.5)
    scores = np.array([_NORMAL.inv_cdf(float(rank)) for rank in ranks])
    (was, spread), (now, live_spread) = (_moments(counts, scores) for counts in (before, live))
    if spread == 0:
        return None
    size = (now - was) / spread
    error = Z99 * sqrt((live_spread / spread) ** 2 / live.sum() + 1 / before.sum())
    return size, size - error, size + error


def _moments(counts: Array, scores: Array) -> tuple[float, float]:
    mean = float(counts @ scores / counts.sum())
    return mean, sqrt(max(float(counts @ (scores - mean) ** 2 / counts.sum()), 0.0))


def stability_index(before: Array, live: Array) -> tuple[float, float, float]:
    """PSI of two rows of counts, without its bias from small numbers, and its interval by the delta method."""
    here = (before + live) > 0
    if here.sum() < 2 or live.sum() == 0 or before.sum() == 0:
        return 0.0, 0.0, 0.0
    q, p = ((counts[here] + 0.5) / (counts[here] + 0.5).sum() for counts in (before, live))
    logs = np.log(p / q)
    doubt = (len(p) - 1) * (1 / int(live.sum()) + 1 / int(before.sum()))
    size = max(0.0, float((p - q) @ logs) - doubt)
    now = max(0.0, _variance(p, logs + 1 - q / p) / live.sum() + 2 * doubt**2 / (len(p) - 1))
    error = Z99 * sqrt(now + max(0.0, _variance(q, 1 - logs - p / q)) / before.sum())
    return size, max(0.0, size - error), size + error


def _variance(shares: Array, gradient: Array) -> float:
    return float(shares @ gradient**2 - (shares @ gradient) ** 2)
