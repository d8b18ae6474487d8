"""Bets on pairs of columns: that both are far out on the same side more often than they were, or more seldom.

A bettor is `exp(t * x)` of x = 1 on the same side, -1 on opposite ones, else 0: the same e-values as those of
`edetector.py`, of three classes.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_TILTS = np.array((-1.0, -0.4, 0.4, 1.0))
"""A correlation of 0.5 between columns that had none is worth most to 0.4, one of 0.8 to 1."""
BETTORS = len(_TILTS)


@dataclass(frozen=True)
class PairBets:
    """What the bettors hold; each array is [pairs, bettors]."""

    log_m: Array
    gain: Array
    """The CUSUM of the logarithms; its last zero is when a change began."""
    began: Array

    @classmethod
    def start(cls, pairs: int) -> "PairBets":
        """Before the first row."""
        shape = (pairs, BETTORS)
        return cls(np.full(shape, -np.inf), np.zeros(shape), np.zeros(shape))

    def observe(self, counts: Array, bag: Array, start_s: float) -> "PairBets":
        """After a block with counts [pairs, 3], which are in the bag [pairs, 3], too."""
        rows = counts.sum(axis=1, keepdims=True)
        opposite, neither, same = (bag / np.maximum(bag.sum(axis=1, keepdims=True), 1)).T[:, :, None]
        means = np.log(np.maximum(opposite * np.exp(-_TILTS) + neither + same * np.exp(_TILTS), 1e-300))
        won = (counts[:, 2] - counts[:, 0])[:, None] * _TILTS - rows * means
        with np.errstate(divide="ignore"):
            log_m = won + np.logaddexp(self.log_m, np.log(rows))
        began = np.where(self.gain <= 0, start_s, self.began)
        return PairBets(log_m, np.maximum(self.gain, 0) + won, began)

    def rows(self, on_one: int) -> Array:
        """How many pairs lie on each sheet."""
        return np.minimum(on_one, len(self.log_m) - np.arange(0, len(self.log_m), on_one))

    def by_sheet(self, on_one: int) -> tuple[Array, Array]:
        """With so many pairs on a sheet, by sheet: the logarithm of the mean of all M on it, and when the change began
        that its best bettor bets on."""
        starts, rows = np.arange(0, len(self.log_m), on_one), self.rows(on_one)
        tops = np.maximum(np.maximum.reduceat(self.log_m.max(axis=1), starts), -1e9)
        held = np.exp(self.log_m - np.repeat(tops, rows)[:, None]).sum(axis=1)
        with np.errstate(divide="ignore"):
            means = np.log(np.add.reduceat(held, starts) / (rows * BETTORS)) + tops
        cuts = np.cumsum(rows)[:-1]
        best = [int(np.argmax(each)) for each in np.split(self.gain, cuts)]
        return means, self.began.ravel()[starts * BETTORS + best]

    def renewed(self, some: slice) -> "PairBets":
        """Some pairs bet anew."""
        log_m, gain = self.log_m.copy(), self.gain.copy()
        log_m[some], gain[some] = -np.inf, 0.0
        return replace(self, log_m=log_m, gain=gain)
