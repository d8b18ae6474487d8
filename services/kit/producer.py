"""A plain idempotent producer for records that do not come from a transaction of ours: inference and outcome data."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer

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
        await self._producer.start()
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
