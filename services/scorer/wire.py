"""HTTP as bare ASGI: a request's headers and body with their limits, and replies in one send."""

import asyncio
import re
import zlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson

from services.kit.errors import Refusal, TooLarge, Unauthorized, retry_after

from .v2.errors import LIMIT, BadInput

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = (b"content-type", b"application/json")
_BODY_S = 30.0
"""How long a body may take to arrive."""
_GZIP, _ZLIB, _RAW = 31, 15, -15
_WINDOWS = {b"gzip": (_GZIP,), b"x-gzip": (_GZIP,), b"deflate": (_ZLIB, _RAW)}
"""Some say deflate and mean it raw."""
_CODINGS = 4
"""Who compresses what is compressed does so once or twice."""
_WORTH_COMPRESSING = 1024
LARGE = 64 * 1024
"""A body beyond it is inflated and deflated beside the event loop."""
_NEVER = re.compile(rb";\s*q\s*=\s*0(\.0*)?\s*$")
_PIECE = 64 * 1024
_MEMBERS = 4096
"""A gzip body may be of several members (RFC 1952); of very many it is an attack."""


class Gone(Exception):
    """The caller hung up before its request was complete."""


class Unsupported(Refusal):
    """A content encoding that is not understood here."""

    status = 415
    title = "Unsupported media type"


class NotAllowed(Refusal):
    """There is something at this path, for other methods."""

    status = 405
    title = "Method not allowed"

    def __init__(self, methods: str) -> None:
        super().__init__(f"this path takes {methods}")
        self.methods = methods


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body. Raises TooLarge, Gone, or BadInput when it does not arrive."""
    message = await receive()
    if message["type"] != "http.request":
        raise Gone
    if not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise TooLarge(f"the body is larger than {limit} bytes")
        return body
    try:
        async with asyncio.timeout(_BODY_S):
            return await _rest(message, receive, limit)
    except TimeoutError:
        raise BadInput("the body did not arrive in time") from None


async def _rest(message: Message, receive: Receive, limit: int) -> bytes:
    pieces, size = [message.get("body", b"")], len(message.get("body", b""))
    while message.get("more_body"):
        message = await receive()
        if message["type"] != "http.request":
            raise Gone
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > limit:
            raise TooLarge(f"the body is larger than {limit} bytes")
    return b"".join(pieces)


def inflate(body: bytes, encoding: bytes, limit: int) -> bytes:
    """A compressed body as it was before. Raises TooLarge beyond the limit, whatever the header claims."""
    methods = [method for each in encoding.lower().split(b",") if (method := each.strip()) not in (b"", b"identity")]
    if strange := next((method for method in methods if method not in _WINDOWS), None):
        raise Unsupported(f"Content-Encoding {strange[:40].decode('latin-1')} is not understood; gzip and deflate are")
    if len(methods) > _CODINGS:
        raise Unsupported(f"Content-Encoding names {len(methods)} codings; {_CODINGS} are undone at most")
    for method in reversed(methods):  # in the order in which they were applied
        body = _undone(body, method, limit)
    return body


def inflate_little(body: bytes, encoding: bytes, limit: int) -> bytes | None:
    """As `inflate`, where that is soon done; None where it is not: a few bytes may become very many."""
    if len(body) > LARGE:
        return None
    try:
        return inflate(body, encoding, min(LARGE, limit))
    except TooLarge:
        if limit <= LARGE:
            raise
        return None


def _undone(body: bytes, method: bytes, limit: int) -> bytes:
    for window in _WINDOWS[method]:
        try:
            return _inflate(body, window, limit)
        except zlib.error:
            continue
    raise BadInput(f"the body is not what Content-Encoding {method.decode()} says")


def _inflate(body: bytes, window: int, limit: int) -> bytes:
    """Raises zlib.error for what is cut off or followed by something else."""
    pieces: list[bytes] = []
    size = members = at = 0
    stream = zlib.decompressobj(window)
    while at < len(body):
        if stream.eof:
            members += 1
            if window != _GZIP or members >= _MEMBERS:
                raise zlib.error("too much follows")
            stream = zlib.decompressobj(window)
        piece = body[at : at + _PIECE]  # what a member leaves of it is copied, so it must be small
        pieces.append(stream.decompress(piece, limit - size + 1))
        size += len(pieces[-1])
        if size > limit:
            raise TooLarge(f"the inflated body is larger than {limit} bytes")
        at += len(piece) - len(stream.unused_data) - len(stream.unconsumed_tail)
    if not stream.eof:
        raise zlib.error("cut off")
    return b"".join(pieces)


def deflate(body: bytes, accepted: bytes) -> tuple[bytes, bytes | None]:
    """A body as the caller wants it, and the encoding's name; small ones are left alone."""
    if len(body) < _WORTH_COMPRESSING:
        return body, None
    names = [one.split(b";")[0].strip() for one in accepted.lower().split(b",") if not _NEVER.search(one)]
    if b"gzip" in names:
        stream = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
        return stream.compress(body) + stream.flush(), b"gzip"
    if b"deflate" in names:
        return zlib.compress(body, 1), b"deflate"
    return body, None


_INTERESTING = frozenset({
    b"authorization", b"content-encoding", b"accept-encoding", b"inference-header-content-length",
    b"traceparent", b"fairlead-correlation-id", b"x-forwarded-for", b"forwarded", b"content-type",
    b"fairlead-timeout", b"fairlead-entity",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Head:
    """What a request says before its body, as far as somebody here reads it."""

    path: str
    headers: dict[bytes, bytes]
    """By lower-case name."""

    @classmethod
    def read(cls, path: str, headers: Iterable[tuple[bytes, bytes]]) -> "Head":
        """Of a request as the server parsed it; a header that comes again is joined by a comma, as HTTP says."""
        read: dict[bytes, bytes] = {}
        for name, value in headers:
            if name in _INTERESTING:
                read[name] = value if name not in read else read[name] + b", " + value
        return cls(path, read)


@dataclass(slots=True)
class Reply:
    """A whole answer."""

    status: int
    body: bytes
    headers: Sequence[tuple[bytes, bytes]] = (JSON,)

    def http(self, more: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
        """As HTTP/1.1 writes it, for who speaks to the connection itself; `more` headers are the server's."""
        said = b"".join([b"%b: %b\r\n" % header for header in (*more, *self.headers)])
        head = b"HTTP/1.1 %d %b\r\n%bcontent-length: %d\r\n\r\n"
        return head % (self.status, HTTPStatus(self.status).phrase.encode(), said, len(self.body)) + self.body

    async def send(self, send: Send) -> None:
        """Through ASGI, in one go."""
        length = (b"content-length", b"%d" % len(self.body))
        await send({"type": "http.response.start", "status": self.status, "headers": [*self.headers, length]})
        await send({"type": "http.response.body", "body": self.body})


async def reply(send: Send, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = (JSON,)) -> None:
    """A whole answer in one go."""
    await Reply(status, body, headers).send(send)


def refusing(refusal: Refusal, *, plain: bool) -> Reply:
    """An error: `{"error": …}` where the protocol has its own shape, else RFC 9457 problem details."""
    headers: list[tuple[bytes, bytes]] = [JSON] if plain else [(b"content-type", b"application/problem+json")]
    if (seconds := retry_after(refusal)) is not None:
        headers.append((b"retry-after", b"%d" % seconds))
    if isinstance(refusal, Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(refusal, NotAllowed):
        headers.append((b"allow", refusal.methods.encode()))
    message = refusal.message[:LIMIT]
    problem = {"type": "about:blank", "title": refusal.title, "status": refusal.status, "detail": message}
    return Reply(refusal.status, orjson.dumps({"error": message} if plain else problem), headers)
