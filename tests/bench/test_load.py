"""The load generator counts answers and errors: a bench that measures nothing would say so."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest


@asynccontextmanager
async def answering(status: bytes) -> AsyncIterator[str]:
    """A server that answers each request with a status; its requests are one body each."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n{}")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/infer"


async def load(url: str, folder: Path) -> dict[str, float]:
    bodies = folder / "bodies.json"
    bodies.write_text(json.dumps(['{"a": 1}', '{"b": [2, 3]}']))
    options = ["--bodies", str(bodies), "--connections", "3", "--seconds", "0.5"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.load", url, *options, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    found: dict[str, float] = json.loads(said)
    return found


@pytest.mark.parametrize(("status", "fails"), [(b"200 OK", False), (b"503 Service Unavailable", True)])
async def test_answers_and_errors_are_counted(tmp_path: Path, status: bytes, fails: bool) -> None:
    async with answering(status) as url:
        found = await load(url, tmp_path)
    assert found["per_second"] > 0 and found["p50_ms"] > 0
    assert (found["errors"] > 0) == fails
