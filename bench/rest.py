"""REST: our scorer (token, schema check, durable log) beside the bare endpoint, in interleaved rounds."""

import asyncio
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from .model import Model, bodies
from .stage import LOAD_CORE, SERVER_CORE, Stage, pin

ENDPOINT = "bench-rest"
_WRK = """
local file = io.open("{bodies}")
wrk.method, wrk.headers["Content-Type"], wrk.headers["Authorization"] = "POST", "application/json", "Bearer {token}"
local lines, n = {{}}, 0
for line in file:lines() do lines[#lines + 1] = line end
request = function() n = n % #lines + 1; return wrk.format(nil, nil, nil, lines[n]) end
done = function(s, l, r)
  io.write(string.format('{{"per_second":%f,"p50_ms":%f,"p99_ms":%f,"errors":%d}}',
    s.requests / s.duration * 1e6, l:percentile(50) / 1000, l:percentile(99) / 1000, s.errors.status))
end
"""


def measure(stage: Stage, model: Model, folder: Path, connections: tuple[int, ...], rounds: int, seconds: float,
            rows: int) -> list[dict[str, Any]]:  # fmt: skip
    """One line per number of connections."""
    asyncio.run(stage.serve(ENDPOINT, model))
    ours = f"{stage.url}/v2/models/{ENDPOINT}/infer"
    asked = bodies(256, rows)
    until_served(ours, stage.token, asked[0])
    worker = stage.child("services.scorer.worker")
    pin(worker.pid, SERVER_CORE)
    found: list[dict[str, Any]] = []
    with _bare(model, folder) as (bare, process):
        for count in connections:
            runs: dict[str, list[dict[str, float]]] = {"bare": [], "fairlead": []}
            for _ in range(rounds):
                with metered(process, runs["bare"]):
                    runs["bare"].append(load(bare, "none", asked, folder, count, seconds))
                with metered(worker, runs["fairlead"]):
                    runs["fairlead"].append(load(ours, stage.token, asked, folder, count, seconds))
            found.append(_line(count, rows, runs))
    return found


@contextmanager
def metered(process: psutil.Process, runs: list[dict[str, float]]) -> Iterator[None]:
    """Tell of the run that is made meanwhile how long the server's processor worked for each of its requests."""
    before, started = _cpu_s(process), time.perf_counter()
    yield
    used, took = _cpu_s(process) - before, time.perf_counter() - started
    runs[-1]["cpu_us"] = used / (runs[-1]["per_second"] * took) * 1e6


def _cpu_s(process: psutil.Process) -> float:
    """Of the process and its children: a sandbox, or a peer's workers."""
    return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True)))


def _line(connections: int, rows: int, runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    middle = {
        name: {key: statistics.median(run[key] for run in own) for key in own[0]} for name, own in runs.items()
    }  # fmt: skip
    ratio = statistics.median(
        mine["per_second"] / other["per_second"] for mine, other in zip(runs["fairlead"], runs["bare"], strict=True)
    )
    return {"connections": connections, "rows": rows, "ratio": ratio, **middle}


def load(url: str, token: str, asked: list[bytes], folder: Path, connections: int, seconds: float) -> dict[str, float]:
    command = _wrk(url, token, asked, folder, connections, seconds) or own_load(
        url, token, asked, folder, connections, seconds
    )
    run = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=_on_load_core)
    result: dict[str, float] = json.loads(run.stdout[run.stdout.rindex("{") :])
    if result["errors"]:
        raise SystemExit(f"{url} answered {result['errors']:.0f} requests with an error: this run measures nothing")
    if not result["per_second"]:
        raise SystemExit(f"{url} answered nothing: {run.stderr[-500:]}")
    return result


def own_load(
    url: str, token: str, asked: list[bytes], folder: Path, connections: int, seconds: float
) -> list[str]:  # fmt: skip
    """The command of the bench's own load generator."""
    path = folder / "bodies.json"
    path.write_text(json.dumps([body.decode() for body in asked]))
    return [sys.executable, "-m", "bench.load", url, "--bodies", str(path), "--token", token,
            "--connections", str(connections), "--seconds", str(seconds)]  # fmt: skip


def _wrk(
    url: str, token: str, asked: list[bytes], folder: Path, connections: int, seconds: float
) -> list[str] | None:  # fmt: skip
    if not shutil.which("wrk"):
        return None
    lines, script = folder / "bodies.txt", folder / "wrk.lua"
    lines.write_bytes(b"\n".join(asked))
    script.write_text(_WRK.format(bodies=lines, token=token))
    return ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(script), url]


def _on_load_core() -> None:
    os.sched_setaffinity(0, {LOAD_CORE})


def until_served(url: str, token: str, body: bytes) -> None:
    deadline = time.monotonic() + 30
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=5) as client:
        while (answer := client.post(url, content=body)).status_code != 200:
            if time.monotonic() > deadline:
                raise SystemExit(f"the scorer does not serve the model: {answer.status_code} {answer.text[:300]}")
            time.sleep(0.1)


@contextmanager
def _bare(model: Model, folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    path = folder / "model.onnx"
    path.write_bytes(model.data)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "bench.bare:app", "--port", str(port), "--http", "httptools",
               "--loop", "uvloop", "--log-level", "error", "--no-access-log"]  # fmt: skip
    with subprocess.Popen(command, env=os.environ | {"BENCH_MODEL": str(path)}) as process:
        try:
            _until_listening(port)
            pin(process.pid, SERVER_CORE)
            yield f"http://127.0.0.1:{port}/infer", psutil.Process(process.pid)
        finally:
            process.terminate()


def _until_listening(port: int) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit("the bare endpoint did not start")
