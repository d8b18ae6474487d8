"""Rows of numbers and texts as rows of numbers: a text is the place of its class in its column's list. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts import Column
from services.kit.errors import Conflict
from services.kit.models.feeding import Columns

Array = NDArray[Any]
Told = float | str | None
"""A value as it is told to people."""

_SHOWN = 1000
"""Letters of a text that are told."""


@dataclass(frozen=True)
class Coding:
    """The classes of each column of texts, by the column's place; a column without any is one of numbers."""

    columns: tuple[Column, ...]
    classes: Mapping[int, Sequence[bytes]]

    @property
    def texts(self) -> Array:
        """[columns]: which ones are of texts."""
        return np.array([place in self.classes for place in range(len(self.columns))], bool)

    @property
    def row_bytes(self) -> int:
        """What a row may take on its way to the model."""
        return 8 * len(self.columns) + sum(max(map(len, each), default=0) for each in self.classes.values())

    def knowing(self, row: Sequence[Told]) -> "Coding":
        """With the classes of one more row: it may have such as no reference row has."""
        more = {
            place: known if (text := str(row[place]).encode()) in known else (*known, text)
            for place, known in self.classes.items()
        }
        return Coding(self.columns, more)

    def coded(self, row: Sequence[Told]) -> Array:
        """A row of known classes as numbers [columns]; a missing number is NaN."""
        return np.array([self._code(place, value) for place, value in enumerate(row)], float)

    def _code(self, place: int, value: Told) -> float:
        if place in self.classes:
            return float(self.classes[place].index(str(value).encode()))
        return np.nan if value is None else float(value)

    def fed(self, rows: Array) -> Columns:
        """Rows [m, columns] of such numbers as the model takes them: texts as bytes."""
        return {column.name: self._fed(place, rows[:, place]) for place, column in enumerate(self.columns)}

    def _fed(self, place: int, values: Array) -> Array:
        if place not in self.classes:
            return values
        known = np.empty(len(self.classes[place]), object)
        known[:] = self.classes[place]
        return known[values.astype(int)]

    def told(self, place: int, value: float) -> Told:
        """One value: a number, the text itself (its first 1,000 letters), or None where it is missing."""
        if place in self.classes:
            return self.classes[place][int(value)].decode(errors="replace").replace("\0", "\ufffd")[:_SHOWN]
        return None if np.isnan(value) else float(value)


def checked(columns: tuple[Column, ...], classes: Mapping[int, Sequence[bytes]], rows: Array) -> Coding:
    """The coding of reference rows [m, columns]. Raises Conflict where they are none: a sandbox is not believed."""
    if rows.ndim != 2 or rows.shape[1] != len(columns) or not len(rows):
        raise Conflict("the package's training rows are not those of the model's columns")
    for place, known in classes.items():
        codes = rows[:, place]
        if not (np.isin(codes, np.arange(len(known)))).all() or len(set(known)) != len(known):
            raise Conflict(f"column {columns[place].name} of the package's training rows holds no texts")
    return Coding(columns, classes)
