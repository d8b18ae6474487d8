"""The order of a snapshot's rows: by the decisions, not by the files in which they happen to lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts import ModelSchema

_CHUNK_ROWS = 50_000

Array = NDArray[Any]


def columns_of(schema: ModelSchema) -> tuple[str, ...]:
    """A model without declared columns has its input tensors for columns."""
    return tuple(each.name for each in schema.columns or schema.inputs)


@dataclass(frozen=True)
class Order:
    """Decisions in the order of a snapshot, oldest first, cut into chunks of about so many rows."""

    ids: list[str]
    files: list[int]
    """Those in which their rows lie."""
    starts: Array
    """[chunks + 1] the first decision of each chunk, and how many there are."""
    by_file: dict[int, Array]

    @classmethod
    def of(cls, ids: Sequence[str], rows: Sequence[int], files: Sequence[int]) -> "Order":
        """From decisions, newest first: their ids, numbers of rows and files."""
        inside = np.array(files[::-1], np.int64)
        before = np.cumsum([0, *rows[::-1]])[:-1] // _CHUNK_ROWS
        starts = np.flatnonzero(np.diff(before, prepend=-1)) if ids else np.array([], np.int64)
        order = np.argsort(inside, kind="stable")
        known, firsts = np.unique(inside[order], return_index=True)
        parts = np.split(order, firsts[1:]) if ids else []
        by_file = {int(file): part for file, part in zip(known, parts, strict=True)}
        return cls(list(ids[::-1]), sorted(by_file), np.append(starts, len(ids)), by_file)

    def ids_of(self, chunk: int) -> list[str]:
        """The decisions of a chunk."""
        return self.ids[int(self.starts[chunk]) : int(self.starts[chunk + 1])]

    def chunk_of(self, places: Array) -> Array:
        """In which chunks decisions are, by their places in the order."""
        return np.searchsorted(self.starts, places, side="right") - 1
