"""Intervals that hold at all looks together: labels trickle in, and a figure is looked at after each.

Shares: Robbins, *Statistical methods related to the law of the iterated logarithm* (Annals of Mathematical Statistics
41, 1970). With a uniform mixture over the true share p, the chance that `C(n, k) p^k (1 - p)^(n - k)` is ever below
`alpha / (n + 1)` is at most alpha (Ville's inequality): exact, from the first row on, for independent rows.

Means: the normal-mixture boundary of Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, *Time-uniform central limit theory
and asymptotic confidence sequences* (Annals of Statistics 52, 2024): asymptotic, so it is not told of few rows.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import lgamma, log, sqrt

from .sums import Moments

ALPHA = 0.01
LEAST_ROWS = 30
"""Asymptotic intervals are not told of fewer rows."""
_TIGHT_AT = 1_000
"""The boundary of means is tightest after about so many rows; elsewhere it is valid, too."""
_STEPS = 48


@dataclass(frozen=True)
class Interval:
    """A figure and where it lies with 99 %, of so many rows."""

    value: float
    low: float
    high: float
    rows: int


@lru_cache(maxsize=8192)
def share(hits: int, rows: int, alpha: float = ALPHA) -> Interval:
    """So many hits among rows. Of no rows nothing is known: 0 to 1."""
    if rows == 0:
        return Interval(0.0, 0.0, 1.0, 0)
    level = _level(hits, rows, alpha)
    value = hits / rows
    low = 0.0 if hits == 0 else _edge(hits, rows, level, 0.0, value)
    high = 1.0 if hits == rows else _edge(hits, rows, level, 1.0, value)
    return Interval(value, low, high, rows)


def is_above(hits: int, rows: int, bound: float, alpha: float) -> bool:
    """Whether the interval of `share` begins above a bound; the bound is below the share itself. One step, not many."""
    return hits > 0 and (bound <= 0 or _likelihood(hits, rows, bound) < _level(hits, rows, alpha))


def _level(hits: int, rows: int, alpha: float) -> float:
    """Logarithm of the likelihood of a share, below which it is outside."""
    return log(alpha / (rows + 1)) - (lgamma(rows + 1) - lgamma(hits + 1) - lgamma(rows - hits + 1))


def _likelihood(hits: int, rows: int, share: float) -> float:
    return hits * log(share) + (rows - hits) * log(1 - share)


def _edge(hits: int, rows: int, level: float, outside: float, inside: float) -> float:
    """Between a share that is surely none and the likeliest one: where the likelihood reaches the level."""
    for _ in range(_STEPS):
        middle = (outside + inside) / 2
        likelihood = _likelihood(hits, rows, middle) if 0 < middle < 1 else level - 1
        if likelihood < level:
            outside = middle
        else:
            inside = middle
    return outside


def z_ever(rows: int, alpha: float = ALPHA) -> float:
    """How many standard errors a mean of `rows` rows may be away, at any look."""
    spent = -2 * log(alpha / 2)
    grown = rows * (spent + log(spent) + 1) / _TIGHT_AT
    return sqrt(2 * (grown + 1) / grown * log(sqrt(grown + 1) * 2 / alpha))


def mean(moments: Moments, power: int = 1, alpha: float = ALPHA) -> Interval | None:
    """Of a power of the numbers, whose double power is summed as well; None of too few rows, and of numbers so small
    that their variance is lost."""
    if moments.rows < LEAST_ROWS or moments.vanishes(2 * power):
        return None
    return about(moments.mean(power), moments.variance_of(power), moments.rows, alpha)


def about(value: float, variance: float, rows: int, alpha: float = ALPHA) -> Interval | None:
    """A mean of so many rows with the variance of one; None of too few rows."""
    if rows < LEAST_ROWS:
        return None
    error = z_ever(rows, alpha) * sqrt(max(0.0, variance) / rows)
    return Interval(value, value - error, value + error, rows)
