"""Seeded streams of rows that change in a known way at a known row.

Thirty features (29 numbers, one class of five) and a prediction that follows from them. The numbers share five hidden
factors; how much is drawn by the stream's `loading`, 0 for columns that have nothing to do with each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts import Column, ModelSchema, TensorSpec

Array = NDArray[np.float64]
Change = Literal["none", "abrupt", "gradual", "spread", "correlation", "flipped", "gained", "classes"]

CHANGES: tuple[Change, ...] = ("abrupt", "gradual", "spread", "correlation", "flipped", "gained", "classes")
"""Location of three columns by half a standard deviation, at once or over 5,000 rows; their standard deviation times
1.5; the three have nothing to do with the others any more, or the opposite of what they had; three that had nothing to
do with any other are correlated by 0.6; shares of the classes by a stability index of 0.2."""
NUMBERS, FACTORS, CHANGED, RAMP_ROWS = 29, 5, 3, 5_000
NAMES = [f"f{place}" for place in range(NUMBERS + 1)]
_SHARES, _OTHER_SHARES = (0.4, 0.25, 0.2, 0.1, 0.05), (0.25, 0.25, 0.2, 0.15, 0.15)


def schema() -> ModelSchema:
    """Of the model whose rows these are."""
    kinds = ["numeric"] * NUMBERS + ["categorical"]
    return ModelSchema(
        inputs=(TensorSpec(name="X", datatype="FP32", shape=(-1, len(NAMES))),),
        outputs=(TensorSpec(name="label", datatype="INT64", shape=(-1,)),),
        columns=tuple(Column(name=name, kind=kind) for name, kind in zip(NAMES, kinds, strict=True)),  # pyright: ignore[reportArgumentType]
        prediction="label",
    )


@dataclass
class Stream:
    """Rows of one world; `change` sets in where row 0 is asked for."""

    change: Change
    seed: int
    loading: float = 0.35
    _random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)
        self._loadings = self._random.normal(size=(NUMBERS, FACTORS)) * self.loading
        self._weights = self._random.normal(size=NUMBERS)

    def anew(self) -> "Stream":
        """The same one from its beginning."""
        return Stream(self.change, self.seed, self.loading)

    def rows(self, first: int, count: int) -> Array:
        """[count, 31]: rows from number `first` on, those before the change negative; the prediction is last."""
        at = np.arange(first, first + count)
        after = at >= 0
        numbers = self._numbers(count)
        if self.change == "abrupt":
            numbers[after, :CHANGED] += 0.5
        elif self.change == "gradual":
            numbers[:, :CHANGED] += 0.5 * np.clip(at / RAMP_ROWS, 0, 1)[:, None]
        elif self.change == "spread":
            numbers[after, :CHANGED] *= 1.5
        elif self.change == "correlation":
            numbers[after, :CHANGED] = self._random.normal(size=(int(after.sum()), CHANGED))
        elif self.change == "flipped":
            numbers[after, :CHANGED] *= -1
        elif self.change == "gained":
            together = self._random.normal(size=(int(after.sum()), 1))
            numbers[after, :CHANGED] = np.sqrt(0.4) * numbers[after, :CHANGED] + np.sqrt(0.6) * together
        classes = self._random.choice(5, size=count, p=_SHARES).astype(float)
        if self.change == "classes":
            classes[after] = self._random.choice(5, size=int(after.sum()), p=_OTHER_SHARES)
        noise = self._random.normal(size=count)
        label = (numbers @ self._weights + noise > 0).astype(float)
        return np.column_stack([numbers, classes, label])

    def _numbers(self, count: int) -> Array:
        own = self._random.normal(size=(count, NUMBERS))
        together = self._random.normal(size=(count, FACTORS)) @ self._loadings.T
        return (together + own) / np.sqrt(1 + (self._loadings**2).sum(axis=1))

    def pieces(self, before: int, after: int, size: int = 5_000) -> Iterator[tuple[int, Array]]:
        """All rows from `before` the change to `after` it: the number of the first, and the rows."""
        for first in range(-before, after, size):
            yield first, self.rows(first, min(size, after - first))

    def trained_on(self, rows: int = 5_000) -> Array:
        """[rows, 31] of the same world before any change, none of which comes again in the stream."""
        world = Stream("none", self.seed, self.loading)
        world._random = np.random.default_rng((self.seed, 1))
        return world.rows(-rows, rows)

    def reference(self, rows: int = 5_000) -> pa.Table:
        """What the model was trained on."""
        made = self.trained_on(rows)
        return pa.table({name: made[:, place] for place, name in enumerate((*NAMES, "label"))})
