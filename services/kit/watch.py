"""Looking into topics from outside, without a group: events as they happen, the latest records, chosen records."""

import time
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping, Sequence
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


async def latest(connection: Connection, topics: Sequence[str], limit: int) -> list[Seen]:
    """The last records of some topics, newest first, at most `limit` of each partition. Raises NotFound."""
    with answering():
        return await _latest(connection, topics, limit)


async def _latest(connection: Connection, topics: Sequence[str], limit: int) -> list[Seen]:
    async with reading(connection) as consumer:
        places = await _assign(consumer, topics)
        ends, starts = await consumer.end_offsets(places), await consumer.beginning_offsets(places)
        first = {tp: max(starts[tp], ends[tp] - limit) for tp in places}
        found = await _read(consumer, {tp: (first[tp], ends[tp]) for tp in places})
    return sorted(found, key=lambda r: (r.at, r.offset), reverse=True)


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
    await consumer.start()
    try:
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
    while open_ and time.monotonic() < deadline:
        for tp, records in (await consumer.getmany(timeout_ms=200)).items():
            seen += [_seen(tp, record) for record in records if record.offset < ranges[tp][1]]
        for tp in [tp for tp, end in open_.items() if await consumer.position(tp) >= end]:
            del open_[tp]
            consumer.pause(tp)
    return seen


def _seen(tp: TopicPartition, record: Any) -> Seen:
    at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
    return Seen(tp.topic, tp.partition, record.offset, at, record.key, record.value, tuple(record.headers))
