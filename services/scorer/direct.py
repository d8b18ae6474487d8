"""The short way of a request: what came whole and can be answered now is, in the step that received it."""

from typing import Any, ClassVar, cast

from services.kit.plain_http import PlainHttp
from services.kit.telemetry import get_logger

from .asgi import ASKED, ScorerApp
from .draining import CLOSE
from .patience import LINE, Line
from .served import Ask
from .wire import Head, Reply

log = get_logger(__name__)

_END = b"\r\n\r\n"
_LONGEST = 4096
_HEADS = 512


class Heads:
    """Heads as the parser read them. Callers send the same ones again and again, and the same bytes say the same."""

    def __init__(self) -> None:
        self._read: dict[bytes, tuple[Head, int]] = {}

    def __len__(self) -> int:
        return len(self._read)

    def find(self, piece: bytes) -> tuple[Head, bytes] | None:
        """The head and body of a piece that is one whole request with a known head."""
        end = piece.find(_END, 0, _LONGEST)
        found = self._read.get(piece[:end]) if end > 0 else None
        if found is None or len(piece) != end + len(_END) + found[1]:
            return None
        return found[0], piece[end + len(_END) :]

    def keep(self, piece: bytes, head: Head, length: int) -> None:
        """Of a piece that began a request, where it is that one request and no more."""
        end = piece.find(_END, 0, _LONGEST)
        if end <= 0 or len(piece) != end + len(_END) + length:
            return
        if len(self._read) >= _HEADS:  # heads with an id of their own never come again
            self._read.clear()
        self._read[piece[:end]] = head, length


class DirectProtocol(PlainHttp):
    """uvicorn's protocol, with inference beside its way: no task, scope or queue for what needs none of them.

    One request of each piece that is received, at most, so that no connection holds the loop. Whatever is not a whole
    request of an idle connection goes uvicorn's way, and is answered alike.
    """

    app: ScorerApp
    heads: ClassVar[Heads] = Heads()

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._held: list[bytes] | None = None
        """The body so far of a request that may go the short way."""
        self._ask: Ask | None = None
        """A request that was read without the parser and must wait."""
        self._piece = b""
        """What the parser is given, where it begins a request."""
        self._answered = False
        self._line = Line()

    def connection_lost(self, exc: Exception | None) -> None:
        self._line.lost()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(dict[str, Any], self.scope)["extensions"] = {LINE: self._line}

    def data_received(self, data: bytes) -> None:
        self._answered = False
        if not (self._between and self._free() and self._repeated(data)):
            self._parse(data)
        if self._answered and self._idle():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        self._watch()

    def _repeated(self, data: bytes) -> bool:
        """Answer a whole request with a head that was read before."""
        known = self.heads.find(data)
        if known is None:
            return False
        answer = self._answer(*known)
        if not isinstance(answer, Reply):
            self._ask = answer
            return False
        self._unset_keepalive_if_required()
        self._reply(answer)
        return True

    def _parse(self, data: bytes) -> None:
        self._piece = data if self._between else b""
        self._read(data)
        self._piece, self._ask = b"", None
        if self._held is not None:
            self._give_over()

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._short():
            self._held = []
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._held is None:
            super().on_body(body)
        else:
            self._held.append(body)

    def on_message_complete(self) -> None:
        self._between = True
        if self._held is None:
            super().on_message_complete()
            return
        answer = self._ask or self._first(b"".join(self._held))
        if not isinstance(answer, Reply):
            if answer is not None:
                cast(dict[str, Any], self.scope)["extensions"][ASKED] = answer
            self._give_over()
            super().on_message_complete()
            return
        self._held = None
        self._reply(answer)

    def _first(self, body: bytes) -> Reply | Ask | None:
        """Answer what the parser read; the next one with this head is found without it."""
        head = Head.read(self.url.decode("ascii"), self.headers)
        self.heads.keep(self._piece, head, len(body))
        return self._answer(head, body)

    def _answer(self, head: Head, body: bytes) -> Reply | Ask | None:
        try:
            return self.app.at_once(head, body)
        except Exception:  # an error of ours: the parser would take it for one of the caller's
            log.exception("a request failed")
            return Reply(500, b'{"error":"the scorer failed; its log says why"}')

    def _reply(self, answer: Reply) -> None:
        self._answered = True
        self.server_state.total_requests += 1
        self.transport.write(answer.http(self.server_state.default_headers))

    def _short(self) -> bool:
        url, parser = self.url, self.parser
        return (
            url.endswith(b"/infer") and url.startswith(b"/v2/models/") and b"%" not in url and b"?" not in url
            and url.isascii() and self._free() and not self._answered and not self.expect_100_continue
            and parser is not None and parser.get_method() == b"POST" and parser.get_http_version() == "1.1"
            and parser.should_keep_alive() and not parser.should_upgrade()
        )  # fmt: skip

    def _free(self) -> bool:
        """Whether an answer could be written now."""
        return self._idle() and not self.flow.write_paused and CLOSE not in self.server_state.default_headers

    def _give_over(self) -> None:
        """To uvicorn, with what was held of it."""
        held, self._held = self._held or [], None
        super().on_headers_complete()
        for piece in held:
            super().on_body(piece)
