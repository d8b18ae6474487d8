"""The monitor's way from the inference log to windows, with all that it watches by default: one process, one core."""

import asyncio
import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import psutil
import pyarrow as pa

from contracts import (
    Column,
    DeploymentChanged,
    InferenceLogged,
    ModelSchema,
    TensorSpec,
)
from deploy.embedded.home import Home
from services.kit.cloudevents import headers
from services.kit.context import Context, system
from services.kit.ids import now, uuid7_text
from services.kit.objects import Objects
from services.kit.producer import Outgoing, Producer
from services.kit.profiles import build_profile
from services.kit.settings import Settings
from services.kit.signing import canonical, digest_of

from .stage import SERVER_CORE, deployment, ground, pin, service

_COUNTED = re.compile(r"^fairlead_monitor_rows_total\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)
_SHAPES = ((100, 30, 300_000, 1), (1, 30, 100_000, 1), (100, 1_000, 20_000, 1), (100, 30, 300_000, 100))
"""Rows of a record, features, rows in all, endpoints."""


def measure(folder: Path) -> list[dict[str, Any]]:
    """Rows a second, processor time a row and memory, by rows of a record, features and endpoints."""
    return [_measured(folder / str(place), *shape) for place, shape in enumerate(_SHAPES)]


def _measured(folder: Path, rows: int, features: int, total: int, endpoints: int) -> dict[str, Any]:
    with ground(folder) as home:
        log = Log(home, features, endpoints)
        asyncio.run(log.deploy())
        asyncio.run(log.fill(rows, total))
        with service(home, "monitor") as process:
            pin(process.pid, SERVER_CORE)
            found = _watch(home, psutil.Process(process.pid), total)
        return {"rows": rows, "features": features, "endpoints": endpoints} | found


def _watch(home: Home, process: psutil.Process, total: int) -> dict[str, Any]:
    """From the first look that shows rows to the one that shows all."""
    first: tuple[float, float, float] | None = None
    deadline, counted = time.monotonic() + 300, 0.0
    while time.monotonic() < deadline:
        page = httpx.get(f"{home.url('monitor')}/metrics", timeout=10).text
        counted = sum(map(float, _COUNTED.findall(page)))
        at, used = time.monotonic(), sum(process.cpu_times()[:2])
        if counted and first is None:
            first = at, used, counted
        if first and counted >= total:
            if not (rows := counted - first[2]):
                raise SystemExit("all rows were counted between two looks: too few to measure")
            per_second, cpu_us = rows / (at - first[0]), 1e6 * (used - first[1]) / rows
            return {"per_second": round(per_second), "cpu_us": round(cpu_us, 2), "counted": int(counted),
                    "resident_mb": process.memory_info().rss // 2**20}  # fmt: skip
        time.sleep(0.1)
    raise TimeoutError(f"the monitor counted {counted:,.0f} of {total:,} rows")


class Log:
    """Endpoints of one model with a baseline, and what was asked of them in turns."""

    def __init__(self, home: Home, features: int, endpoints: int) -> None:
        self._home, self._features = home, features
        self._endpoints = [f"watched-{number}" for number in range(endpoints)]
        self._settings = Settings(home=home.path, port=home.port)
        self._random = np.random.default_rng(1)
        names = [f"f{place}" for place in range(features)]
        self._schema = ModelSchema(
            inputs=(TensorSpec(name="X", datatype="FP32", shape=(-1, features)),),
            outputs=(TensorSpec(name="label", datatype="INT64", shape=(-1,)),),
            columns=tuple(Column(name=name) for name in names), prediction="label",
        )  # fmt: skip

    def _rows(self, count: int) -> tuple[np.ndarray[Any, Any], list[int]]:
        values = self._random.normal(size=(count, self._features)).round(4)
        return values, (values[:, 0] > 0).astype(int).tolist()

    async def deploy(self) -> None:
        """As the deployer says it."""
        values, labels = self._rows(5_000)
        table = pa.table({f"f{place}": values[:, place] for place in range(self._features)} | {"label": labels})
        profile = canonical(build_profile(table, self._schema))
        baseline = await Objects(self._settings).put(profile)
        said = list[Outgoing]()
        for name in self._endpoints:
            change = deployment(
                self._home, name, digest_of(b"bench"), format="onnx", schema=self._schema, baseline=baseline
            )  # fmt: skip
            about = headers(DeploymentChanged, "deployer", name, Context(system("deployer")), "retail")
            said.append((DeploymentChanged.topic.name, name.encode(), change.to_json(), about))
        async with self._producer("deployer") as producer:
            await producer.send_all(said)

    async def fill(self, rows: int, total: int) -> None:
        """So many rows in the log, as two scorer workers leave them, 10,000 a second of event time."""
        start, records = now() - timedelta(seconds=total / 10_000 + 60), list[Outgoing]()
        async with self._producer("scorer") as producer:
            for record in self._records(rows, total, start):
                records.append(record)
                if len(records) == 500:
                    await producer.send_all(records)
                    records.clear()
            await producer.send_all(records)

    def _records(self, rows: int, total: int, start: datetime) -> Iterator[Outgoing]:
        context = Context(system("scorer", "retail"))
        about = {name: headers(InferenceLogged, "scorer", name, context, "retail") for name in self._endpoints}
        for number in range(total // rows):
            name, (values, labels) = self._endpoints[number % len(self._endpoints)], self._rows(rows)
            at = start + timedelta(seconds=number * rows / 10_000)
            head = {
                "inference_id": uuid7_text(), "endpoint": name, "unit": "retail", "use_case": "bench",
                "model": "census", "version": 1, "variant": "champion", "mode": "rest", "application": "application",
                "entity": None, "request_id": None, "writer": f"worker-{number % 2}", "seq": number // 2 + 1,
                "received_at": at.isoformat(), "latency_ms": 0.8, "rows": rows,
            }  # fmt: skip
            x = {"name": "X", "datatype": "FP32", "shape": list(values.shape), "data": values.ravel().tolist()}
            y = {"name": "label", "datatype": "INT64", "shape": [rows], "data": labels}
            said = head | {"request": {"inputs": [x]}, "response": {"model_name": name, "outputs": [y]}}
            yield InferenceLogged.topic.name, str(said["inference_id"]).encode(), orjson.dumps(said), about[name]

    def _producer(self, principal: str) -> Producer:
        return Producer(self._settings.model_copy(update={"kafka_properties": self._home.client_properties(principal)}))
