"""The worker's protocol without a socket: which way a request goes, and that nothing is read for what it is not."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from services.kit.testing import eventually
from services.scorer.asgi import ASKED
from services.scorer.direct import DirectProtocol, Heads
from services.scorer.draining import CLOSE
from services.scorer.served import Ask
from services.scorer.wire import Head, Reply

from .living import request


@dataclass
class App:
    """An application of which one sees what reached it, and how."""

    answers: Reply | Ask | Exception
    at_once_of: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])
    scopes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def at_once(self, head: Head, body: bytes) -> Reply | Ask:
        self.at_once_of.append((head.path, body))
        if isinstance(self.answers, Exception):
            raise self.answers
        return self.answers

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        await Reply(200, (await receive())["body"]).send(send)


class Wire(asyncio.Transport):
    """A connection's other end."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def connected(app: App, *headers: tuple[bytes, bytes]) -> tuple[DirectProtocol, Wire]:
    config = uvicorn.Config(
        cast(Any, app),
        ws="none",
        log_config=None,
        lifespan="off",
        interface="asgi3",
        access_log=False,
        proxy_headers=False,
    )
    state = ServerState()
    state.default_headers = list(headers)
    protocol, wire = DirectProtocol(config, state, {}), Wire()
    protocol.connection_made(wire)
    return protocol, wire


_WHOLE = request("t", b"abc")
_DONE = Reply(200, b"done")


@pytest.fixture(autouse=True, params=["head-unknown", "head-known"])
async def heads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Heads:
    """Each test of a protocol once without and once with a head that was read before."""
    monkeypatch.setattr(DirectProtocol, "heads", Heads())
    if request.param == "head-known":
        protocol, _ = connected(App(_DONE))
        protocol.data_received(_WHOLE)
        protocol.connection_lost(None)
        assert protocol.heads.find(_WHOLE)
    return DirectProtocol.heads


async def test_a_whole_request_is_answered_in_the_step_that_received_it() -> None:
    app = App(_DONE)
    protocol, wire = connected(app, (b"date", b"now"))
    protocol.data_received(_WHOLE)
    assert (
        wire.sent == b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\ndone"
    )
    assert app.at_once_of == [("/v2/models/credit/infer", b"abc")]
    assert protocol.timeout_keep_alive_task is not None
    protocol.connection_lost(None)


async def test_one_of_a_piece_at_most_so_that_no_connection_holds_the_loop() -> None:
    app = App(_DONE)
    protocol, wire = connected(app)
    protocol.data_received(_WHOLE * 3)
    assert len(app.at_once_of) == 1
    assert protocol.timeout_keep_alive_task is None
    await eventually(lambda: wire.sent.count(b"HTTP/1.1 200 OK") == 3)
    protocol.connection_lost(None)


@pytest.mark.parametrize(
    "other",
    [
        request("t", b"abc", Connection="close"),
        request("t", b"abc", Expect="100-continue"),
        request("t", b"abc").replace(b"HTTP/1.1", b"HTTP/1.0"),
        request("t", b"abc").replace(b"/infer ", b"/infer?x=/infer "),
        request("t", b"abc", "cr%65dit"),
        request("t", b"abc").replace(b"POST ", b"PUT "),
    ],
)
async def test_what_is_not_plain_goes_uvicorns_way(other: bytes) -> None:
    app = App(_DONE)
    protocol, wire = connected(app)
    protocol.data_received(other)
    await eventually(lambda: b"200 OK" in wire.sent)
    assert (len(app.at_once_of), len(app.scopes)) == (0, 1)
    protocol.connection_lost(None)


@pytest.mark.parametrize("offer", ["websocket", "h2c"])
async def test_an_offer_of_another_protocol_is_not_taken_and_the_request_answered(offer: str) -> None:
    app = App(_DONE)
    protocol, wire = connected(app)
    for count in (1, 2):
        protocol.data_received(request("t", b"abc", Connection="upgrade", Upgrade=offer))
        assert wire.sent.count(b"HTTP/1.1 200 OK") == len(app.at_once_of) == count
    protocol.connection_lost(None)


async def test_a_body_in_pieces_goes_uvicorns_way_whole() -> None:
    app = App(_DONE)
    protocol, wire = connected(app)
    for at in range(len(_WHOLE)):
        protocol.data_received(_WHOLE[at : at + 1])
    await eventually(lambda: wire.sent.endswith(b"abc"))
    assert app.at_once_of == []
    protocol.connection_lost(None)


async def test_a_worker_that_drains_leaves_it_to_uvicorn_to_say_so() -> None:
    app = App(_DONE)
    protocol, wire = connected(app, CLOSE)
    protocol.data_received(_WHOLE)
    await eventually(lambda: wire.sent.endswith(b"abc"))
    assert app.at_once_of == []
    assert b"connection: close" in wire.sent
    protocol.connection_lost(None)


async def test_a_caller_that_does_not_read_is_left_to_uvicorn_which_waits_for_it() -> None:
    app = App(_DONE)
    protocol, wire = connected(app)
    protocol.pause_writing()
    protocol.data_received(_WHOLE)
    await eventually(lambda: app.scopes)
    assert (app.at_once_of, wire.sent) == ([], b"")
    protocol.resume_writing()
    await eventually(lambda: wire.sent.endswith(b"abc"))
    protocol.connection_lost(None)


async def test_what_must_wait_is_handed_on_as_far_as_it_was_read() -> None:
    ask = Ask(b"abc")
    app = App(ask)
    protocol, wire = connected(app)
    protocol.data_received(_WHOLE)
    assert wire.sent == b""
    await eventually(lambda: wire.sent.endswith(b"abc"))
    assert app.scopes[0]["extensions"][ASKED] is ask
    protocol.connection_lost(None)


async def test_an_error_of_ours_is_no_error_of_the_callers() -> None:
    protocol, wire = connected(App(ValueError("oops")))
    protocol.data_received(_WHOLE)
    assert wire.sent.startswith(b"HTTP/1.1 500 ")
    assert b"oops" not in wire.sent
    protocol.connection_lost(None)


async def test_a_head_that_was_read_before_is_not_read_again() -> None:
    app = App(_DONE)
    first, _ = connected(app)
    first.data_received(_WHOLE)
    second, wire = connected(app)
    second.data_received(_WHOLE[:-3] + b"xyz")
    assert not hasattr(second, "url")
    assert wire.sent.endswith(b"done")
    assert [body for _, body in app.at_once_of] == [b"abc", b"xyz"]
    assert second.timeout_keep_alive_task is not None
    for protocol in (first, second):
        protocol.connection_lost(None)


@pytest.mark.parametrize(
    "other",
    [
        request("t", b"abcd"),
        request("u", b"abc"),
        request("t", b"abc", "credit/versions/1"),
        request("t", b"abc", Transfer_Encoding="chunked"),
    ],
)
async def test_a_head_that_differs_in_one_byte_is_another(other: bytes, heads: Heads) -> None:
    assert heads.find(other) is None


@pytest.mark.parametrize(
    "begun",
    [
        b"POST /elsewhere HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(_WHOLE),
        b"POST /elsewhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(_WHOLE),
    ],
)
async def test_a_known_request_inside_another_ones_body_is_its_body(begun: bytes) -> None:
    app = App(_DONE)
    protocol, wire = connected(app)
    protocol.data_received(begun)
    protocol.data_received(_WHOLE)
    if b"chunked" in begun:
        protocol.data_received(b"\r\n0\r\n\r\n")
    await eventually(lambda: wire.sent.endswith(_WHOLE))
    assert app.at_once_of == []
    protocol.connection_lost(None)


async def test_a_known_request_inside_another_ones_head_is_its_head() -> None:
    app = App(_DONE)
    protocol, wire = connected(app)
    protocol.data_received(b"POST /elsewhere HTTP/1.1\r\nHost: x\r\nX-Begun: ")
    protocol.data_received(_WHOLE)
    await eventually(lambda: b"200 OK" in wire.sent)
    assert app.at_once_of == []
    assert (b"x-begun", b"POST /v2/models/credit/infer HTTP/1.1") in app.scopes[0]["headers"]
    protocol.connection_lost(None)


async def test_heads_that_never_come_again_take_a_bounded_room(heads: Heads) -> None:
    app = App(_DONE)
    protocol, _ = connected(app)
    for number in range(2000):
        protocol.data_received(request("t", b"abc", X_Request=str(number)))
    assert 0 < len(heads) <= 512
    protocol.connection_lost(None)


async def test_a_half_sent_head_is_given_up_and_whole_requests_need_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DirectProtocol, "head_s", 0.2)
    protocol, wire = connected(App(_DONE))
    protocol.data_received(_WHOLE)
    assert protocol._due is None
    protocol.data_received(_WHOLE[:20])
    await eventually(lambda: wire.closed)
    assert wire.sent.endswith(b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
    protocol.connection_lost(None)
    silent, wire = connected(App(_DONE))
    await eventually(lambda: wire.closed)
    assert wire.sent == b""
    silent.connection_lost(None)
