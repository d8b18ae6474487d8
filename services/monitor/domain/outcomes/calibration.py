"""What a score is worth by the labels that came: the chance that a row with it turns out a hit, with its uncertainty.

Logistic calibration (Platt, *Probabilistic outputs for support vector machines*, 1999) in which the correction of the
log-odds is piecewise linear in them and held towards none (a normal prior), so few labels correct little and say so.
The uncertainty is that of Laplace's approximation.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .decided import BINS
from .intervals import LEAST_ROWS
from .tally import FAR

Array = NDArray[Any]

LOG_ODDS = np.linspace(-FAR, FAR, BINS)
SCORES = 1 / (1 + np.exp(-LOG_ODDS))
"""In the middle of each bin."""
_KNOTS_AT_LEAST, _KNOTS_AT_MOST, _ROWS_A_KNOT = 2, 8, 50
"""Two from the first: scores that say too much or too little are the commonest fault, and one cannot tell of it."""
_PRIOR_SD = 3.0
"""Of the corrections, in log-odds: a factor of 20 is nothing unheard of."""
_STEPS, _LONGEST_STEP, _NEAR = 100, 2.0, 1e-9


@dataclass(frozen=True)
class Calibration:
    """Scores as they are, or as labels corrected them."""

    chances: Array
    """[BINS] That a row is a hit, by its score."""
    hats: Array
    """[BINS, knots] How much of each correction there is in a bin."""
    covariance: Array
    """[knots, knots] Of the corrections."""
    rows: int
    """Labelled ones behind it."""

    @property
    def calibrated(self) -> bool:
        """False: too few labels came; the scores are taken as they are."""
        return self.rows >= LEAST_ROWS

    @classmethod
    def of(cls, hits: Array, misses: Array) -> "Calibration":
        """From labelled rows [BINS] of each kind."""
        rows = int(hits.sum() + misses.sum())
        if rows < LEAST_ROWS:
            return cls(SCORES, np.zeros((BINS, 1)), np.zeros((1, 1)), rows)
        hats = _hats(hits + misses, min(int(hits.sum()), int(misses.sum())))
        corrections, covariance = _fitted(hats, hits, hits + misses)
        return cls(_chances(hats @ corrections), hats, covariance, rows)

    def variance(self, slopes: Array) -> float:
        """Of a figure, from what is not known of the chances; `slopes` [BINS] is what a row more of hits adds to it."""
        gradient = (slopes * self.chances * (1 - self.chances)) @ self.hats
        return float(gradient @ self.covariance @ gradient)


def _chances(corrections: Array) -> Array:
    return 1 / (1 + np.exp(-(LOG_ODDS + corrections)))


def _hats(rows: Array, rarer: int) -> Array:
    """Functions that are 1 at one knot and fall to 0 at the next; knots lie among the labelled scores."""
    count = min(_KNOTS_AT_MOST, _KNOTS_AT_LEAST + rarer // _ROWS_A_KNOT)
    reached = np.cumsum(rows) / rows.sum()
    places = np.unique(np.searchsorted(reached, np.linspace(0.02, 0.98, count)))
    if len(places) == 1:
        return np.ones((BINS, 1))
    knots = LOG_ODDS[places]
    return np.column_stack([np.interp(LOG_ODDS, knots, one) for one in np.eye(len(knots))])


def _fitted(hats: Array, hits: Array, rows: Array) -> tuple[Array, Array]:
    """The likeliest corrections by Newton's method, and their covariance. The problem is strictly concave."""
    prior = np.eye(hats.shape[1]) / _PRIOR_SD**2
    corrections = np.zeros(hats.shape[1])
    information = prior
    for _ in range(_STEPS):
        chances = _chances(hats @ corrections)
        information = (hats.T * (rows * chances * (1 - chances))) @ hats + prior
        step = np.linalg.solve(information, hats.T @ (hits - rows * chances) - prior @ corrections)
        corrections = corrections + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
        if np.abs(step).max() < _NEAR:
            break
    return corrections, np.linalg.inv(information)
