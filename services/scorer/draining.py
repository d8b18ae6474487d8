"""How a worker leaves while others go on: it lets each caller know before it closes the connection."""

import asyncio
import socket

import uvicorn

CLOSE = (b"connection", b"close")
_GRACE_S = 1.0
"""Connections that ask at least this often are closed behind an answer, never under a request."""
_LOOK_S = 0.02


class DrainingServer(uvicorn.Server):
    """Accepts nothing more, answers with `Connection: close` for a moment, and only then closes what is idle.

    uvicorn closes idle connections at once: a request on its way then gets a reset, though a second worker lives.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then stop as uvicorn does."""
        for server in self.servers:
            server.close()
        state, loop = self.server_state, asyncio.get_running_loop()
        state.default_headers = [*state.default_headers, CLOSE]
        ends = loop.time() + _GRACE_S
        while state.connections and loop.time() < ends:
            await asyncio.sleep(_LOOK_S)
        await super().shutdown(sockets)
