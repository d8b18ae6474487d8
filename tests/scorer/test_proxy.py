"""What the scorer passes on to its other processes: a broken connection is not one that never was."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.kit.errors import AnswerLost, Refusal, Unavailable
from services.scorer.proxy import Proxy


async def refusal(port: Path, method: str) -> Refusal:
    """How the proxy refuses a small request of this method."""
    scope = {
        "type": "http", "method": method, "path": "/v1/batches", "raw_path": b"/v1/batches", "query_string": b"",
        "headers": [],
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Any) -> None:
        raise AssertionError(f"nothing can be answered: {message}")

    with pytest.raises(Refusal) as refused:
        await Proxy(port)(scope, receive, send)
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
