"""River's detectors and tests of windows over the same rows, each at a level that is passed falsely once in the budget.

River's ADWIN (Bifet, Gavalda 2007), Page-Hinkley (Page 1954) and KSWIN (Raab, Heusinger, Schleif 2020) watch every
column by themselves, standardised as the reference says. Page-Hinkley is told to look for half a standard deviation,
which is what the streams move by, and to forget nothing: its default pulls the sums back until they mean nothing.
KSWIN is run twice, over river's default of 100 values and over 2,000. The test of Kolmogorov and Smirnov over windows
of 1,000 rows, for classes that of chi squared, is what Evidently and alibi-detect compute by default.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import exp
from typing import Protocol

import numpy as np
from river.drift import ADWIN, KSWIN, PageHinkley
from scipy.stats import chi2_contingency, ks_2samp

from . import level
from .streams import NUMBERS, Array, Stream

WINDOW, PIECE = 1_000, 1_000
_FAR_AWAY = 10**9


class Detector(Protocol):
    @property
    def drift_detected(self) -> bool: ...
    def update(self, x: float) -> object: ...


@dataclass(frozen=True)
class ByColumn:
    """One of river's detectors on every column; the higher its level, the less it alarms."""

    name: str
    make: Callable[[float], Detector]
    levels: tuple[float, ...]
    """That stationary rows pass often enough to count."""
    calm_streams: int
    columns: int = NUMBERS + 2
    """Of those that have one distribution; the level is that of 31 columns."""
    slow: bool = False
    """It forgets all but its window, so that a few rows before a change are enough."""

    @property
    def rows_before(self) -> int:
        return 200 if self.slow else 10_000

    def level(self, calm: Sequence[tuple[Array, Array]], budget_rows: int) -> float:
        """Of stationary streams: reference and rows."""
        alarms, seen = np.zeros(len(self.levels)), 0
        for reference, rows in calm[: self.calm_streams]:
            for column in range(self.columns):
                values = _standard(reference, rows, column)
                seen += len(values)
                for place, each in enumerate(self.levels):
                    alarms[place] += sum(1 for _ in _alarms(self.make(each), values))
        known = alarms >= level.LEAST_PASSED
        return level.extrapolated(np.array(self.levels)[known], alarms[known] / seen, budget_rows * (NUMBERS + 2))

    def first_alarm(self, at: float, reference: Array, rows: Array, columns: Sequence[int]) -> int | None:
        """The number of rows that were seen at the first alarm of any of some columns."""
        first = _FAR_AWAY
        for column in columns:
            detector = self.make(at)
            before, now = np.split(_standard(reference, np.concatenate([reference, rows]), column), [len(reference)])
            for value in before[-2_000 if self.slow else 0 :].tolist():
                detector.update(value)
            first = min(first, next(_alarms(detector, now[:first]), first))
        return None if first == _FAR_AWAY else first


def _standard(reference: Array, rows: Array, column: int) -> Array:
    return (rows[:, column] - reference[:, column].mean()) / max(reference[:, column].std(), 1e-9)


def _alarms(detector: Detector, values: Array) -> Iterator[int]:
    """How many values were seen at each alarm."""
    for number, value in enumerate(values.tolist(), 1):
        detector.update(value)
        if detector.drift_detected:
            yield number


RIVER = (
    ByColumn("river ADWIN", lambda at: ADWIN(delta=exp(-at)), (2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0), 20),
    ByColumn(
        "river Page-Hinkley", lambda at: PageHinkley(delta=0.25, threshold=at, alpha=1.0), (8.0, 10.0, 12.0, 14.0), 10
    ),
    ByColumn("river KSWIN", lambda at: KSWIN(alpha=exp(-at), seed=1), (5.0, 6.0, 7.0, 8.0), 1, 2, slow=True),
    ByColumn(
        "river KSWIN, 2,000 values",
        lambda at: KSWIN(alpha=exp(-at), window_size=2_000, stat_size=500, seed=1), (4.0, 5.0, 6.0, 7.0), 1, 2,
        slow=True,
    ),
)  # fmt: skip


def windows(reference: Array, rows: Array) -> Array:
    """Of each window of 1,000 rows minus the logarithm of the least p over all columns."""
    cuts = (rows[at : at + WINDOW] for at in range(0, len(rows) - WINDOW + 1, WINDOW))
    return np.array([-np.log(max(_least(reference, cut), 1e-300)) for cut in cuts])


def _least(reference: Array, window: Array) -> float:
    numbers = [float(ks_2samp(reference[:, i], window[:, i]).pvalue) for i in range(NUMBERS)]  # pyright: ignore[reportAttributeAccessIssue]
    return min(*numbers, *(_classes(reference[:, i], window[:, i]) for i in range(NUMBERS, reference.shape[1])))


def _classes(before: Array, after: Array) -> float:
    known = np.unique(np.concatenate([before, after]))
    counts = np.array([[(side == each).sum() for each in known] for side in (before, after)])
    return float(chi2_contingency(counts)[1]) if len(known) > 1 else 1.0  # pyright: ignore[reportArgumentType]


def calm(count: int, rows: int = 10_000) -> list[tuple[Array, Array]]:
    """Stationary streams, half of them with correlated columns, of seeds that no measured stream has."""
    made = [Stream("none", 1_000 + seed, (0.0, 0.35)[seed % 2]) for seed in range(count)]
    return [(stream.trained_on(), stream.rows(-rows, rows)) for stream in made]
