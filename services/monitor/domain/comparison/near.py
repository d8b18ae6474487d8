"""How near two numbers of the same row are: sums over all rows at once, which merge."""

from dataclasses import dataclass, field
from math import exp2, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..outcomes.sums import LARGEST

Array = NDArray[Any]

_FINE = 8
"""Sizes are counted in so many buckets for each doubling: a quantile is told to 4.4 percent."""
_FAR = 60 * _FINE
_NONE = -_FAR - 1
"""The bucket of rows without any difference."""


@dataclass
class Spread:
    """Mean and spread of some numbers (Chan, Golub, LeVeque, *Updating formulae and a pairwise algorithm for computing
    sample variances*, 1979)."""

    rows: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Of the distances from the mean."""

    @classmethod
    def of(cls, values: Array) -> "Spread":
        """Of finite numbers."""
        if not len(values):
            return cls()
        mean = float(values.mean())
        return cls(len(values), mean, float(((values - mean) ** 2).sum()))

    @property
    def variance(self) -> float:
        """Of one number; 0 of none."""
        return self.squares / self.rows if self.rows else 0.0

    def merge(self, other: "Spread") -> None:
        """Count what the other one has counted."""
        rows = self.rows + other.rows
        if not other.rows:
            return
        away = other.mean - self.mean
        self.squares += other.squares + away * away * self.rows * other.rows / rows
        self.mean += away * other.rows / rows
        self.rows = rows

    def to_json(self) -> list[float]:
        """As it is stored."""
        return [self.rows, self.mean, self.squares]

    @classmethod
    def from_json(cls, data: list[float]) -> "Spread":
        """What `to_json` wrote."""
        return cls(int(data[0]), float(data[1]), float(data[2]))


@dataclass
class Near:
    """Of rows that have both numbers: what callers were told, what the other version said, the difference (said less
    told) and its size."""

    told: Spread = field(default_factory=Spread)
    said: Spread = field(default_factory=Spread)
    difference: Spread = field(default_factory=Spread)
    size: Spread = field(default_factory=Spread)
    sizes: dict[int, int] = field(default_factory=dict[int, int])
    """Rows by bucket of the size."""

    @classmethod
    def of(cls, told: Array, said: Array) -> "Near":
        """Of numbers that `known` lets pass."""
        difference = said - told
        size = np.abs(difference)
        places, rows = np.unique(_buckets(size), return_counts=True)
        sizes = dict(zip(places.tolist(), rows.tolist(), strict=True))
        return cls(Spread.of(told), Spread.of(said), Spread.of(difference), Spread.of(size), sizes)

    @property
    def rows(self) -> int:
        """That have both numbers."""
        return self.difference.rows

    @property
    def correlation(self) -> float | None:
        """Pearson's; None where one of both never changes."""
        squares = self.told.squares * self.said.squares
        if squares <= 0:
            return None
        both = (self.told.squares + self.said.squares - self.difference.squares) / 2
        return max(-1.0, min(1.0, both / sqrt(squares)))

    def size_quantile(self, q: float) -> float:
        """Of the size of the difference; 0 of no rows."""
        reached = 0
        for place in sorted(self.sizes):
            reached += self.sizes[place]
            if reached >= q * self.rows:
                return 0.0 if place == _NONE else exp2((place + 0.5) / _FINE)
        return 0.0

    def merge(self, other: "Near") -> None:
        """Count what the other one has counted."""
        for mine, theirs in zip(self._spreads, other._spreads, strict=True):
            mine.merge(theirs)
        for place, rows in other.sizes.items():
            self.sizes[place] = self.sizes.get(place, 0) + rows

    @property
    def _spreads(self) -> tuple[Spread, ...]:
        return self.told, self.said, self.difference, self.size

    def to_json(self) -> list[Any]:
        """As it is stored."""
        return [*(each.to_json() for each in self._spreads), sorted(self.sizes.items())]

    @classmethod
    def from_json(cls, data: list[Any]) -> "Near":
        """What `to_json` wrote."""
        told, said, difference, size = map(Spread.from_json, data[:4])
        return cls(told, said, difference, size, dict(data[4]))


def known(told: Array, said: Array) -> Array:
    """Of which rows both numbers can be counted."""
    with np.errstate(invalid="ignore"):
        return (np.abs(told) <= LARGEST) & (np.abs(said) <= LARGEST)


def _buckets(size: Array) -> Array:
    with np.errstate(divide="ignore"):
        places = np.floor(np.log2(size) * _FINE)
    return np.where(size == 0, _NONE, np.clip(places, -_FAR, _FAR)).astype(np.int64)
