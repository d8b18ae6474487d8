"""Read chosen offsets of a topic, committed records only, without a group: for state that lives in a topic."""

from collections.abc import AsyncIterator

from aiokafka import AIOKafkaConsumer, TopicPartition

from .kafka import Connection, close, partitions_of
from .stream import Record, taken


class TopicReader:
    """A consumer that is told where to read. Not safe for concurrent reads: callers hold a lock."""

    def __init__(self, connection: Connection, topic: str) -> None:
        self._connection = connection
        self._topic = topic
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> None:
        """Connect. Raises KafkaError where the broker is away."""
        consumer = AIOKafkaConsumer(
            **self._connection.aiokafka(), group_id=None, enable_auto_commit=False, isolation_level="read_committed",
            auto_offset_reset="earliest", max_partition_fetch_bytes=4 * 1024 * 1024, metadata_max_age_ms=30_000,
        )  # fmt: skip
        try:
            await consumer.start()
            consumer.assign(await partitions_of(consumer, self._topic))
            consumer.pause(*consumer.assignment())
        except BaseException:
            await close(consumer)
            raise
        self._consumer = consumer

    async def stop(self) -> None:
        if self._consumer:
            consumer, self._consumer = self._consumer, None
            await close(consumer)

    @property
    def _live(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("the reader is not started")
        return self._consumer

    def partitions(self) -> list[int]:
        return sorted(tp.partition for tp in self._live.assignment())

    async def bounds(self, partition: int, since_ms: int) -> tuple[int, int]:
        """The first offset written since a moment, and the end of what is committed."""
        tp = TopicPartition(self._topic, partition)
        end = (await self._live.end_offsets([tp]))[tp]
        found = (await self._live.offsets_for_times({tp: since_ms}))[tp]
        return (min(found.offset, end) if found else end), end

    async def read(self, partition: int, start: int, end: int) -> AsyncIterator[list[Record]]:
        """Every committed record of [start, end), in order, in lists as they arrive."""
        tp = TopicPartition(self._topic, partition)
        consumer = self._live
        if start >= end:
            return
        consumer.seek(tp, start)
        consumer.resume(tp)
        try:
            while await consumer.position(tp) < end:
                found = await consumer.getmany(tp, timeout_ms=500, max_records=5_000)
                records = [r for r in found.get(tp, ()) if r.offset < end]
                if records:
                    yield list(map(taken, records))
        finally:
            consumer.pause(tp)
