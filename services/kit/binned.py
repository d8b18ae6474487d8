"""The arithmetic of columns that are cut into bins: normal scores, the index of stability, and pairs.

Pure. Who looks once and who looks again and again have intervals of their own over it (`effects.py`, the monitor).
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Index:
    """A population stability index, less its bias from small numbers (0.1 is small, 0.25 large by custom)."""

    size: float
    variance_of_live: float
    variance_of_before: float
    """Of the size, by the delta method: from new rows, and from the reference's."""

    def interval(self, error: float) -> tuple[float, float, float]:
        """Size, low and high."""
        return self.size, max(0.0, self.size - error), self.size + error


def stability(before: Array, live: Array) -> Index:
    """Of two rows of counts; nought where either has no rows, or all of them are in one bin."""
    here = (before + live) > 0
    if here.sum() < 2 or live.sum() == 0 or before.sum() == 0:
        return Index(0.0, 0.0, 0.0)
    q, p = ((counts[here] + 0.5) / (counts[here] + 0.5).sum() for counts in (before, live))
    logs = np.log(p / q)
    doubt = (len(p) - 1) * (1 / int(live.sum()) + 1 / int(before.sum()))
    size = max(0.0, float((p - q) @ logs) - doubt)
    now = _variance(p, logs + 1 - q / p) / int(live.sum()) + 2 * doubt**2 / (len(p) - 1)
    return Index(size, now, _variance(q, 1 - logs - p / q) / int(before.sum()))


def _variance(shares: Array, gradient: Array) -> float:
    return max(0.0, float(shares @ gradient**2 - (shares @ gradient) ** 2))


def normal_scores(counts: Array) -> Array:
    """The normal score of the mid-rank of each bin; an empty one at an end gets the score of half a row."""
    total = counts.sum()
    ranks = (np.cumsum(counts) - counts / 2 + 0.25) / (total + 0.5)
    return np.array([_NORMAL.inv_cdf(float(rank)) for rank in ranks])


def sheets(pairs: int, width: int) -> int:
    """How many sheets of this width so many pairs take."""
    return -(-pairs // (width // 3)) if pairs else 0


def packed(pairs: Array, width: int) -> Array:
    """Counts of pairs [pairs, 3] side by side on sheets [sheets, width], which add up as any counts do."""
    on_one = width // 3
    made = np.zeros((sheets(len(pairs), width), width), np.int64)
    flat = np.zeros((len(made) * on_one, 3), np.int64)
    flat[: len(pairs)] = pairs
    made[:, : 3 * on_one] = flat.reshape(len(made), 3 * on_one)
    return made


def unpacked(made: Array, pairs: int) -> Array:
    """The counts [pairs, 3] on such sheets."""
    on_one = made.shape[1] // 3
    return made[:, : 3 * on_one].reshape(-1, 3)[:pairs]
