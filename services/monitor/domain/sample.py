"""Which decisions of a window are explained: those whose ids have the smallest hashes, so any split gives the same."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any
from zlib import crc32

from contracts import Told

SPACE = 1 << 32
_MOST = 500
_CELLS = 20_000
_BYTES = 300_000
"""Of an event that carries them, and as much of what is answered."""

Row = tuple[Told, ...]


def place_of(inference_id: str) -> int:
    """Where a decision stands among all, by its id alone: below 2^32. A checksum is spread well enough, and every
    inference pays for it."""
    return crc32(inference_id.encode())


def most_rows(per_s: float, window_s: float, columns: int) -> int:
    """Of one window: so many a second on average, and no more than an event can carry."""
    return min(_MOST, max(1, ceil(per_s * window_s)), max(1, _CELLS // max(1, columns)))


@dataclass(frozen=True)
class Sample:
    """At most `most` rows by their places, the smallest: one row of each decision that is in it."""

    most: int = 0
    rows: Mapping[int, Row] = field(default_factory=dict[int, Row])

    @classmethod
    def of(cls, most: int, rows: Iterable[tuple[int, Row]]) -> "Sample":
        """Of rows with their places."""
        return cls(most, dict(sorted(rows)[:most]))

    def merge(self, other: "Sample") -> "Sample":
        """Of the rows of both."""
        return Sample.of(max(self.most, other.most), {**self.rows, **other.rows}.items())

    def within(self) -> tuple[Row, ...]:
        """Its rows in the order of their places, as many as an event can carry."""
        kept: list[Row] = []
        left = _BYTES
        for _, row in sorted(self.rows.items()):
            left -= sum(4 * len(value) + 8 if isinstance(value, str) else 24 for value in row)
            if left < 0:
                break
            kept.append(row)
        return tuple(kept)

    def to_json(self) -> Any:
        """As it is stored."""
        return [self.most, list(self.rows.items())]

    @classmethod
    def from_json(cls, data: Any) -> "Sample":
        """What `to_json` wrote; nothing of what was written before there was any."""
        if not data:
            return cls()
        most, rows = data
        return cls(most, {place: tuple(row) for place, row in rows})
