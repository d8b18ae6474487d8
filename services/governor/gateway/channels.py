"""Ways out to the people and systems that are told of alerts: over connections, and nowhere else (ADR 19)."""

import asyncio
import time
from uuid import UUID

import httpx

from services.governor.domain.delivery import key_of, signature
from services.governor.domain.routing import Channel
from services.kit.connections import Connections, HttpsConnection
from services.kit.errors import Invalid, Unavailable

WITHIN_S = 15.0
"""How long one attempt may take, its answer included."""
_REFUSING = frozenset({400, 410, 413, 415, 422})
"""What a server says of a message that it will never take; whatever else is no success may be mended meanwhile."""


class Undelivered(Exception):
    """An attempt that came to nothing, and why, in words of our own; `again`: another one may succeed."""

    def __init__(self, reason: str, *, again: bool = True) -> None:
        super().__init__(reason)
        self.again = again


class Channels:
    """Every kind of channel. Clients are kept: making one reads the machine's certificates."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._clients: dict[str, tuple[HttpsConnection, httpx.AsyncClient]] = {}

    def check(self, channel: Channel, unit: str, field: str) -> None:
        """Raises Invalid naming the member where nothing could be sent this way, Unavailable for a wrong connection."""
        try:
            secret = self._connections.https(channel.connection, unit).signing_secret()
            if secret is None:
                raise Invalid(f"connection: {channel.connection} has no `signing`: a webhook is signed", "connection")
            key_of(secret)
        except Invalid as error:
            said = error.message.removeprefix("connection: ")
            raise Invalid(f"{field}.connection: {said}", f"{field}.connection") from None

    async def send(self, channel: Channel, unit: str, id: UUID, body: bytes) -> None:
        """Hand a message over. Raises Undelivered."""
        try:
            async with asyncio.timeout(WITHIN_S):
                await self._post(channel, unit, id, body)
        except TimeoutError:
            raise Undelivered(f"no answer within {WITHIN_S:g} s") from None
        except (Invalid, Unavailable) as error:  # an administrator can mend the connection
            raise Undelivered(error.message) from None

    async def close(self) -> None:
        """Let go of all sockets."""
        for _, client in self._clients.values():
            await client.aclose()

    async def _post(self, channel: Channel, unit: str, id: UUID, body: bytes) -> None:
        connection = self._connections.https(channel.connection, unit)
        said = {"content-type": "application/json", "accept-encoding": "identity"} | connection.secrets()
        said |= _signed(connection, id, body)
        client = await self._client_of(connection)
        try:
            async with client.stream("POST", connection.at(channel.path), content=body, headers=said) as answer:
                status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Undelivered(f"it cannot be reached ({type(error).__name__})") from None
        if not 200 <= status < 300:
            raise Undelivered(f"it answers with status {status}", again=status not in _REFUSING)

    async def _client_of(self, connection: HttpsConnection) -> httpx.AsyncClient:
        """Another one when the administrator changed the connection."""
        known = self._clients.get(connection.name)
        if known and known[0] is connection:
            return known[1]
        client = await asyncio.to_thread(connection.client)
        self._clients[connection.name] = connection, client
        if known:
            await known[1].aclose()
        return client


def _signed(connection: HttpsConnection, id: UUID, body: bytes) -> dict[str, str]:
    """Headers as Standard Webhooks have them. Raises Invalid where the connection has lost its secret."""
    secret = connection.signing_secret()
    if secret is None:
        raise Invalid(f"connection {connection.name} has no `signing`", "connection")
    at = int(time.time())
    return {
        "webhook-id": str(id), "webhook-timestamp": str(at), "webhook-signature": signature(secret, id, at, body),
    }  # fmt: skip
