"""The short way and uvicorn's: a request is answered alike, however it comes in."""

import asyncio
import gzip
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

import orjson
import pytest
import uvicorn
from uvicorn.server import ServerState

from services.kit.testing import eventually
from services.scorer.asgi import ASKED
from services.scorer.dataplane import Ask
from services.scorer.direct import DirectProtocol
from services.scorer.draining import CLOSE
from services.scorer.logrecord import LogRecord
from services.scorer.wire import Reply

from .living import Worker, rows
from .making import House, classifier

_GOOD = orjson.dumps(rows([1, 2, 3], [-1, -1, -1], id="r-1", parameters={"entity": "customer-7"}))


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    house = House(tmp_path_factory.mktemp("direct") / "home")
    with Worker(house) as one:
        one.deploy(house.serving("credit", classifier()))
        yield one


@dataclass(frozen=True)
class Said:
    """One answer off a connection."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def read(cls, file: BinaryIO) -> "Said":
        status = int(file.readline().split()[1])
        headers: dict[str, str] = {}
        while (line := file.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            headers[name] = value
        return cls(status, headers, file.read(int(headers["content-length"])))

    def alike(self) -> tuple[Any, ...]:
        """All that does not tell one decision or moment from another."""
        headers = {n: v for n, v in self.headers.items() if n not in ("date", "fairlead-inference-id")}
        plain = gzip.decompress(self.body) if "content-encoding" in headers else self.body
        body: dict[str, Any] = orjson.loads(plain)
        body.get("parameters", {}).pop("inference_id", None)
        return self.status, {**headers, "content-length": ""}, body


def request(token: str, body: bytes, path: str = "credit", **headers: str) -> bytes:
    """A whole request as bytes."""
    said = {"Host": "x", "Authorization": f"Bearer {token}", "Content-Length": str(len(body))} | headers
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in said.items())
    return f"POST /v2/models/{path}/infer HTTP/1.1\r\n{lines}\r\n".encode() + body


def asked(worker: Worker, *pieces: bytes, answers: int = 1) -> list[Said]:
    """What one connection is answered for pieces that arrive one after the other."""
    with socket.create_connection(worker.listening.getsockname(), timeout=10) as raw, raw.makefile("rb") as file:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            raw.sendall(piece)
            time.sleep(0.02)  # so that it is a piece of its own
        return [Said.read(file) for _ in range(answers)]


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("credit", _GOOD, {}, 200),
        ("credit/versions/1", _GOOD, {}, 200),
        ("credit", _GOOD, {"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, 200),
        ("credit", gzip.compress(_GOOD), {"Content-Encoding": "gzip"}, 200),
        ("credit", orjson.dumps(rows(*[[1.0, 2.0, 3.0]] * 400)), {"Accept-Encoding": "gzip"}, 200),
        ("credit", orjson.dumps(rows(*[[1.0, 2.0, 3.0]] * 5000)), {}, 200),
        ("credit", b"{", {}, 400),
        ("credit", orjson.dumps(rows([1.0, 2.0])), {}, 400),
        ("credit", _GOOD, {"Inference-Header-Content-Length": "x"}, 400),
        ("credit", _GOOD, {"Content-Encoding": "br"}, 415),
        ("credit", _GOOD, {"Authorization": "Bearer x"}, 401),
        ("credit/versions/7", _GOOD, {}, 404),
        ("credit/versions/x", _GOOD, {}, 404),
        ("nothing", _GOOD, {}, 404),
    ],
)
def test_a_request_is_answered_alike_whole_and_in_pieces(
    worker: Worker, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    whole = request(worker.house.token(), body, path, **headers)
    cut = len(whole) - len(body) // 2 - 1
    (one,), (other,) = asked(worker, whole), asked(worker, whole[:cut], whole[cut:])
    assert one.status == status
    assert one.alike() == other.alike()


def test_every_answer_to_either_is_in_the_spool_once(worker: Worker) -> None:
    whole = request(worker.house.token(), _GOOD)
    before = len(worker.spooled())
    said = asked(worker, whole) + asked(worker, whole[:-1], whole[-1:])
    ids = [one.headers["fairlead-inference-id"] for one in said]
    logged = [LogRecord.from_spool(payload).inference_id for _, payload in worker.spooled()[before:]]
    assert logged == ids


def test_requests_that_come_together_are_answered_in_their_order(worker: Worker) -> None:
    token = worker.house.token()
    one = [request(token, orjson.dumps(rows([1, 2, 3], id=f"r-{number}"))) for number in range(9)]
    one.insert(4, request(token, b"{"))
    one.insert(6, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    said = [orjson.loads(answer.body) for answer in asked(worker, b"".join(one), answers=len(one))]
    assert "error" in said.pop(4)
    assert said.pop(5) == {"live": True, "status": "live"}
    assert [answer["id"] for answer in said] == [f"r-{number}" for number in range(9)]


def test_who_wants_the_connection_closed_gets_it_closed(worker: Worker) -> None:
    whole = request(worker.house.token(), _GOOD, Connection="close")
    with socket.create_connection(worker.listening.getsockname(), timeout=10) as raw, raw.makefile("rb") as file:
        raw.sendall(whole)
        assert Said.read(file).headers["connection"] == "close"
        assert file.read() == b""


# The protocol itself, without a socket: which way a request goes


@dataclass
class App:
    """An application of which one sees what reached it, and how."""

    answers: Reply | Ask | Exception
    at_once_of: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])
    scopes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def at_once(self, path: str, headers: Any, body: bytes) -> Reply | Ask:
        self.at_once_of.append((path, body))
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
        request("t", b"abc", Connection="upgrade", Upgrade="websocket"),
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
