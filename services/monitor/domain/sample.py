"""Which decisions of a window are explained: those whose ids have the smallest hashes, so any split gives the same."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from operator import itemgetter
from typing import Any
from zlib import crc32

from contracts import Told

SPACE = 1 << 32
_MOST = 500
_CELLS = 20_000
_BYTES = 300_000
"""Of an event that carries them, and as much of what is answered."""
_TEXTS = _BYTES // 20
"""Of one row."""

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
    """At most `most` rows by their places, the smallest, and of those as many as an event can carry: one row of each
    decision that is in it. A row with too much text is in none, so that nothing else must make way for it."""

    most: int = 0
    rows: Mapping[int, Row] = field(default_factory=dict[int, Row])
    """In the order of their places."""
    until: int = SPACE
    """Nothing is known of rows from this place on: they were too many, or too much."""

    @classmethod
    def of(cls, most: int, rows: Iterable[tuple[int, Row]], until: int = SPACE) -> "Sample":
        """Of rows with their places, in any order."""
        return cls.first(most, sorted(rows, key=itemgetter(0)), until)

    @classmethod
    def first(cls, most: int, ascending: Iterable[tuple[int, Row]], until: int = SPACE) -> "Sample":
        """Of rows in the order of their places; none is asked for that is not needed."""
        kept, left = dict[int, Row](), _BYTES
        for place, row in ascending:
            if place >= until:
                break
            texts, others = _size(row)
            if texts > _TEXTS or place in kept:
                continue
            left -= texts + others
            if len(kept) == most or left < 0:
                return cls(most, kept, place)
            kept[place] = row
        return cls(most, kept, until)

    def merge(self, other: "Sample") -> "Sample":
        """Of the rows of both."""
        until = min(self.until, other.until)
        return Sample.of(max(self.most, other.most), {**self.rows, **other.rows}.items(), until)

    def without(self, places: Collection[int]) -> "Sample":
        """Less the rows at these places; none comes instead."""
        return Sample(self.most, {place: row for place, row in self.rows.items() if place not in places}, self.until)

    def in_order(self) -> tuple[Row, ...]:
        """Its rows in the order of their places."""
        return tuple(self.rows.values())

    def to_json(self) -> Any:
        """As it is stored."""
        return [self.most, list(self.rows.items()), self.until]

    @classmethod
    def from_json(cls, data: Any) -> "Sample":
        """What `to_json` wrote; nothing of what was written before there was any."""
        if not data:
            return cls()
        most, rows, *until = data
        return cls.of(most, [(place, tuple(row)) for place, row in rows], *until)


def _size(row: Row) -> tuple[int, int]:
    """Bytes at most, of its texts and of what else it holds."""
    texts = [value for value in row if isinstance(value, str)]
    return 4 * sum(map(len, texts)), 8 * len(texts) + 24 * (len(row) - len(texts))
