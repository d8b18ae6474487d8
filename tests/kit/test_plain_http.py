"""Offers of another protocol are declined by answering in this one."""

import asyncio
import socket

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


def test_only_the_head_is_looked_at() -> None:
    piece = b"POST / HTTP/1.1\r\nUPGRADE: h2c\r\nHost: x\r\n\r\nbody\r\nUpgrade: h2c\r\n"
    assert without_offers(piece) == b"POST / HTTP/1.1\r\nHost: x\r\n\r\nbody\r\nUpgrade: h2c\r\n"
    plain = b"POST / HTTP/1.1\r\nHost: x\r\n\r\nUpgrade: h2c\r\n"
    assert without_offers(plain) is plain
