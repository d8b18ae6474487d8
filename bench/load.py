"""The load generator, a process of its own (`python -m bench.load`): one request in flight on each connection."""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import numpy as np
import uvloop


class Caller(asyncio.Protocol):
    """One connection: sends, reads the whole answer, notes how long it took, sends again."""

    def __init__(self, requests: list[bytes], first: int, took: list[float], errors: list[int]) -> None:
        self._requests = requests
        self._next = first
        self._took = took
        self._errors = errors
        self._buffer = b""
        self._needed = 0
        self.running = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._send()

    def _send(self) -> None:
        self._started = time.perf_counter()
        self._transport.write(self._requests[self._next % len(self._requests)])
        self._next += 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._needed:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end].lower()
            at = head.index(b"content-length:") + 15
            self._needed = end + 4 + int(head[at:].split(b"\r\n", 1)[0])
        if len(self._buffer) < self._needed:
            return
        self._took.append(time.perf_counter() - self._started)
        if self._buffer[9:12] != b"200":
            self._errors.append(int(self._buffer[9:12]))
        self._buffer, self._needed = self._buffer[self._needed :], 0
        if self.running:
            self._send()


def wire(url: str, token: str, bodies: list[bytes]) -> list[bytes]:
    parts = urlsplit(url)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode()
    return [b"%b%d\r\n\r\n%b" % (head, len(body), body) for body in bodies]


async def run(url: str, requests: list[bytes], connections: int, seconds: float) -> dict[str, float]:
    """Warm up for a fifth of the time, then measure."""
    parts, loop = urlsplit(url), asyncio.get_running_loop()
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    took: list[float] = []
    errors: list[int] = []
    callers: list[Caller] = []
    for i in range(connections):
        made = await loop.create_connection(lambda i=i: Caller(requests, i * 97, took, errors), host, port)
        callers.append(made[1])
    await asyncio.sleep(seconds / 5)
    took.clear()
    errors.clear()
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - started
    measured = np.array(took) * 1000
    for caller in callers:
        caller.running = False
    await asyncio.sleep(0.1)
    p50, p99 = np.percentile(measured, [50, 99]) if len(measured) else (0.0, 0.0)
    return {
        "per_second": len(measured) / elapsed, "p50_ms": float(p50), "p99_ms": float(p99), "errors": len(errors),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--bodies", type=Path, required=True, help="JSON list of request bodies")
    parser.add_argument("--token", default="none")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3)
    given = parser.parse_args()
    bodies = [text.encode() for text in json.loads(given.bodies.read_text())]
    requests = wire(given.url, given.token, bodies)
    print(json.dumps(uvloop.run(run(given.url, requests, given.connections, given.seconds))))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
