"""A plain idempotent producer for records that do not come from a transaction of ours: inference and outcome data."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self
from zlib import crc32

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from .cloudevents import Headers
from .kafka import Connection
from .settings import Settings

Outgoing = tuple[str, bytes | None, bytes | None, Headers]
"""Topic, key, value, headers."""


class Producer:
    """Idempotent, acknowledged by all in-sync replicas; order is kept per partition."""

    def __init__(self, settings: Settings, *, linger_ms: int = 5, **options: Any) -> None:
        self._settings = settings
        self._options: dict[str, Any] = {"enable_idempotence": True, "acks": "all", "linger_ms": linger_ms} | options
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> Self:
        connection = Connection.read(self._settings.kafka_properties)
        self._producer = AIOKafkaProducer(**connection.aiokafka(), **self._options)
        try:
            await self._producer.start()
        except BaseException:
            await self._producer.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._producer:
            await self._producer.stop()
            self._producer = None

    @property
    def aiokafka(self) -> AIOKafkaProducer:
        """The client itself, for transactions and prebuilt batches."""
        if self._producer is None:
            raise RuntimeError("use `async with Producer(...)`")
        return self._producer

    async def send_all(self, records: Sequence[Outgoing]) -> None:
        """Write records in order and wait until all are acknowledged."""
        futures = [
            await self.aiokafka.send(topic, value, key, headers=headers) for topic, key, value, headers in records
        ]
        for future in futures:
            await future

    async def write(self, topic: str, records: Sequence[tuple[bytes, bytes, Headers]]) -> None:
        """Write many keyed records in few prebuilt batches and wait until all are acknowledged.

        Within a partition a batch is sent only after the one before was acknowledged: where this raises, no record is
        there whose predecessor is not. The same key always goes to the same partition.
        """
        count = len(await self.aiokafka.partitions_for(topic))
        batches: dict[int, list[BatchBuilder]] = {}
        for key, value, headers in records:
            own = batches.setdefault(crc32(key) % count, [])
            if not own or own[-1].append(timestamp=None, key=key, value=value, headers=headers) is None:
                own.append(self.aiokafka.create_batch())  # its first record fits, whatever its size
                own[-1].append(timestamp=None, key=key, value=value, headers=headers)
        work = [self._in_order(topic, partition, own) for partition, own in batches.items()]
        for result in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _in_order(self, topic: str, partition: int, batches: list[BatchBuilder]) -> None:
        for batch in batches:
            await (await self.aiokafka.send_batch(batch, topic, partition=partition))
