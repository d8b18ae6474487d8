"""Shapley values of a prediction against background rows, where columns left out take a background row's values
(the interventional form): exact for trees and linear models and for few columns, else sampled. Pure.

Lundberg, Lee: A Unified Approach to Interpreting Model Predictions (NeurIPS 2017); Lundberg et al.: From local
explanations to global understanding with explainable AI for trees (2020), whose independent form is computed here over
the leaves' boxes; Castro, Gómez, Tejada: Polynomial calculation of the Shapley value based on sampling (2009), with
each order of columns walked both ways.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, product
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

Questions = Generator[Array, Array, "Shares"]
"""Asks for the model's values of rows [m, n], hears them [m], and ends with the answer."""

_EXACT_ROWS = 100_000
_ORDERS_AT_ONCE = 8


@dataclass(frozen=True)
class Shares:
    """What each column added to the mean over the background: they sum up to the value less that mean."""

    contributions: Array
    """[n]"""
    errors: Array | None
    """[n] standard errors; None where the contributions are exact."""


@dataclass(frozen=True)
class Forest:
    """Trees as their leaves: the box of each in the space of the columns, and what it adds."""

    low: Array
    high: Array
    """[leaves, n]: a value v gets there where low < v <= high in all columns."""
    missing: Array
    """[leaves, n]: whether a missing value does."""
    values: Array
    """[leaves]"""
    base: float

    def takes(self, row: Array) -> Array:
        """[leaves, n]: where the row [n] satisfies the leaf's bounds."""
        return np.where(np.isnan(row), self.missing, (self.low < row) & (row <= self.high))

    def value(self, row: Array) -> float:
        """What the trees say of a row [n]."""
        return self.base + float(self.values[self.takes(row).all(axis=1)].sum())


def of_forest(forest: Forest, row: Array, background: Array, known: Sequence[Array] | None = None) -> Shares:
    """Exact: for each background row, a leaf is a game won by having the columns that only the explained row brings
    there, and lost by those that only the background row does. `known`: what the forest takes of each of these."""
    own, total = forest.takes(row), np.zeros(len(row))
    gains, losses = _weights(len(row))
    for theirs in known or map(forest.takes, background):
        alive = (own | theirs).all(axis=1)
        for_it, against = own[alive] & ~theirs[alive], theirs[alive] & ~own[alive]
        u, v, values = for_it.sum(axis=1), against.sum(axis=1), forest.values[alive]
        total += (values * gains[u, v]) @ for_it - (values * losses[u, v]) @ against
    return Shares(total / len(background), None)


def _weights(n: int) -> tuple[Array, Array]:
    """(u-1)! v! / (u+v)! and u! (v-1)! / (u+v)!, by u and v; 0 where nobody is there to get it."""
    gains, losses = np.zeros((n + 1, n + 1)), np.zeros((n + 1, n + 1))
    for u, v in product(range(n + 1), range(n + 1)):
        if u + v <= n:
            gains[u, v] = factorial(u - 1) * factorial(v) / factorial(u + v) if u else 0.0
            losses[u, v] = factorial(u) * factorial(v - 1) / factorial(u + v) if v else 0.0
    return gains, losses


def of_linear(coefficients: Array, row: Array, background: Array) -> Shares:
    """Exact: a column adds its coefficient times its distance from the background's mean."""
    return Shares(coefficients * (row - background.mean(axis=0)), None)


def few(columns: int, background: int) -> bool:
    """Whether all subsets of the columns can be asked about."""
    return 2**columns * background <= _EXACT_ROWS


def of_subsets(row: Array, background: Array) -> Questions:
    """Exact for any model: every subset of the columns, over all background rows."""
    n = len(row)
    masks = np.array(list(product([False, True], repeat=n)), bool)
    mixed = np.where(masks[:, None, :], row, background[None, :, :])
    values = (yield mixed.reshape(-1, n)).reshape(len(masks), -1).mean(axis=1)
    sizes, shares = masks.sum(axis=1), np.zeros(n)
    weight = np.array([factorial(s) * factorial(n - s - 1) / factorial(n) if s < n else 0.0 for s in range(n + 1)])
    for column in range(n):
        without = np.flatnonzero(~masks[:, column])
        gained = values[without + (1 << (n - 1 - column))] - values[without]
        shares[column] = (weight[sizes[without]] * gained).sum()
    return Shares(shares, None)


@dataclass
class Sample:
    """Contributions as they become better known; stop when time is over."""

    columns: int
    rounds: int = 0
    total: Array | None = None
    squares: Array | None = None

    def shares(self) -> Shares:
        """What is known by now. Of one round nobody can tell the error: it counts as unbounded."""
        assert self.total is not None and self.squares is not None
        mean = self.total / self.rounds
        spread = np.maximum(self.squares / self.rounds - mean**2, 0)
        error = np.sqrt(spread / (self.rounds - 1)) if self.rounds > 1 else np.full(self.columns, np.inf)
        return Shares(mean, error)


def sampling(row: Array, background: Array, sample: Sample, seed: int) -> Generator[Array, Array, None]:
    """Without an end: each step asks about some orders of the columns, walked both ways from one background row.

    The rows take turns: after whole passes over them the contributions add up to the value less their mean.
    """
    random, n = np.random.default_rng(seed), len(row)
    turns = cycle(random.permutation(len(background)).tolist())
    sample.total, sample.squares = np.zeros(n), np.zeros(n)
    while True:
        orders = [random.permutation(n) for _ in range(_ORDERS_AT_ONCE)]
        others = background[list(islice(turns, _ORDERS_AT_ONCE))]
        walks = [walk for order, other in zip(orders, others, strict=True) for walk in _both_ways(row, other, order)]
        values = (yield np.concatenate(walks)).reshape(len(walks), n + 1)
        for place, order in enumerate(orders):
            forward, backward = np.diff(values[2 * place]), np.diff(values[2 * place + 1])
            gained = np.empty(n)
            gained[order] = (forward + backward[::-1]) / 2
            sample.total += gained
            sample.squares += gained**2
            sample.rounds += 1


def _both_ways(row: Array, other: Array, order: Array) -> tuple[Array, Array]:
    """The rows on the way from the background's to the explained one, one column more in each; and in reverse order."""
    place = np.empty(len(row), int)
    place[order] = np.arange(len(row))
    steps = np.arange(len(row) + 1)[:, None]
    return np.where(place < steps, row, other), np.where(place >= len(row) - steps, row, other)
