"""Batches: a file through `/v1/batches` beside ONNX Runtime in a plain loop over the same rows, in turns."""

import asyncio
import statistics
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from examples.census import rows as census_rows

from .model import Model
from .stage import SERVER_CORE, Stage, pin

_WAIT_S = 300.0


def measure(stage: Stage, model: Model, folder: Path, rounds: int, rows: int) -> dict[str, Any]:
    """Rows a second and CPU µs a row of both, medians, and the median of the rounds' ratios."""
    (folder / "model.onnx").write_bytes(model.data)
    _people(folder / "rows.parquet", rows)
    endpoint = f"bench-{uuid4().hex[:8]}"
    asyncio.run(stage.serve(endpoint, model))
    plain, ours = list[float](), list[dict[str, float]]()
    for _ in range(rounds):
        plain.append(_plain(folder))
        ours.append(_ours(stage, endpoint, folder / "rows.parquet", rows))
    middle = {name: statistics.median(run[name] for run in ours) for name in ours[0]}
    ratio = statistics.median(seconds / run["seconds"] for seconds, run in zip(plain, ours, strict=True))
    return {
        "rows": rows, "ratio": ratio, "plain": {"per_second": rows / statistics.median(plain)},
        "fairlead": {"per_second": rows / middle["seconds"], "cpu_us": middle["cpu_us"]},
    }  # fmt: skip


def _people(path: Path, rows: int) -> None:
    table = census_rows.shuffled(census_rows.year(2016), seed=7).select(census_rows.COLUMNS)
    pq.write_table(pa.concat_tables([table] * (rows // table.num_rows + 1)).slice(0, rows), path)


def _plain(folder: Path) -> float:
    """Seconds of the loop alone: neither its start nor its imports."""
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", "bench.plainloop",
               str(folder / "model.onnx"), str(folder / "rows.parquet")]  # fmt: skip
    return float(subprocess.run(command, check=True, capture_output=True, timeout=_WAIT_S).stdout)


def _ours(stage: Stage, endpoint: str, file: Path, rows: int) -> dict[str, float]:
    """From the job in line to its result in the object store, all of its log records in Kafka."""
    process = stage.child("services.scorer.batches")
    pin(process.pid, SERVER_CORE)
    before = process.cpu_times()
    with httpx.Client(base_url=stage.url, headers={"Authorization": f"Bearer {stage.token}"}, timeout=60) as client:
        job = _submitted(client, endpoint, file)
        deadline = time.monotonic() + _WAIT_S
        while job["state"] in ("queued", "running"):
            if time.monotonic() > deadline:
                raise SystemExit(f"the batch is {job['state']} after {_WAIT_S:.0f} s")
            time.sleep(0.2)
            job = client.get(f"/v1/batches/{job['id']}").raise_for_status().json()
    if job["state"] != "done" or job["rows_done"] != rows or job["rows_failed"]:
        raise SystemExit(f"the batch is {job['state']}: {job}")
    after = process.cpu_times()
    took = datetime.fromisoformat(job["finished_at"]) - datetime.fromisoformat(job["created_at"])
    used = after.user + after.system - before.user - before.system
    return {"seconds": took.total_seconds(), "cpu_us": used * 1e6 / rows}


def _submitted(client: httpx.Client, endpoint: str, file: Path) -> dict[str, Any]:
    """Tried again while the endpoint is on its way to the host."""
    deadline = time.monotonic() + 30
    while True:
        with file.open("rb") as body:
            answer = client.post("/v1/batches", data={"endpoint": endpoint}, files={"file": ("rows.parquet", body)})
        if answer.status_code == 202:
            return answer.json()
        if time.monotonic() > deadline:
            raise SystemExit(f"the batch is not taken: {answer.text}")
        time.sleep(0.3)
