"""The nearest rows that would have been decided otherwise: the fewest columns changed, to values that were really seen.

Wachter, Mittelstadt, Russell: Counterfactual Explanations without Opening the Black Box (2017); as candidates, rows of
the package that the model decides otherwise (nearest unlike neighbours: Keane, Smyth 2020). Pure.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_NEIGHBOURS = 10
_FAR = 3.0
"""Steps beyond which a column makes a row no farther."""


@dataclass(frozen=True)
class Change:
    """A row that is decided otherwise."""

    row: Array
    changed: tuple[int, ...]
    """The columns in which it differs."""


@dataclass(frozen=True)
class Steps:
    """How far values of a column are from one another."""

    scale: Array
    """[n]: what counts as one step of a number."""
    classes: Array
    """[n]: whether a column's numbers stand for classes, of which each is one step from each other."""

    @classmethod
    def of(cls, rows: Array, classes: Array) -> "Steps":
        """By the spread of rows [m, n]."""
        with np.errstate(invalid="ignore"):
            spread = np.nanstd(rows, axis=0)
        return cls(np.where(spread > 0, spread, 1.0), classes)

    def between(self, row: Array, others: Array) -> Array:
        """From a row [n] to others [..., n], by column; a value is far from none."""
        apart = np.where(self.classes, others != row, np.abs(others - row) / self.scale)
        missing = np.isnan(others).astype(int) + np.isnan(row)
        return np.where(missing == 0, apart, np.where(missing == 1, _FAR, 0.0))


Asking = Generator[Array, Array, Change | None]
"""Asks of rows [m, n] whether they are decided otherwise, hears [m] booleans, ends with the change, if there is one."""


def search(
    row: Array, others: Array, mutable: Array, steps: Steps, weight: Array, known: list[Change] | None = None
) -> Asking:  # fmt: skip
    """`known`: hears of each change as soon as it is known, the best so far last: for who must stop before the end.

    `others` [m, n]: rows that are decided otherwise. `mutable` [n]: what may change; `weight` [n]: how much each
    column had to do with the decision: those are changed first.

    A missing value is never proposed: nobody can be advised to have none.
    """
    known = [] if known is None else known
    near = _nearest(row, others, mutable, steps)
    differs = [np.flatnonzero(mutable & ~_same(row, other) & ~np.isnan(other)) for other in near]
    ways = [
        _way(row, other, columns[np.argsort(-weight[columns])]) for other, columns in zip(near, differs, strict=True)
    ]
    ways = [way for way in ways if len(way)]
    if not ways:
        return None
    flips = yield np.concatenate(ways)
    turned: list[Array] = []
    for way in ways:
        own, flips = flips[: len(way)], flips[len(way) :]
        if own.any():
            turned.append(way[int(np.argmax(own))])

    def far(change: Change) -> tuple[int, float]:
        return len(change.changed), float(steps.between(row, change.row).sum())

    def hear(changed: Array) -> None:
        change = Change(changed, tuple(map(int, np.flatnonzero(~_same(row, changed)))))
        if not known or far(change) < far(known[-1]):
            known.append(change)

    for each in turned:
        hear(each)
    for each in turned:
        yield from _pruned(row, each, hear)
    return known[-1] if known else None


def _nearest(row: Array, others: Array, mutable: Array, steps: Steps) -> Array:
    apart = np.where(mutable, np.minimum(steps.between(row, others), _FAR), 0.0)
    return others[np.argsort(apart.sum(axis=1), kind="stable")[:_NEIGHBOURS]]


def _same(one: Array, other: Array) -> Array:
    return (one == other) | (np.isnan(one) & np.isnan(other))


def _way(row: Array, other: Array, columns: Array) -> Array:
    """From the row towards the other, one more column changed at each step: [steps, n]."""
    steps = np.repeat(row[None, :], len(columns), axis=0)
    for place, column in enumerate(columns):
        steps[place:, column] = other[column]
    return steps


def _pruned(row: Array, changed: Array, hear: Callable[[Array], None]) -> Generator[Array, Array, None]:
    """Take changes back as long as the decision stays the other one; whoever hears is told of each such row."""
    while len(columns := np.flatnonzero(~_same(row, changed))) > 1:
        tries = np.repeat(changed[None, :], len(columns), axis=0)
        tries[np.arange(len(columns)), columns] = row[columns]
        flips = yield tries
        if not flips.any():
            return
        changed = tries[int(np.argmax(flips))]
        hear(changed)
