"""Ways out to the people and systems that are told of alerts: over connections, and nowhere else (ADR 19)."""

import asyncio
from uuid import UUID

from services.governor.domain.routing import Channel
from services.kit.connections import Connections
from services.kit.errors import Invalid, Unavailable

from .errors import Undelivered
from .mail import Mail
from .posts import Posts

WITHIN_S = 15.0
"""How long one attempt may take, its answer included."""


class Channels:
    """Every kind of channel."""

    def __init__(self, connections: Connections) -> None:
        self._posts, self._mail = Posts(connections), Mail(connections)

    def check(self, channel: Channel, unit: str, field: str) -> None:
        """Raises Invalid naming the member where nothing could be sent this way, Unavailable for a wrong connection."""
        way = self._mail if channel.kind == "email" else self._posts
        try:
            way.check(channel, unit)
        except Invalid as error:
            within = error.field if error.field and error.field.startswith("to.") else "connection"
            said = error.message.removeprefix(f"{within}: ")
            raise Invalid(f"{field}.{within}: {said}", f"{field}.{within}") from None

    async def send(self, channel: Channel, unit: str, id: UUID, body: bytes) -> str:
        """Hand a message over; answers what of it was not taken, empty where all was. Raises Undelivered."""
        if channel.kind == "unreadable":
            raise Undelivered("this version cannot read the channel", again=False)
        try:
            async with asyncio.timeout(WITHIN_S):
                if channel.kind == "email":
                    return await self._mail.send(channel, unit, id, body)
                await self._posts.send(channel, unit, id, body)
                return ""
        except TimeoutError:
            raise Undelivered(f"no answer within {WITHIN_S:g} s") from None
        except (Invalid, Unavailable) as error:  # an administrator can mend the connection
            raise Undelivered(error.message) from None

    async def close(self) -> None:
        """Let go of all sockets and threads."""
        await self._posts.close()
        await self._mail.close()
