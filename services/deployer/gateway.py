"""The pair of topics of a streaming endpoint, and who may use them."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from services.kit.provision import open_stream

from .settings import DeployerSettings


class Streams(Protocol):
    """Makes a streaming endpoint's topics; asking again changes nothing."""

    async def open(self, endpoint: str, unit: str) -> None: ...


class KafkaStreams:
    """Topics and access rights in Kafka."""

    def __init__(self, settings: DeployerSettings) -> None:
        self._settings = settings

    async def open(self, endpoint: str, unit: str) -> None:
        """Create `inference.requested.<endpoint>` and `inference.completed.<endpoint>` for a unit's applications."""
        principals: Mapping[str, Sequence[str]] = self._settings.stream_principals
        await asyncio.to_thread(
            open_stream, self._settings.kafka_properties, endpoint, list(principals.get(unit, ())),
            partitions=self._settings.stream_partitions,
        )  # fmt: skip
