"""uvicorn's HTTP/1.1, which goes on with a request whose caller offers another protocol.

The parser stops at such an offer (`Upgrade: h2c` of Java's HttpClient, of `curl --http2`) and its body is lost. A
server that does not take an offer ignores it (RFC 9110, 7.8), so the parser is not shown it.
"""

import re

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_END = b"\r\n\r\n"
_OFFER = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)


def without_offers(piece: bytes) -> bytes:
    """What begins a request, its offers of other protocols left out; its body stays as it is."""
    end = piece.find(_END)
    end = len(piece) if end < 0 else end
    head = piece[:end]
    return _OFFER.sub(b"", head) + piece[end:] if b"pgrade" in head.lower() else piece


class PlainHttp(HttpToolsProtocol):
    """For `uvicorn.Config(http=...)`."""

    _between = True
    """The parser has no part of a request."""

    def data_received(self, data: bytes) -> None:
        super().data_received(without_offers(data) if self._between else data)

    def on_message_begin(self) -> None:
        self._between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._between = True
        super().on_message_complete()
