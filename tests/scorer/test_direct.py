"""The short way and uvicorn's: a request is answered alike, however it comes in."""

import gzip
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import orjson
import pytest

from services.scorer.logrecord import LogRecord

from .living import Worker, request, rows
from .making import House, classifier

_GOOD = orjson.dumps(rows([1, 2, 3], [-1, -1, -1], id="r-1", parameters={"entity": "customer-7"}))
_LARGE = orjson.dumps(rows(*np.random.default_rng(3).normal(size=(5000, 3)).tolist()))
_ALIKE = orjson.dumps(rows(*[[1.0, 2.0, 3.0]] * 20_000))
"""Much that becomes little."""


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
        ("credit", gzip.compress(_LARGE), {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}, 200),
        ("credit", gzip.compress(_ALIKE), {"Content-Encoding": "gzip"}, 200),
        ("credit", gzip.compress(_LARGE)[:-9], {"Content-Encoding": "gzip"}, 400),
        ("credit", _LARGE, {"Accept-Encoding": "gzip"}, 200),
        ("credit", b"{", {}, 400),
        ("credit", orjson.dumps(rows([1.0, 2.0])), {}, 400),
        ("credit", _GOOD, {"Inference-Header-Content-Length": "x"}, 400),
        ("credit", _GOOD, {"Content-Encoding": "br"}, 415),
        ("credit", _GOOD, {"Authorization": "Bearer x"}, 401),
        ("credit/versions/7", _GOOD, {}, 404),
        ("credit/versions/x", _GOOD, {}, 404),
        ("nothing", _GOOD, {}, 404),
    ],
    ids=lambda said: "body" if isinstance(said, bytes) else None,
)
def test_a_request_is_answered_alike_whole_and_again_and_in_pieces(
    worker: Worker, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    whole = request(worker.house.token(), body, path, **headers)
    cut = len(whole) - len(body) // 2 - 1
    (one, again), (other,) = asked(worker, whole, whole, answers=2), asked(worker, whole[:cut], whole[cut:])
    assert one.status == status
    assert one.alike() == again.alike() == other.alike()


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
