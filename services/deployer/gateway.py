"""The pair of topics of a streaming endpoint, and who may use them."""

import asyncio
from typing import Protocol

from services.kit.kafka import Connection
from services.kit.provision import connect, endpoint_topics, ensure_acls, ensure_topics
from services.kit.rights import endpoint_rights

from .settings import DeployerSettings


class Streams(Protocol):
    """Makes a streaming endpoint's topics; asking again changes nothing."""

    async def open(self, endpoint: str, unit: str) -> None: ...


class KafkaStreams:
    """Topics and access rights in Kafka."""

    def __init__(self, settings: DeployerSettings) -> None:
        self._settings = settings

    async def open(self, endpoint: str, unit: str) -> None:
        """Create the endpoint's topics and let the unit's applications in. Raises ProvisionError."""
        await asyncio.to_thread(self._open, endpoint, self._settings.stream_principals.get(unit, ()))

    def _open(self, endpoint: str, principals: tuple[str, ...]) -> None:
        admin = connect(Connection.read(self._settings.kafka_properties).properties)
        ensure_topics(admin, endpoint_topics(endpoint))
        ensure_acls(admin, [right for principal in principals for right in endpoint_rights(principal, endpoint)])
