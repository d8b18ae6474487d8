"""Sums that any order and any split of the rows make the same, and that a row can be taken out of again.

Floating-point sums depend on their order, and what is subtracted leaves a residue. Here a number is a whole multiple of
2^-160, rounded once, and the sums are integers.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from math import ldexp

BITS = 160
LARGEST = 1e60
"""Beyond it, in size, a number is not counted: its fourth power would be none."""
_ONE = 1 << BITS
_DIGITS = 20
"""Binary ones, that a variance shall have."""


def fixed(value: float) -> int:
    """A finite number as a multiple of 2^-160."""
    return int(ldexp(value, BITS))


def real(total: int) -> float:
    """A sum as a number."""
    return total / _ONE


@dataclass
class Moments:
    """Of so many numbers the sums of their first powers."""

    powers: int
    rows: int = 0
    sums: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        self.sums = self.sums or [0] * self.powers

    def add(self, value: float, sign: int = 1) -> None:
        """Count a number, or (`sign` -1) take one out that was counted."""
        self.rows += sign
        one = power = fixed(value)
        for place in range(self.powers):
            self.sums[place] += sign * power
            power = power * one >> BITS  # as a float it would have lost what a variance is made of

    def merge(self, other: "Moments") -> None:
        """Count what the other one has counted."""
        self.rows += other.rows
        self.sums = [one + two for one, two in zip(self.sums, other.sums, strict=True)]

    def mean(self, power: int = 1) -> float:
        """Of that power of the numbers; 0 of none."""
        return real(self.sums[power - 1]) / self.rows if self.rows else 0.0

    @property
    def variance(self) -> float:
        """Of the numbers, about their mean."""
        return self.variance_of(1)

    def variance_of(self, power: int) -> float:
        """Of that power of the numbers, whose double power is summed as well."""
        if self.rows < 2:
            return 0.0
        first, second = self.sums[power - 1], self.sums[2 * power - 1]
        return max(0.0, real(second - first * first // (_ONE * self.rows)) / self.rows)

    @property
    def fourth(self) -> float:
        """The mean fourth power of the numbers' distances from their mean."""
        if not self.rows:
            return 0.0
        m1, m2, m3, m4 = (Fraction(each, _ONE * self.rows) for each in self.sums[:4])
        return max(0.0, float(m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4))

    def vanishes(self, power: int) -> bool:
        """Whether that power of the numbers, though not nought, is too small for these sums to hold many digits of."""
        return any(self.sums) and self.sums[power - 1] < self.rows << _DIGITS

    def to_json(self) -> list[str]:
        """Number of rows, then the sums: integers in base 16, since JSON has none so long."""
        return [f"{self.rows:x}", *(f"{each:x}" for each in self.sums)]

    @classmethod
    def from_json(cls, data: list[str]) -> "Moments":
        """What `to_json` wrote."""
        rows, *sums = (int(each, 16) for each in data)
        return cls(len(sums), rows, sums)
