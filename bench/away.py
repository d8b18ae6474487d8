"""Callers while Kafka is away: what they wait for, before and meanwhile, and whether the log is whole afterwards."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psutil

from .bounds import verdict
from .load import wire
from .model import Model, bodies
from .paced import RATE, paced
from .rest import until_served
from .stage import SERVER_CORE, Stage, pin

ENDPOINT = "bench-away"
BOUND = 1.5
"""Times the p99 with Kafka there that the one without it may be: little more than two runs of the same differ by."""
_LOGGED = "fairlead_scorer_logged_total"
_DRAINED_S = 300.0


def measure(stage: Stage, model: Model, seconds: float) -> dict[str, Any]:
    """Latencies [ms] over `seconds` with Kafka and as long without it (stopped: it takes connections and says nothing),
    and whether their ratio is within `BOUND`; by how many MiB worker and forwarder grew meanwhile, how many wait in the
    spool and what the scorer says of itself at the end, and the seconds until all is logged after Kafka came back.
    Raises SystemExit where a request was refused or one is missing."""
    asyncio.run(stage.serve(ENDPOINT, model))
    url = f"{stage.url}/v2/models/{ENDPOINT}/infer"
    asked = bodies(256)
    until_served(url, stage.token, asked[0])
    worker = stage.child("services.scorer.worker")
    pin(worker.pid, SERVER_CORE)
    requests = wire(url, stage.token, asked)
    paced(url, requests, 5)
    began = stage.metric(_LOGGED)
    before = paced(url, requests, seconds)
    own = worker, stage.child("services.scorer.forwarder")
    resident = _resident(own)
    with _stopped(_broker()):
        meanwhile = paced(url, requests, seconds)
        grown, told = _resident(own) - resident, httpx.get(f"{stage.url}/readyz", timeout=10)
        waiting = stage.metric("fairlead_scorer_spool_backlog_bytes")
    asked_of = before["requests"] + meanwhile["requests"]
    return {
        "rate": RATE, "seconds": seconds, "before": before, "away": meanwhile,
        **verdict(before["p99_ms"], meanwhile["p99_ms"], BOUND), "grown_mb": grown / 2**20,
        "waiting_mb": waiting / 2**20,
        "readyz": told.json() | {"status": told.status_code},
        "logged_after_s": _until_logged(stage, began + asked_of), "requests": asked_of,
    }  # fmt: skip


def _resident(processes: tuple[psutil.Process, ...]) -> int:
    return sum(process.memory_info().rss for process in processes)


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
