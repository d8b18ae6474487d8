"""Messages by HTTP: signed webhooks, and Alertmanager's own API."""

import asyncio
import time
from collections.abc import Sequence
from uuid import UUID

import httpx

from services.governor.domain.delivery import signatures
from services.governor.domain.routing import Channel
from services.kit.connections import Connections, HttpsConnection
from services.kit.errors import Invalid

from .errors import Undelivered

_REFUSING = frozenset({400, 410, 413, 415, 422})
"""What a server says of a message that it will never take; whatever else is no success may be mended meanwhile."""
_ALERTMANAGER = "/api/v2/alerts"


class Posts:
    """Clients are kept: making one reads the machine's certificates."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._clients: dict[str, tuple[HttpsConnection, httpx.AsyncClient]] = {}

    def check(self, channel: Channel, unit: str) -> None:
        """Raises Invalid where nothing could be sent this way, Unavailable for a wrong connection."""
        connection = self._connections.https(channel.connection, unit)
        if channel.kind == "webhook":
            signatures(_secrets(connection), UUID(int=0), 0, b"")

    async def send(self, channel: Channel, unit: str, id: UUID, body: bytes) -> None:
        """Hand a message over. Raises Undelivered, Invalid and Unavailable."""
        connection = self._connections.https(channel.connection, unit)
        said = {"content-type": "application/json", "accept-encoding": "identity"} | connection.secrets()
        path = channel.path.rstrip("/") + _ALERTMANAGER if channel.kind == "alertmanager" else channel.path
        if channel.kind == "webhook":
            said |= _signed(_secrets(connection), id, body)
        client = await self._client_of(connection)
        try:
            async with client.stream("POST", connection.at(path), content=body, headers=said) as answer:
                status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Undelivered(f"it cannot be reached ({type(error).__name__})") from None
        if not 200 <= status < 300:
            raise Undelivered(f"it answers with status {status}", again=status not in _REFUSING)

    async def close(self) -> None:
        """Let go of all sockets."""
        for _, client in self._clients.values():
            await client.aclose()

    async def _client_of(self, connection: HttpsConnection) -> httpx.AsyncClient:
        """Another one when the administrator changed the connection."""
        known = self._clients.get(connection.name)
        if known and known[0] is connection:
            return known[1]
        client = await asyncio.to_thread(connection.client)
        known = self._clients.get(connection.name)
        if known and known[0] is connection:  # another message made one meanwhile, and is using it
            await client.aclose()
            return known[1]
        self._clients[connection.name] = connection, client
        if known:
            await known[1].aclose()
        return client


def _secrets(connection: HttpsConnection) -> list[str]:
    if secrets := connection.signing_secrets():
        return secrets
    raise Invalid(f"connection: {connection.name} has no `signing`, and a webhook is signed", "connection")


def _signed(secrets: Sequence[str], id: UUID, body: bytes) -> dict[str, str]:
    """Headers as Standard Webhooks have them."""
    at = int(time.time())
    return {
        "webhook-id": str(id), "webhook-timestamp": str(at), "webhook-signature": signatures(secrets, id, at, body),
    }  # fmt: skip
