"""Looking into topics from outside: events as they happen, the latest records, dead letters and their replay."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from . import deadletters
from .errors import NotFound
from .kafka import Connection
from .topics import REPLAYED, scattered

_LARGEST = 8 * 1024 * 1024
_METADATA_LIMIT = 3500
"""Kafka keeps 4 KiB beside a committed offset."""


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

    async def follow(self, positions: Mapping[tuple[str, int], int], *, from_start: bool) -> AsyncIterator[Seen | None]:
        """Records from the positions on (elsewhere from now, or from the start); None when nothing came for a while.

        Raises NotFound for a topic that does not exist.
        """
        async with _consumer(self._connection) as consumer:
            places = await _assign(consumer, self._topics)
            ends, starts = await consumer.end_offsets(places), await consumer.beginning_offsets(places)
            for tp in places:
                given = positions.get((tp.topic, tp.partition))
                default = starts[tp] if from_start else ends[tp]
                consumer.seek(tp, default if given is None else min(max(given, starts[tp]), ends[tp]))
            yield None
            while True:
                found = await consumer.getmany(timeout_ms=10_000, max_records=200)
                for tp, records in found.items():
                    for record in records:
                        yield _seen(tp, record)
                if not found:
                    yield None

    async def positions(self) -> Positions:
        """Where the topics end now."""
        async with _consumer(self._connection) as consumer:
            places = await _assign(consumer, self._topics)
            return {(tp.topic, tp.partition): at for tp, at in (await consumer.end_offsets(places)).items()}


async def latest(connection: Connection, topics: Sequence[str], limit: int) -> list[Seen]:
    """The last records of some topics, newest first, at most `limit` of each partition. Raises NotFound."""
    async with _consumer(connection) as consumer:
        places = await _assign(consumer, topics)
        ends, starts = await consumer.end_offsets(places), await consumer.beginning_offsets(places)
        first = {tp: max(starts[tp], ends[tp] - limit) for tp in places}
        found = await _read(consumer, {tp: (first[tp], ends[tp]) for tp in places})
    return sorted(found, key=lambda r: (r.at, r.offset), reverse=True)


async def at(connection: Connection, topic: str, places: Iterable[tuple[int, int]]) -> list[Seen]:
    """The records at these (partition, offset). Raises NotFound when one of them is not there."""
    wanted = sorted(set(places))
    async with _consumer(connection) as consumer:
        there = await _assign(consumer, [topic])
        ends, starts = await consumer.end_offsets(there), await consumer.beginning_offsets(there)
        found: list[Seen] = []
        for partition, offset in wanted:
            tp = TopicPartition(topic, partition)
            if tp not in ends or not starts[tp] <= offset < ends[tp]:
                raise NotFound(f"{topic} has no record at {partition}:{offset}")
            found += [r for r in await _read(consumer, {tp: (offset, offset + 1)}) if r.offset == offset]
    return found


async def replay(connection: Connection, letters: Sequence[Seen]) -> None:
    """Write dead letters into the topics that they came from, addressed to the service that gave each up."""
    producer = AIOKafkaProducer(**connection.aiokafka(), enable_idempotence=True, acks="all", max_request_size=_LARGEST)
    await producer.start()
    try:
        for letter in letters:
            headers = deadletters.source_headers(letter.headers, letter.header(deadletters.FROM))
            await producer.send_and_wait(
                letter.header("__connect.errors.topic"), letter.value, letter.key, headers=headers
            )
    finally:
        await producer.stop()


async def replayed(connection: Connection) -> tuple[Positions, dict[tuple[str, int], set[int]]]:
    """What of the dead letters has been dealt with: all below an offset, and single ones beyond it."""
    consumer = AIOKafkaConsumer(**connection.aiokafka(), group_id=REPLAYED, enable_auto_commit=False)
    await consumer.start()
    try:
        coordinator: Any = consumer._coordinator
        marks: dict[TopicPartition, OffsetAndMetadata] = await coordinator.fetch_committed_offsets(())
        return (
            {(tp.topic, tp.partition): mark.offset for tp, mark in marks.items()},
            {(tp.topic, tp.partition): scattered(mark.metadata) for tp, mark in marks.items()},
        )
    finally:
        await consumer.stop()
