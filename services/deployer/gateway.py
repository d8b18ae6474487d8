"""The pair of topics of a streaming endpoint, and who may use them."""

import asyncio
from typing import Protocol

from services.kit.kafka import Connection
from services.kit.provision import (
    AdminClient,
    connect,
    delete_acls,
    delete_topic_acls,
    endpoint_topics,
    ensure_acls,
    ensure_topics,
)
from services.kit.rights import endpoint_rights

from .settings import DeployerSettings


class Streams(Protocol):
    """Makes a streaming endpoint's topics and lets its unit in; asking again changes nothing.

    Both raise ProvisionAway where Kafka may do it later, ProvisionRefused where it never will.
    """

    async def open(self, endpoint: str, unit: str) -> None:
        """Create the endpoint's topics; let this unit's applications in, and no other unit's."""
        ...

    async def close(self, endpoint: str) -> None:
        """Nobody but services and the operator may use the endpoint's topics any more."""
        ...


class KafkaStreams:
    """Topics and access rights in Kafka."""

    def __init__(self, settings: DeployerSettings) -> None:
        self._settings = settings

    async def open(self, endpoint: str, unit: str) -> None:
        """Create the endpoint's topics; let this unit's applications in, and no other unit's."""
        await asyncio.to_thread(self._open, endpoint, unit)

    async def close(self, endpoint: str) -> None:
        """Nobody but services and the operator may use the endpoint's topics any more."""
        await asyncio.to_thread(self._close, endpoint)

    def _open(self, endpoint: str, unit: str) -> None:
        admin, principals = self._admin(), self._settings.stream_principals
        friends = principals.get(unit, ())
        strangers = {name for names in principals.values() for name in names} - set(friends)
        ensure_topics(admin, endpoint_topics(endpoint))
        delete_acls(admin, [right for name in sorted(strangers) for right in endpoint_rights(name, endpoint)])
        ensure_acls(admin, [right for name in friends for right in endpoint_rights(name, endpoint)])

    def _close(self, endpoint: str) -> None:
        delete_topic_acls(self._admin(), [topic.name for topic in endpoint_topics(endpoint)])

    def _admin(self) -> AdminClient:
        return connect(Connection.read(self._settings.kafka_properties).properties)
