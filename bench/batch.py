"""Batches: our jobs beside ONNX Runtime in a plain loop over the same file's Arrow batches, in turns."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from examples.census import rows as census_rows

from .model import Model
from .stage import SERVER_CORE, Stage, pin

_ENDPOINT = "bench-batch"
_WAIT_S = 120.0


def measure(stage: Stage, model: Model, folder: Path, rounds: int, rows: int) -> dict[str, Any]:
    """Rows a second and CPU µs a row of both, medians, and the medians of the rounds' ratios."""
    (folder / "model.onnx").write_bytes(model.data)
    source = _file(folder / "people.parquet", rows)
    asyncio.run(stage.serve(_ENDPOINT, model))
    _ours(stage, source, 1_000)  # until it is there, nothing is measured
    runs: dict[str, list[dict[str, float]]] = {"plain": [], "fairlead": []}
    for _ in range(rounds):
        runs["plain"].append(_plain(folder, source, rows))
        runs["fairlead"].append(_ours(stage, source, rows))
    middle = {name: {key: statistics.median(run[key] for run in own) for key in own[0]} for name, own in runs.items()}
    pairs = list(zip(runs["fairlead"], runs["plain"], strict=True))
    return {
        "rows": rows,
        "ratio": statistics.median(mine["per_second"] / other["per_second"] for mine, other in pairs),
        "cpu_ratio": statistics.median(other["cpu_us"] / mine["cpu_us"] for mine, other in pairs),
        **middle,
    }


def _file(path: Path, rows: int) -> Path:
    """Real people of a year that the model does not know, as often as it takes."""
    people = census_rows.shuffled(census_rows.year(2016), seed=7).select(census_rows.COLUMNS)
    pq.write_table(pa.concat_tables([people] * (rows // people.num_rows + 1)).slice(0, rows), path)
    return path


def _plain(folder: Path, source: Path, rows: int) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.plainloop", str(folder / "model.onnx"), str(source)]
    done = subprocess.run(command, preexec_fn=_on_server_core, check=True, capture_output=True)
    used = json.loads(done.stdout)
    return {"per_second": rows / used["seconds"], "cpu_us": used["cpu_s"] / rows * 1e6}


def _on_server_core() -> None:
    os.sched_setaffinity(0, {SERVER_CORE})


def _ours(stage: Stage, source: Path, rows: int) -> dict[str, float]:
    """From the job's first moment to its last; CPU of all processes that do batches, taking in the file included."""
    process = stage.child("services.scorer.batches")
    pin(process.pid, SERVER_CORE)
    before = _cpu_s(process)
    job = _job(stage, source)
    if job["state"] != "done" or job["rows_failed"]:
        raise SystemExit(f"the batch is {job['state']}, {job['rows_failed']} rows failed: {job['reason']}")
    created, finished = (datetime.fromisoformat(job[name]) for name in ("created_at", "finished_at"))
    used = _cpu_s(process) - before
    return {"per_second": rows / (finished - created).total_seconds(), "cpu_us": used / rows * 1e6}


def _job(stage: Stage, source: Path) -> dict[str, Any]:
    """Hand the file in and wait until its job is at its end."""
    with httpx.Client(base_url=stage.url, headers={"Authorization": f"Bearer {stage.token}"}, timeout=60) as client:
        until = time.monotonic() + _WAIT_S
        while True:
            with source.open("rb") as file:
                said = client.post(
                    "/v1/batches", data={"endpoint": _ENDPOINT}, files={"file": ("people.parquet", file)}
                )
            if said.status_code == 202:
                return _ended(client, said.json(), until)
            if time.monotonic() > until:
                raise SystemExit(f"the file is not taken: {said.status_code} {said.text[:300]}")
            time.sleep(0.5)


def _ended(client: httpx.Client, job: dict[str, Any], until: float) -> dict[str, Any]:
    while job["state"] not in ("done", "failed"):
        if time.monotonic() > until:
            raise SystemExit(f"the batch is not done after {_WAIT_S:.0f} s")
        time.sleep(0.2)
        job = client.get(f"/v1/batches/{job['id']}").json()
    return job


def _cpu_s(process: psutil.Process) -> float:
    """Of a process, its children, and those that it has waited for."""
    own = process.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in process.children(recursive=True):
        times = child.cpu_times()
        total += times.user + times.system
    return total
