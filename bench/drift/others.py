"""What others do over the same rows, each at a threshold that lets stationary rows pass as seldom as the budget says.

River's ADWIN (Bifet, Gavaldà 2007) and Page-Hinkley (Page 1954) watch every column by themselves; their thresholds are
the most sensitive ones of a list that stay silent over `CALIBRATED` stationary rows, which is kinder to them than the
budget. The test of Kolmogorov and Smirnov over windows of 1,000 rows, for classes that of chi squared, is what
Evidently and alibi-detect compute by default; its level is shared out by Bonferroni.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
from river.drift import ADWIN, PageHinkley
from scipy.stats import chi2_contingency, ks_2samp

from .streams import NUMBERS, Array

CALIBRATED, WINDOW = 100_000, 1_000


class Other(Protocol):
    """Sees the reference first, then rows in their order; tells the row of its first alarm."""

    def first_alarm(self, reference: Array, pieces: Iterable[tuple[int, Array]]) -> int | None: ...


class ByColumn:
    """One of river's detectors on every column."""

    def __init__(self, make: Callable[[], ADWIN | PageHinkley]) -> None:
        self._make = make

    def first_alarm(self, reference: Array, pieces: Iterable[tuple[int, Array]]) -> int | None:
        detectors = [self._make() for _ in range(reference.shape[1])]
        for row in reference.tolist():
            for detector, value in zip(detectors, row, strict=True):
                detector.update(value)
        for first, rows in pieces:
            for place, row in enumerate(rows.tolist()):
                for detector, value in zip(detectors, row, strict=True):
                    detector.update(value)
                    if detector.drift_detected:
                        return first + place + 1
        return None


class Windows:
    """Tests of whole windows against the reference, at a level for all columns and all windows together."""

    def __init__(self, budget_rows: int) -> None:
        self._level = WINDOW / budget_rows

    def first_alarm(self, reference: Array, pieces: Iterable[tuple[int, Array]]) -> int | None:
        level = self._level / reference.shape[1]
        for first, rows in pieces:
            for at in range(0, len(rows) - WINDOW + 1, WINDOW):
                if self._least(reference, rows[at : at + WINDOW]) < level:
                    return first + at + WINDOW
        return None

    def _least(self, reference: Array, window: Array) -> float:
        numbers = [float(ks_2samp(reference[:, i], window[:, i]).pvalue) for i in range(NUMBERS)]  # pyright: ignore[reportAttributeAccessIssue]
        return min(*numbers, *(_classes(reference[:, i], window[:, i]) for i in range(NUMBERS, reference.shape[1])))


def _classes(before: Array, after: Array) -> float:
    known = np.unique(np.concatenate([before, after]))
    counts = np.array([[(side == each).sum() for each in known] for side in (before, after)])
    return float(chi2_contingency(counts)[1]) if len(known) > 1 else 1.0  # pyright: ignore[reportArgumentType]


def calibrated(
    makes: Sequence[Callable[[], ADWIN | PageHinkley]], reference: Array, stationary: Sequence[tuple[int, Array]]
) -> ByColumn:
    """The first of some detectors, the most sensitive one first, that is silent over stationary rows; else the last."""
    for make in makes:
        found = ByColumn(make)
        if found.first_alarm(reference, stationary) is None:
            return found
    return ByColumn(makes[-1])


ADWINS = [lambda delta=delta: ADWIN(delta=delta) for delta in (2e-3, 2e-4, 2e-5, 2e-6, 2e-7, 2e-9)]
PAGE_HINKLEYS = [lambda most=most: PageHinkley(threshold=most, delta=0.05) for most in (50.0, 100.0, 200.0, 400.0)]
