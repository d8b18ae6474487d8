"""Records that the Kafka client itself cannot read: a header whose name is no text makes it fail at each try."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from . import kafka
from .telemetry import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for such a record: nothing of it is known but its place, so its reader finds nothing it could accept."""

    offset: int
    timestamp: int = 0
    key: bytes | None = None
    value: bytes | None = b""
    headers: Sequence[tuple[str, bytes]] = ()


_PATIENCE_MS = 5_000
"""A fetch for other partitions may lie at the broker meanwhile: ours is only sent when that is answered."""


async def read(
    consumer: AIOKafkaConsumer, tp: TopicPartition, limit: int, *, timeout_ms: int, patience_s: float
) -> Sequence[Any]:
    """The next records of a partition, at most `limit`; an unreadable one is stood in for and stepped over.

    Raises TimeoutError where the client does not answer within `patience_s` beyond that timeout, as it may.
    """
    async with kafka.within(patience_s, "finding a position"):
        at = await consumer.position(tp)
    try:
        async with kafka.within(timeout_ms / 1000 + patience_s, "a fetch"):
            return (await consumer.getmany(tp, timeout_ms=timeout_ms, max_records=limit)).get(tp, ())
    except UnicodeDecodeError:
        consumer.seek(tp, at)
    return await narrow(consumer, tp, limit)


async def narrow(consumer: AIOKafkaConsumer, tp: TopicPartition, limit: int) -> Sequence[Any]:
    """The same where a record of some partition is known to be unreadable: fewer and fewer, down to that one.

    Raises TimeoutError where that takes too long.
    """
    async with kafka.within(kafka.LONG_S, "narrowing down to a record that cannot be read"):
        return await _narrow(consumer, tp, limit)


async def _narrow(consumer: AIOKafkaConsumer, tp: TopicPartition, limit: int) -> Sequence[Any]:
    at = await consumer.position(tp)
    if at >= (await consumer.end_offsets([tp]))[tp]:
        return ()
    while True:
        try:
            return (await consumer.getmany(tp, timeout_ms=_PATIENCE_MS, max_records=limit)).get(tp, ())
        except UnicodeDecodeError:
            consumer.seek(tp, at)
            if limit == 1:
                log.error("a record cannot be read", topic=tp.topic, partition=tp.partition, offset=at)
                consumer.seek(tp, at + 1)
                return (Unreadable(at),)
            limit = max(1, limit // 4)
