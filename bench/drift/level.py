"""The level at which a statistic passes falsely once in a budget of rows, by one procedure for all detectors.

How often stationary rows pass a level is counted at levels that they pass often enough to count, and falls from there
as an exponential does, as tails of sums and of logarithms of p-values do (Pickands, *Statistical inference using
extreme order statistics*, Annals of Statistics, 1975, with shape 0).
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_QUANTILES = (0.8, 0.85, 0.9, 0.95, 0.975)
LEAST_PASSED = 5


def line(levels: Array, rates: Array) -> tuple[float, float]:
    """The logarithm of how often level 0 is passed, and how much it changes for each level."""
    slope, start = np.polyfit(levels, np.log(rates), 1)
    return float(start), float(slope)


def extrapolated(levels: Array, rates: Array, budget_rows: float) -> float:
    """Of how often a row passes each level: a straight line through their logarithms, to one in the budget."""
    start, slope = line(levels, rates)
    return (-float(np.log(budget_rows)) - start) / slope


def of_pieces(strongest: Array, piece_rows: int, budget_rows: float) -> float:
    """Of the strongest statistic in each of many pieces of stationary rows."""
    levels = np.unique(np.quantile(strongest, _QUANTILES))
    rates = np.array([(strongest >= level).mean() for level in levels]) / piece_rows
    return extrapolated(levels, rates, budget_rows)
