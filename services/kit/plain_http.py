"""uvicorn's HTTP/1.1, which goes on where a caller offers another protocol, and waits for no request forever.

The parser stops at such an offer (`Upgrade: h2c` of Java's HttpClient, of `curl --http2`) and its body is lost. A
server that does not take an offer ignores it (RFC 9110, 7.8), so the parser is not shown it.

uvicorn closes a connection that is idle behind an answer; one that never asked, or sent a part of a request and no
more, it would keep for good, and each takes a descriptor of the process.
"""

import asyncio
import re
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

_END = b"\r\n\r\n"
_TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_OFFER = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)


def without_offers(piece: bytes) -> bytes:
    """What begins a request, its offers of other protocols left out; its body stays as it is."""
    end = piece.find(_END)
    end = len(piece) if end < 0 else end
    head = piece[:end]
    return _OFFER.sub(b"", head) + piece[end:] if b"pgrade" in head.lower() else piece


class PlainHttp(HttpToolsProtocol):
    """For `uvicorn.Config(http=...)`."""

    head_s: ClassVar[float] = 30.0
    """How long a head may take, from the connection or its first byte to its end; then 408, or nothing to one that said
    nothing, and the connection is closed. So is one of whose body nothing came for so long, or twice that at most."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._between = True
        """The parser has no part of a request."""
        self._in_head = False
        self._quiet = False
        """Nothing came since the timer was set, of a body that is being read."""
        self._due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._read(data)
        self._watch()

    def on_message_begin(self) -> None:
        self._between, self._in_head = False, True
        self._forget()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._between = True
        super().on_message_complete()

    def _read(self, data: bytes) -> None:
        super().data_received(without_offers(data) if self._between else data)

    def _idle(self) -> bool:
        """Whether uvicorn has nothing in hand on this connection."""
        cycle = cast(RequestResponseCycle | None, self.cycle)
        return cycle is None or cycle.response_complete

    def _watch(self) -> None:
        """After each piece: one timer while more of a request is due, none for one that came whole."""
        self._quiet = False
        due = not self._between or (self.timeout_keep_alive_task is None and self._idle())
        if due and self._due is None:
            self._due = self.loop.call_later(self.head_s, self._give_up)
        elif not due:
            self._forget()

    def _forget(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _give_up(self) -> None:
        self._due = None
        if self.transport.is_closing():
            return
        if not self._overdue():
            self._watch()
            self._quiet = not self.flow.read_paused
            return
        if not self._between and (self._in_head or not self.cycle.response_started):
            self.transport.write(_TOO_LATE)
        self.transport.close()

    def _overdue(self) -> bool:
        if self._between or self._in_head:
            return self._idle()  # else an answer is on its way, and a second request behind it is half here
        return self._quiet and not self.flow.read_paused
