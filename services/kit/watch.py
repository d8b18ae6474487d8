"""Looking into topics from outside, without a group: events as they happen, the latest records, chosen records."""

import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from .errors import NotFound, Unavailable
from .kafka import Connection, is_away, partitions_of

_READ_S = 5.0
_LOOKED_AT = 20_000
"""Records that one look into the past takes in; whoever wants more asks again from where it ended."""


@dataclass(frozen=True)
class Seen:
    """One record as it lies in a topic."""

    topic: str
    partition: int
    offset: int
    at: datetime
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    def header(self, name: str) -> str:
        """A header as text; empty where there is none."""
        return next((v.decode(errors="replace") for n, v in self.headers if n == name), "")


Positions = dict[tuple[str, int], int]
"""The next offset to read, by topic and partition."""


class Follower:
    """Reads some topics onwards, without a group."""

    def __init__(self, connection: Connection, topics: Sequence[str]) -> None:
        self._connection = connection
        self._topics = topics
        self.positions: Positions = {}
        """The next offset of every partition, behind what was given out last."""

    async def follow(
        self, positions: Mapping[tuple[str, int], int], *, from_start: bool
    ) -> AsyncGenerator[Seen | None]:
        """Records from the positions on (elsewhere from now, or from the start); None when nothing came for a second.

        Raises NotFound for a topic that does not exist.
        """
        async with reading(self._connection) as consumer:
            places = await _assign(consumer, self._topics)
            ends, starts = await consumer.end_offsets(places), await consumer.beginning_offsets(places)
            for tp in places:
                given = positions.get((tp.topic, tp.partition))
                default = starts[tp] if from_start else ends[tp]
                start = default if given is None else min(max(given, starts[tp]), ends[tp])
                self.positions[tp.topic, tp.partition] = start
                consumer.seek(tp, start)
            consumer.resume(*places)
            yield None
            while True:
                found = await consumer.getmany(timeout_ms=1_000, max_records=200)
                for tp, records in found.items():
                    for record in records:
                        self.positions[tp.topic, tp.partition] = record.offset + 1
                        yield _seen(tp, record)
                if not found:
                    yield None


Wanted = Callable[[Seen], bool]


async def latest(
    connection: Connection, topics: Sequence[str], limit: int, wanted: Wanted = lambda _: True
) -> list[Seen]:
    """The last records of some topics that are wanted, newest first. Raises NotFound."""
    found, _ = await newest(connection, topics, limit, wanted)
    return found


async def newest(
    connection: Connection, topics: Sequence[str], limit: int, wanted: Wanted, below: Positions | None = None
) -> tuple[list[Seen], Positions]:
    """At most `limit` wanted records below some offsets, newest first, and below which offsets older ones lie.

    Without `below` from the end; a partition that it does not name is done. A bounded number of records is looked at:
    there may be fewer than `limit`, or none, while older ones follow. Raises NotFound.
    """
    with answering():
        async with reading(connection) as consumer:
            places = await _assign(consumer, topics)
            ends, starts = await consumer.end_offsets(places), await consumer.beginning_offsets(places)
            tops = ends if below is None else {tp: below.get((tp.topic, tp.partition), 0) for tp in places}
            back = _Backwards(starts, {tp: min(tops[tp], ends[tp]) for tp in places}, limit)
            while ranges := back.next():
                back.take(await _read(consumer, ranges), wanted)
    return back.merged(), back.below


class _Backwards:
    """Partitions on the way from their ends to their starts, and what was wanted of them."""

    def __init__(self, starts: Mapping[TopicPartition, int], tops: Mapping[TopicPartition, int], limit: int) -> None:
        self._starts, self._tops, self._limit = starts, dict(tops), limit
        self._found: dict[TopicPartition, deque[Seen]] = {tp: deque() for tp in tops}
        self._step, self._left = max(limit, 100), _LOOKED_AT

    def next(self) -> dict[TopicPartition, tuple[int, int]]:
        """The ranges to read now; none where enough was found or looked at, or nothing is left."""
        if self._left <= 0:
            return {}
        open_ = [tp for tp, top in self._tops.items() if top > self._starts[tp] and len(self._found[tp]) < self._limit]
        ranges = {tp: (max(self._starts[tp], self._tops[tp] - self._step), self._tops[tp]) for tp in open_}
        self._left -= sum(end - start for start, end in ranges.values())
        self._step = min(self._step * 2, 2_000)
        for tp, (start, _) in ranges.items():
            self._tops[tp] = start
        return ranges

    def take(self, records: Iterable[Seen], wanted: Wanted) -> None:
        """What was read of the ranges."""
        for record in sorted(records, key=lambda r: r.offset, reverse=True):
            if wanted(record):
                self._found[TopicPartition(record.topic, record.partition)].append(record)

    def merged(self) -> list[Seen]:
        """The newest of all partitions; within each from its end towards its start, whatever the clocks said."""
        out: list[Seen] = []
        while len(out) < self._limit and (heads := [found for found in self._found.values() if found]):
            out.append(max(heads, key=lambda found: found[0].at).popleft())
        return out

    @property
    def below(self) -> Positions:
        """After `merged`: where the rest of each partition ends."""
        rest = {tp: found[0].offset + 1 if found else self._tops[tp] for tp, found in self._found.items()}
        return {(tp.topic, tp.partition): top for tp, top in rest.items() if top > self._starts[tp]}


async def onwards(
    connection: Connection, topic: str, start: Mapping[int, int], at_once: int
) -> AsyncGenerator[list[Seen]]:
    """What lies in a topic from the offset of each partition to its present end, in order, some at a time.

    A partition without an offset from its start. Raises NotFound.
    """
    async with reading(connection) as consumer:
        places = await _assign(consumer, [topic])
        ends, starts = await consumer.end_offsets(places), await consumer.beginning_offsets(places)
        for tp in places:
            first = max(start.get(tp.partition, 0), starts[tp])
            for begin in range(first, ends[tp], at_once):
                yield await _read(consumer, {tp: (begin, min(begin + at_once, ends[tp]))})


async def at(connection: Connection, topic: str, places: Iterable[tuple[int, int]]) -> list[Seen]:
    """The records at these (partition, offset). Raises NotFound when one of them is not there."""
    wanted = sorted(set(places))
    async with reading(connection) as consumer:
        there = await _assign(consumer, [topic])
        ends, starts = await consumer.end_offsets(there), await consumer.beginning_offsets(there)
        found: list[Seen] = []
        for partition, offset in wanted:
            tp = TopicPartition(topic, partition)
            if tp not in ends or not starts[tp] <= offset < ends[tp]:
                raise NotFound(f"{topic} has no record at {partition}:{offset}")
            found += [r for r in await _read(consumer, {tp: (offset, offset + 1)}) if r.offset == offset]
    return found


@contextmanager
def answering() -> Generator[None]:
    """Raise Unavailable where the broker is away: nobody has to wait for it here."""
    try:
        yield
    except (KafkaError, OSError, TimeoutError) as error:
        if not is_away(error):
            raise
        raise Unavailable("Kafka does not answer at the moment") from None


@asynccontextmanager
async def reading(connection: Connection) -> AsyncGenerator[AIOKafkaConsumer]:
    """A consumer without a group, of committed records only."""
    consumer = AIOKafkaConsumer(
        **connection.aiokafka(), group_id=None, enable_auto_commit=False, isolation_level="read_committed",
        auto_offset_reset="earliest", fetch_max_wait_ms=5_000, max_partition_fetch_bytes=1024 * 1024,
    )  # fmt: skip
    try:
        await consumer.start()
        yield consumer
    finally:
        # Whoever goes away while a stream is read cancels it, and the connections have to be closed all the same.
        with anyio.move_on_after(_READ_S, shield=True):
            await consumer.stop()


async def _assign(consumer: AIOKafkaConsumer, topics: Sequence[str]) -> list[TopicPartition]:
    places = await partitions_of(consumer, *topics)
    for topic in topics:
        if not any(tp.topic == topic for tp in places):
            raise NotFound(f"there is no topic {topic}")
    consumer.assign(places)
    consumer.pause(*places)  # nothing is fetched until it is known from where
    return places


async def _read(consumer: AIOKafkaConsumer, ranges: Mapping[TopicPartition, tuple[int, int]]) -> list[Seen]:
    """Every committed record of the ranges [start, end); compaction and transactions leave gaps."""
    open_ = {tp: end for tp, (start, end) in ranges.items() if start < end}
    for tp in open_:
        consumer.resume(tp)
        consumer.seek(tp, ranges[tp][0])
    seen: list[Seen] = []
    deadline = time.monotonic() + _READ_S
    while open_:
        if time.monotonic() > deadline:  # a part must not pass for the whole
            raise TimeoutError(f"{', '.join(tp.topic for tp in open_)} could not be read within {_READ_S:g} s")
        for tp, records in (await consumer.getmany(timeout_ms=200)).items():
            seen += [_seen(tp, record) for record in records if record.offset < ranges[tp][1]]
        for tp in [tp for tp, end in open_.items() if await consumer.position(tp) >= end]:
            del open_[tp]
            consumer.pause(tp)
    return seen


def _seen(tp: TopicPartition, record: Any) -> Seen:
    at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
    return Seen(tp.topic, tp.partition, record.offset, at, record.key, record.value, tuple(record.headers))
