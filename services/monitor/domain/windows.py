"""Windows of event time as summaries that merge: any split of the rows gives the same numbers."""

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from .latency import LatencyCounts
from .outcomes.decided import Decided
from .rules import Rules
from .sample import Sample
from .traffic import Traffic

Array = NDArray[Any]

HOUR_S = 3_600.0
_HEAD = struct.Struct("<BI")
_FORMAT = 1


def window_start(at_s: float, window_s: float) -> float:
    """The start of the window that holds a moment; windows begin at multiples of their length."""
    return at_s // window_s * window_s


def by_start(at_s: Array, window_s: float) -> list[tuple[float, Array]]:
    """The windows of some moments by their starts, ascending, each with the places of its moments in their order."""
    if not len(at_s):
        return []
    starts = at_s // window_s * window_s
    order = np.argsort(starts, kind="stable")
    cuts = np.flatnonzero(np.diff(starts[order])) + 1
    return [(float(starts[places[0]]), places) for places in np.split(order, cuts)]


def moment(at_s: float) -> datetime:
    """Seconds since the epoch as a time in UTC."""
    return datetime.fromtimestamp(at_s, UTC)


@dataclass(frozen=True)
class Block:
    """Counts [tracks, bins] of consecutive rows: what a detector is fed with."""

    start_s: float
    """Event time of its first row, seconds since the epoch."""
    rows: int
    counts: Array

    def merge(self, other: "Block") -> "Block":
        """The rows of both, from the earlier beginning."""
        return Block(min(self.start_s, other.start_s), self.rows + other.rows, self.counts + other.counts)


@dataclass(frozen=True)
class Sums:
    """First and second powers of numbers about a fixed centre, by column: mergeable moments."""

    count: Array
    first: Array
    second: Array

    @classmethod
    def zero(cls, columns: int) -> "Sums":
        """Of no rows."""
        return cls(np.zeros(columns, np.int64), np.zeros(columns), np.zeros(columns))

    @classmethod
    def of(cls, values: Array, centres: Array) -> "Sums":
        """Of values [rows, columns], those that are finite."""
        there = np.isfinite(values)
        moved = np.where(there, values - centres, 0.0)
        return cls(there.sum(axis=0), moved.sum(axis=0), (moved**2).sum(axis=0))

    def merge(self, other: "Sums") -> "Sums":
        """Sums of no columns (rows that came before their baseline was known) add nothing."""
        if not len(self.count) or not len(other.count):
            return self if len(self.count) else other
        return Sums(self.count + other.count, self.first + other.first, self.second + other.second)

    def means(self, centres: Array) -> list[float | None]:
        """The mean of each column, in its own unit; None where it has no finite value. `centres` are those of `of`."""
        return [
            float(centre + first / count) if count else None
            for centre, first, count in zip(centres, self.first, self.count, strict=True)
        ]


@dataclass(frozen=True)
class Part:
    """A part of a window: what one worker saw of it, or several merged."""

    inferences: int
    rows: int
    blocks: tuple[Block, ...]
    """In order; together they hold every row that has a profile."""
    sums: Sums
    latency: LatencyCounts
    decided: Decided = field(default_factory=Decided)
    segments: Array | None = None
    """Counts by group of segments [groups, columns, coarse bins], where the baseline has segments."""
    traffic: Traffic = field(default_factory=Traffic)
    sample: Sample = field(default_factory=Sample)
    """Rows to be explained, until the window closes."""
    rules: Rules = field(default_factory=Rules)
    """How its rows kept the business rules."""

    def merge(self, other: "Part") -> "Part":
        """The rows of both; the other's blocks come after these."""
        both = [each for each in (self.segments, other.segments) if each is not None]
        return Part(
            self.inferences + other.inferences, self.rows + other.rows, self.blocks + other.blocks,
            self.sums.merge(other.sums), self.latency.merge(other.latency), self.decided.merge(other.decided),
            np.sum(both, axis=0) if both else None, self.traffic.merge(other.traffic),
            self.sample.merge(other.sample), self.rules.merge(other.rules),
        )  # fmt: skip

    def without_columns(self) -> "Part":
        """What does not rest on a baseline."""
        return Part(self.inferences, self.rows, (), Sums.zero(0), self.latency, traffic=self.traffic, rules=self.rules)

    def counts(self) -> Array | None:
        """Of all rows; None where nothing is watched."""
        if not self.blocks:
            return None
        return np.sum([block.counts for block in self.blocks], axis=0)

    def to_bytes(self) -> bytes:
        """As it is stored: a head in JSON, then the blocks' and the segments' counts as 32-bit integers, packed."""
        shape = self.blocks[0].counts.shape if self.blocks else (0, 0)
        head = orjson.dumps({
            "inferences": self.inferences, "rows": self.rows, "shape": shape,
            "blocks": [(block.start_s, block.rows) for block in self.blocks],
            "sums": [self.sums.count.tolist(), self.sums.first.tolist(), self.sums.second.tolist()],
            "latency": list(self.latency.buckets.items()), "decided": self.decided.to_json(),
            "segments": None if self.segments is None else self.segments.shape, "traffic": self.traffic.to_json(),
            "sample": self.sample.to_json(), "rules": self.rules.to_json(),
        })  # fmt: skip
        every = [block.counts for block in self.blocks] + ([] if self.segments is None else [self.segments])
        body = b"".join(counts.astype("<u4").tobytes() for counts in every)
        return _HEAD.pack(_FORMAT, len(head)) + head + zlib.compress(body, 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Part":
        """What `to_bytes` wrote."""
        _, size = _HEAD.unpack_from(data)
        head = orjson.loads(data[_HEAD.size : _HEAD.size + size])
        body = np.frombuffer(zlib.decompress(data[_HEAD.size + size :]), "<u4").astype(np.int64)
        whole = len(head["blocks"]) * head["shape"][0] * head["shape"][1]
        counts = body[:whole].reshape(len(head["blocks"]), *head["shape"]) if head["blocks"] else ()
        shape = head.get("segments")
        segments = body[whole:].reshape(shape) if shape else None
        blocks = [Block(start, rows, each) for (start, rows), each in zip(head["blocks"], counts, strict=True)]
        count, first, second = head["sums"]
        sums = Sums(np.array(count, np.int64), np.array(first, np.float64), np.array(second, np.float64))
        latency, decided = LatencyCounts(dict(head["latency"])), Decided.from_json(head.get("decided", {}))
        traffic = Traffic.from_json(head.get("traffic"))
        sample, rules = Sample.from_json(head.get("sample")), Rules.from_json(head.get("rules"))
        return cls(
            head["inferences"], head["rows"], tuple(blocks), sums, latency, decided, segments, traffic, sample, rules
        )


def merged(parts: Iterable[Part]) -> Part:
    """All parts as one, their blocks in the order given."""
    first, *others = parts
    for other in others:
        first = first.merge(other)
    return first


def coalesced(blocks: Sequence[Block], rows: int) -> list[Block]:
    """The same rows in blocks of at least `rows`; the last one may be smaller."""
    made: list[Block] = []
    for block in blocks:
        if made and made[-1].rows < rows:
            made[-1] = made[-1].merge(block)
        else:
            made.append(block)
    return made


def block_size(rows: int, block_rows: int, at_most: int) -> int:
    """Of how many rows blocks are made of `rows`: as fine as `block_rows` unless there would be too many."""
    return max(block_rows, -(-rows // at_most))


def block_cuts(rows: int, block_rows: int, at_most: int) -> list[slice]:
    """How `rows` consecutive rows are cut into blocks of `block_size`."""
    size = block_size(rows, block_rows, at_most)
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]
