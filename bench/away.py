"""Callers while Kafka is away: what they wait for, before and meanwhile, and whether the log is whole afterwards."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil

from .bounds import verdict
from .load import wire
from .model import Model, bodies
from .rest import until_served
from .stage import SERVER_CORE, Stage, pin

ENDPOINT = "bench-away"
RATE = 1_000
"""Requests a second; each is due at its time, and waits from then on, whatever became of the one before."""
BOUND = 1.5
"""Times the p99 with Kafka there that the one without it may be: little more than two runs of the same differ by."""
_CONNECTIONS = 16
_LOGGED = "fairlead_scorer_logged_total"
_DRAINED_S = 300.0


def measure(stage: Stage, model: Model, seconds: float) -> dict[str, Any]:
    """Latencies [ms] over `seconds` with Kafka and as long without it (stopped: it takes connections and says nothing),
    and whether their ratio is within `BOUND`; by how many MiB worker and forwarder grew meanwhile, what the scorer said
    of itself at the end of it, and the seconds until all is logged after Kafka came back. Raises SystemExit where a
    request was refused or one is missing."""
    asyncio.run(stage.serve(ENDPOINT, model))
    url = f"{stage.url}/v2/models/{ENDPOINT}/infer"
    asked = bodies(256)
    until_served(url, stage.token, asked[0])
    worker = stage.child("services.scorer.worker")
    pin(worker.pid, SERVER_CORE)
    requests = wire(url, stage.token, asked)
    _paced(url, requests, 5)
    began = stage.metric(_LOGGED)
    before = _paced(url, requests, seconds)
    own = worker, stage.child("services.scorer.forwarder")
    resident = _resident(own)
    with _stopped(_broker()):
        meanwhile = _paced(url, requests, seconds)
        grown, told = _resident(own) - resident, httpx.get(f"{stage.url}/readyz", timeout=10)
    asked_of = before["requests"] + meanwhile["requests"]
    return {
        "rate": RATE, "seconds": seconds, "before": before, "away": meanwhile,
        **verdict(before["p99_ms"], meanwhile["p99_ms"], BOUND), "grown_mb": grown / 2**20,
        "readyz": told.json() | {"status": told.status_code},
        "logged_after_s": _until_logged(stage, began + asked_of), "requests": asked_of,
    }  # fmt: skip


def _resident(processes: tuple[psutil.Process, ...]) -> int:
    return sum(process.memory_info().rss for process in processes)


def _paced(url: str, requests: list[bytes], seconds: float) -> dict[str, float]:
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


def _broker() -> psutil.Process:
    for process in psutil.Process(os.getpid()).children(recursive=True):
        if "kafka.Kafka" in process.cmdline():
            return process
    raise LookupError("no broker runs below this process")


@contextmanager
def _stopped(process: psutil.Process) -> Iterator[None]:
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def _until_logged(stage: Stage, wanted: float) -> float:
    began = time.monotonic()
    while (found := stage.metric(_LOGGED)) < wanted:
        if time.monotonic() - began > _DRAINED_S:
            raise SystemExit(f"{wanted - found:.0f} accepted requests are not in the log after {_DRAINED_S:.0f} s")
        time.sleep(0.2)
    return time.monotonic() - began
