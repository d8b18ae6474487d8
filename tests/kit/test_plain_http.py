"""Offers of another protocol are declined by answering in this one."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import Response

from services.kit.plain_http import PlainHttp, without_offers

OFFERS = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\n",
    b"connection: upgrade\r\nupgrade: websocket\r\n",
)


async def _echo(scope: dict[str, object], receive: object, send: object) -> None:
    body = await Request(scope, receive).body()  # pyright: ignore[reportArgumentType]
    await Response(body)(scope, receive, send)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("size", [5, 100_000])
async def test_a_request_that_offers_another_protocol_is_answered_with_its_body(offer: bytes, size: int) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(_echo, http=PlainHttp, loop="none", lifespan="off", log_config=None))
    serving = asyncio.create_task(server._serve([listening]))
    body = (b"Upgrade: h2c\r\n" * size)[:size]
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    for _ in range(2):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\n" + offer + b"Content-Length: %d\r\n\r\n" % size + body)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 200"), head
        assert await reader.readexactly(size) == body
    writer.close()
    server.should_exit = True
    await serving


class Impatient(PlainHttp):
    """As all services wait, but shorter."""

    head_s = 0.5


@asynccontextmanager
async def served(
    protocol: type[PlainHttp], app: Any = _echo
) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=protocol, loop="none", lifespan="off", log_config=None))
    serving = asyncio.create_task(server._serve([listening]))
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        server.should_exit = True
        await serving


ASKED = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
LATE = b"HTTP/1.1 408 "


@pytest.mark.parametrize(("pieces", "answer"), [
    ([], b""), ([b"\r\n"] * 20, b""), ([b"P"], LATE), ([b"POST / HTTP/1.1\r\nHost: x\r\n"], LATE),
    ([b"POST / HTTP/1.1\r\n"] + [b"a: b\r\n"] * 20, LATE),
], ids=["nothing", "blank lines", "a letter", "half a head", "a head without an end"])  # fmt: skip
@pytest.mark.parametrize("before", [False, True], ids=["at first", "behind an answer"])
async def test_a_head_that_does_not_come_to_its_end_is_waited_for_so_long_and_no_longer(
    pieces: list[bytes], answer: bytes, before: bool
) -> None:
    async with served(Impatient) as (reader, writer):
        if before:
            writer.write(ASKED + b"ab")
            await reader.readuntil(b"\r\n\r\nab")
        started = asyncio.get_running_loop().time()
        reading = asyncio.create_task(reader.read())
        for piece in pieces:
            writer.write(piece)
            await asyncio.wait([reading], timeout=0.1)
            if reading.done():
                break
        said = await asyncio.wait_for(reading, 10)
        assert said.startswith(answer) and (answer or not said)
        took = asyncio.get_running_loop().time() - started
        assert 0.4 < took < 4 or (before and not pieces), took


async def test_a_body_of_which_nothing_comes_is_given_up() -> None:
    async with served(Impatient) as (reader, writer):
        writer.write(ASKED + b"a")
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(LATE)


async def test_a_connection_that_asks_and_a_body_that_takes_its_time_are_not_cut() -> None:
    async with served(Impatient) as (reader, writer):
        for pause in (0.0, 0.8, 0.4):
            await asyncio.sleep(pause)
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
            for letter in (b"1", b"2", b"3", b"a", b"b"):
                await asyncio.sleep(min(pause, 0.4))
                writer.write(letter)
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n123ab"), 10)).startswith(b"HTTP/1.1 200")


async def test_a_body_that_the_service_itself_does_not_read_on_is_not_given_up() -> None:
    async def late(scope: dict[str, object], receive: object, send: object) -> None:
        await asyncio.sleep(2)
        await _echo(scope, receive, send)

    size = 2_000_000
    async with served(Impatient, late) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 200") and len(await reader.readexactly(size)) == size


def test_only_the_head_is_looked_at() -> None:
    piece = b"POST / HTTP/1.1\r\nUPGRADE: h2c\r\nHost: x\r\n\r\nbody\r\nUpgrade: h2c\r\n"
    assert without_offers(piece) == b"POST / HTTP/1.1\r\nHost: x\r\n\r\nbody\r\nUpgrade: h2c\r\n"
    plain = b"POST / HTTP/1.1\r\nHost: x\r\n\r\nUpgrade: h2c\r\n"
    assert without_offers(plain) is plain
