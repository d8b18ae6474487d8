"""Passes a request on to another process of this host, without holding it in memory."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from services.kit.errors import Busy, NotFound, Unavailable
from services.kit.unanswered import unanswered

from .v2 import BadInput
from .wire import Gone, Receive, Scope, Send

_HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"te", b"upgrade", b"host", b"trailer"})
_FROM_OUTSIDE = (b"x-forwarded-for", b"worker")
"""On loopback too, a request that was passed on is not one of this host's own."""
_LONGEST_URL = 8192
_WHO = "part of the scorer that does this"
_TIMEOUT = httpx.Timeout(60.0, connect=2.0)
_AT_ONCE_EACH = 64
"""A body may come as slowly as its caller likes: each of them can hold up itself alone."""
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20)


class Proxy:
    """What another process answers, for callers who are known: so many requests at once of each."""

    def __init__(self, port: Path) -> None:
        self._port = port
        self._client = httpx.AsyncClient(timeout=_TIMEOUT, limits=_LIMITS, trust_env=False)
        self._open = Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send, caller: str) -> None:
        """Raises Busy for one who has too many open, and what says that there was no answer."""
        if self._open[caller] >= _AT_ONCE_EACH:
            raise Busy(f"{_AT_ONCE_EACH} requests of this caller are open; try again when some of them have ended")
        self._open[caller] += 1
        try:
            await self._answered(scope, receive, send)
        finally:
            self._open[caller] -= 1
            self._open += Counter()  # without those who have none

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        if {".", ".."} & set(scope["path"].split("/")):
            # Clients and servers drop such segments at different times: it would lead to another path than was seen.
            raise NotFound("there is nothing at this path")
        if len(scope["raw_path"]) + len(scope["query_string"]) > _LONGEST_URL:
            raise BadInput("the URL is too long")
        query = scope["query_string"].decode("latin-1")
        url = self._url() + scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
        headers = [*((name, value) for name, value in scope["headers"] if name not in _HOP), _FROM_OUTSIDE]
        request = self._client.build_request(scope["method"], url, content=_body(receive), headers=headers)
        try:
            response = await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            raise unanswered(_WHO, scope["method"], error) from error
        try:
            await _pass_on(response, send)
        finally:
            await response.aclose()

    def _url(self) -> str:
        try:
            return f"http://127.0.0.1:{int(self._port.read_text())}"
        except (FileNotFoundError, ValueError):
            raise Unavailable(f"the {_WHO} is not up; nothing was done") from None


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Gone
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


async def _pass_on(response: httpx.Response, send: Send) -> None:
    headers = [(name.lower(), value) for name, value in response.headers.raw if name.lower() not in _HOP]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    async for piece in response.aiter_raw():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
