"""The short way of a request: what came whole and can be answered now is, in the step that received it."""

from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from services.kit.telemetry import get_logger

from .asgi import ASKED, ScorerApp
from .dataplane import Ask
from .draining import CLOSE
from .wire import Reply

log = get_logger(__name__)


class DirectProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with inference beside its way: no task, scope or queue for what needs none of them.

    One request of each piece that is received, at most, so that no connection holds the loop. Whatever is not a whole
    request of an idle connection goes uvicorn's way, and is answered alike.
    """

    app: ScorerApp

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._held: list[bytes] | None = None
        """The body so far of a request that may go the short way."""
        self._answered = False

    def data_received(self, data: bytes) -> None:
        self._answered = False
        super().data_received(data)
        if self._held is not None:
            self._give_over()
        if self._answered and self._idle():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_headers_complete(self) -> None:
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
        if self._held is None:
            super().on_message_complete()
            return
        answer = self._answer(b"".join(self._held))
        if isinstance(answer, Ask):
            cast(dict[str, Any], self.scope)["extensions"] = {ASKED: answer}
            self._give_over()
            super().on_message_complete()
            return
        self._held = None
        self._answered = True
        self.server_state.total_requests += 1
        self.transport.write(answer.http(self.server_state.default_headers))

    def _answer(self, body: bytes) -> Reply | Ask:
        try:
            return self.app.at_once(self.url.decode("ascii"), self.headers, body)
        except Exception:  # an error of ours: the parser would take it for one of the caller's
            log.exception("a request failed")
            return Reply(500, b'{"error":"the scorer failed; its log says why"}')

    def _short(self) -> bool:
        url, parser = self.url, self.parser
        return (
            url.endswith(b"/infer") and url.startswith(b"/v2/models/") and b"%" not in url and b"?" not in url
            and url.isascii() and self._idle() and not self._answered and not self.expect_100_continue
            and parser is not None and parser.get_method() == b"POST" and parser.get_http_version() == "1.1"
            and parser.should_keep_alive() and not parser.should_upgrade()
            and CLOSE not in self.server_state.default_headers and not self.flow.write_paused
        )  # fmt: skip

    def _idle(self) -> bool:
        """Whether uvicorn has nothing in hand on this connection."""
        cycle = cast(RequestResponseCycle | None, self.cycle)
        return cycle is None or cycle.response_complete

    def _give_over(self) -> None:
        """To uvicorn, with what was held of it."""
        held, self._held = self._held or [], None
        super().on_headers_complete()
        for piece in held:
            super().on_body(piece)
