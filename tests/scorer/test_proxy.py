"""What the scorer passes on to its other processes: a broken connection is not one that never was."""

import asyncio
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.kit.errors import AnswerLost, Busy, Refusal, Unavailable
from services.kit.testing import eventually
from services.scorer.asgi import ScorerApp
from services.scorer.dataplane import DataPlane
from services.scorer.follower import Follower
from services.scorer.proxy import Proxy
from services.scorer.spool import Spool
from services.scorer.wire import Gone

from .making import House


def asking(method: str, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {
        "type": "http", "method": method, "path": "/v1/batches", "raw_path": b"/v1/batches", "query_string": b"",
        "headers": headers,
    }  # fmt: skip


async def refusal(port: Path, method: str) -> Refusal:
    """How the proxy refuses a small request of this method."""
    scope = asking(method)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Any) -> None:
        raise AssertionError(f"nothing can be answered: {message}")

    with pytest.raises(Refusal) as refused:
        await Proxy(port)(scope, receive, send, "application")
    return refused.value


@asynccontextmanager
async def taking_and_leaving(port: Path) -> AsyncIterator[list[bytes]]:
    """A process that reads a request and dies of it."""
    taken: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        port.write_text(str(server.sockets[0].getsockname()[1]))
        yield taken


@pytest.mark.parametrize(("method", "kind"), [("POST", AnswerLost), ("DELETE", AnswerLost), ("GET", Unavailable)])
async def test_a_write_that_was_taken_and_never_answered_may_have_been_done(
    tmp_path: Path, method: str, kind: type[Refusal]
) -> None:
    async with taking_and_leaving(tmp_path / "port") as taken:
        refused = await refusal(tmp_path / "port", method)
    assert len(taken) == 1
    assert type(refused) is kind


async def test_without_a_connection_nothing_was_done(tmp_path: Path) -> None:
    port = tmp_path / "port"
    assert type(await refusal(port, "POST")) is Unavailable
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        port.write_text(str(deaf.getsockname()[1]))
        refused = await refusal(port, "POST")
    assert type(refused) is Unavailable
    assert "nothing was done" in refused.message


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "home")


@pytest.fixture
def app(house: House) -> Iterator[ScorerApp]:
    plane = DataPlane(house.settings)
    spool = Spool(house.settings.spool_folder / "0", limit=1 << 20, segment_bytes=1 << 20)
    made = ScorerApp(house.settings, "worker-0", plane, spool, Follower(plane, house.settings, "worker-0"))
    yield made
    REGISTRY.unregister(made._counters)
    spool.close()


async def test_nothing_is_read_of_who_shows_no_token(app: ScorerApp, house: House) -> None:
    async def unread() -> dict[str, Any]:
        raise AssertionError("nobody knows who that is")

    async def answered(*headers: tuple[bytes, bytes]) -> int:
        said: list[Any] = []

        async def send(message: Any) -> None:
            said.append(message)

        await app(asking("POST", *headers), unread, send)
        return said[0]["status"]

    basic = b64encode(b"fairlead:" + house.token().encode())
    assert await answered() == 401
    assert await answered((b"authorization", b"Bearer forged")) == 401
    assert await answered((b"authorization", b"Basic " + b64encode(b"fairlead:forged"))) == 401
    assert await answered((b"authorization", b"Bearer " + house.token().encode())) == 503, "nobody is there to ask"
    assert await answered((b"authorization", b"Basic " + basic)) == 503


async def test_who_lets_bodies_drip_holds_up_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.scorer.proxy._AT_ONCE_EACH", 2)
    proxy, taken, go_on = Proxy(tmp_path / "port"), list[bytes](), asyncio.Event()

    async def drip() -> dict[str, Any]:
        if go_on.is_set():
            return {"type": "http.disconnect"}
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Any) -> None:
        raise AssertionError(f"nothing is answered: {message}")

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(await reader.readuntil(b"\r\n\r\n"))
        await reader.read()
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        (tmp_path / "port").write_text(str(server.sockets[0].getsockname()[1]))
        open_ones = [asyncio.create_task(proxy(asking("POST"), drip, send, "one")) for _ in range(2)]
        await eventually(lambda: len(taken) == 2)
        with pytest.raises(Busy):
            await proxy(asking("POST"), drip, send, "one")
        open_ones.append(asyncio.create_task(proxy(asking("POST"), drip, send, "another")))
        await eventually(lambda: len(taken) == 3)
        go_on.set()
        assert [type(one) for one in await asyncio.gather(*open_ones, return_exceptions=True)] == [Gone] * 3
    assert not proxy._open
