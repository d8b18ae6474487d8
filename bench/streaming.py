"""Streaming, exactly once: our stream beside a hand-written transactional loop with the same model, in turns."""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from services.kit.kafka import Connection, partitions_of

from .model import Model, bodies
from .stage import SERVER_CORE, Stage, pin

_WAIT_S = 120.0


def measure(stage: Stage, model: Model, folder: Path, rounds: int, rows: int) -> dict[str, Any]:
    """Rows a second and CPU µs a row of both, medians, and the median of the rounds' ratios."""
    (folder / "model.onnx").write_bytes(model.data)
    runs: dict[str, list[dict[str, float]]] = {"hand-written": [], "fairlead": []}
    for _ in range(rounds):
        runs["hand-written"].append(_hand(stage, folder, rows))
        runs["fairlead"].append(asyncio.run(_ours(stage, model, rows)))
    middle = {name: {key: statistics.median(run[key] for run in own) for key in own[0]} for name, own in runs.items()}
    ratio = statistics.median(
        mine["per_second"] / other["per_second"]
        for mine, other in zip(runs["fairlead"], runs["hand-written"], strict=True)
    )
    return {"rows": rows, "ratio": ratio, **middle}


async def _ours(stage: Stage, model: Model, rows: int) -> dict[str, float]:
    """The requests lie there when the endpoint begins to stream."""
    endpoint = f"bench-{uuid4().hex[:8]}"
    stage.topics(endpoint)
    await _fill(stage.connection("operator"), f"inference.requested.{endpoint}", rows)
    process = stage.child("services.scorer.streams")
    pin(process.pid, SERVER_CORE)
    before = process.cpu_times()
    await stage.serve(endpoint, model, streaming=True)
    rate = await _rate(stage.connection("operator"), f"inference.completed.{endpoint}", rows)
    after = process.cpu_times()
    return {"per_second": rate, "cpu_us": _cpu(before, after) / rows}


def _hand(stage: Stage, folder: Path, rows: int) -> dict[str, float]:
    """Written to topics of its own, by a process of its own."""
    one, two = f"bench-{uuid4().hex[:8]}", f"bench-{uuid4().hex[:8]}"
    stage.topics(one)
    stage.topics(two)
    requested, completed, logged = (
        f"inference.requested.{one}", f"inference.completed.{one}", f"inference.completed.{two}",
    )  # fmt: skip
    asyncio.run(_fill(stage.connection("operator"), requested, rows))
    command = [sys.executable, "-m", "bench.handwritten", str(stage.home.client_properties("scorer")),
               str(folder / "model.onnx"), requested, completed, logged, str(rows)]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=_on_server_core) as process:
        assert process.stdout
        watched = psutil.Process(process.pid)
        try:
            process.stdout.readline()
            before = watched.cpu_times()
            rate = asyncio.run(_rate(stage.connection("operator"), completed, rows))
            cpu = _cpu(before, watched.cpu_times())
        finally:
            process.terminate()
    return {"per_second": rate, "cpu_us": cpu / rows}


def _on_server_core() -> None:
    os.sched_setaffinity(0, {SERVER_CORE})


def _cpu(before: Any, after: Any) -> float:
    """Microseconds of CPU in between."""
    return (after.user + after.system - before.user - before.system) * 1e6


async def _fill(connection: Connection, topic: str, rows: int) -> None:
    """Events with distinct ids, in prebuilt batches."""
    asked = bodies(2_000)
    async with AIOKafkaProducer(**connection.aiokafka(), max_batch_size=500_000, enable_idempotence=True) as producer:
        parts = sorted(await producer.partitions_for(topic))
        sent: list[Any] = []
        batches = {part: producer.create_batch() for part in parts}
        for i in range(rows):
            part = parts[i % len(parts)]
            event: dict[str, Any] = {
                "timestamp": None, "key": b"customer-%d" % i, "value": asked[i % len(asked)], "headers": _headers(i),
            }  # fmt: skip
            if batches[part].append(**event) is None:
                sent.append(await producer.send_batch(batches[part], topic, partition=part))
                batches[part] = producer.create_batch()
                batches[part].append(**event)
        sent += [await producer.send_batch(batch, topic, partition=part) for part, batch in batches.items()]
        await asyncio.gather(*sent)


def _headers(number: int) -> list[tuple[str, bytes]]:
    return [
        ("ce_specversion", b"1.0"), ("ce_type", b"inference.requested"), ("ce_id", b"%d" % number),
        ("ce_source", b"/bench"), ("content-type", b"application/json"),
    ]  # fmt: skip


async def _rate(connection: Connection, topic: str, rows: int) -> float:
    """Rows a second between the first transaction and the last, by the times in the records."""
    consumer = AIOKafkaConsumer(
        **connection.aiokafka(), isolation_level="read_committed", auto_offset_reset="earliest",
        enable_auto_commit=False, max_partition_fetch_bytes=4 * 1024 * 1024,
    )  # fmt: skip
    async with consumer:
        places = await partitions_of(consumer, topic)
        consumer.assign(places)
        deadline = time.monotonic() + _WAIT_S
        # Reading while they work would take their time: wait until the topic has all of it.
        while sum((await consumer.end_offsets(places)).values()) < rows:
            if time.monotonic() > deadline:
                raise SystemExit(f"{topic} has not {rows} rows after {_WAIT_S:.0f} s")
            await asyncio.sleep(0.5)
        times: list[int] = []
        while len(times) < rows:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                times += [record.timestamp for record in records]
            if time.monotonic() > deadline:
                raise SystemExit(f"{topic} has {len(times)} committed rows of {rows}")
    times.sort()
    first = sum(moment <= times[0] + 50 for moment in times)
    return (rows - first) / max((times[-1] - times[0]) / 1000, 0.001)
