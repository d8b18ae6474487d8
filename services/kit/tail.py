"""A topic read from where its reader stands, without a group, by a reader that keeps its own place."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import Topic

from .kafka import IDLE_FETCH_MS, PATIENCE_S, Connection, Pulse, close, partitions_of
from .settings import Settings
from .stream import Record, taken


@dataclass(frozen=True)
class Piece:
    """Consecutive records of one partition, and the offset that is next after them."""

    partition: int
    records: Sequence[Record]
    next: int


async def tail(
    settings: Settings, topic: Topic, places: Mapping[int, int], since: datetime
) -> AsyncGenerator[Piece | None]:  # fmt: skip
    """Every piece from the offset of each partition; where there is none, from the first record that was written then
    or later. None where nothing came for a second. Errors are the reader's, who asks again from where it stands.
    """
    consumer = AIOKafkaConsumer(
        **Connection.read(settings.kafka_properties).aiokafka(), enable_auto_commit=False,
        auto_offset_reset="earliest", isolation_level="read_committed", fetch_max_wait_ms=IDLE_FETCH_MS,
    )  # fmt: skip
    try:  # a start that is cancelled has tasks and connections too
        await consumer.start()
        while not (parts := await partitions_of(consumer, topic.name)):
            await asyncio.sleep(0.5)
        consumer.assign(parts)
        for part, offset in (await _places(consumer, parts, places, since)).items():
            consumer.seek(part, offset)
        pulse = Pulse(consumer)
        while True:
            await pulse.beats()
            pulse.endure(PATIENCE_S)
            found = await consumer.getmany(timeout_ms=1000)
            if found:
                pulse.felt()
            for part, records in found.items():
                yield Piece(part.partition, list(map(taken, records)), records[-1].offset + 1)
            if not found:
                yield None
    finally:
        await close(consumer)


async def _places(
    consumer: AIOKafkaConsumer, parts: Sequence[TopicPartition], places: Mapping[int, int], since: datetime
) -> dict[TopicPartition, int]:
    at_ms = int(since.timestamp() * 1000)
    firsts, ends = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
    by_time = await consumer.offsets_for_times(dict.fromkeys(parts, at_ms))
    found: dict[TopicPartition, int] = {}
    for part in parts:
        told = by_time.get(part)
        begin = told.offset if told else ends[part]
        found[part] = min(max(places.get(part.partition, begin), firsts[part]), ends[part])
    return found
