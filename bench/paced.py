"""Callers who come at a rate of their own, whatever the server does."""

import asyncio
import time
from urllib.parse import urlsplit

import numpy as np

RATE = 1_000
"""Requests a second; each is due at its time, and waits from then on, whatever became of the one before."""
_CONNECTIONS = 16


def paced(url: str, requests: list[bytes], seconds: float) -> dict[str, float]:
    """Latencies [ms] of so many seconds at `RATE`. Raises SystemExit where an answer is not 200."""
    took = np.array(asyncio.run(_run(url, requests, seconds))) * 1000
    p50, p99, p999 = np.percentile(took, [50, 99, 99.9])
    return {"p50_ms": p50, "p99_ms": p99, "p999_ms": p999, "worst_ms": took.max(), "requests": len(took)}


async def _run(url: str, requests: list[bytes], seconds: float) -> list[float]:
    took: list[float] = []
    start = time.perf_counter() + 0.1
    await asyncio.gather(*(_call(url, requests, start, seconds, first, took) for first in range(_CONNECTIONS)))
    return took


async def _call(
    url: str, requests: list[bytes], start: float, seconds: float, first: int, took: list[float]
) -> None:  # fmt: skip
    """One connection: every sixteenth request."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    for number in range(first, round(RATE * seconds), _CONNECTIONS):
        due = start + number / RATE
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
            due = max(due, time.perf_counter() - 0.001)  # what the timer itself is late is not the server's doing
        writer.write(requests[number % len(requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
        if head[9:12] != b"200":
            raise SystemExit(f"{url} answered {head[9:12].decode()}: this run measures nothing")
        took.append(time.perf_counter() - due)
    writer.close()
