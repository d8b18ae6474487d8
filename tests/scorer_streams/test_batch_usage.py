"""What batches use, in whichever process, is told as usage of their version: real processes, measured beside."""

import asyncio
import time

import httpx
import psutil
import pytest

from contracts import UsageReported
from services.kit.testing import eventually
from services.scorer.usage import UsageReports
from tests.scorer.making import classifier, package
from tests.scorer.test_sandboxed import skops_classifier

from .conftest import Stage, read
from .test_batches import client, done, parquet, submit, table

__all__ = ["client"]


def cpu_s(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


async def told(stage: Stage) -> list[UsageReported]:
    found = await read(stage.operator, "usage.reported", lambda said: said.get("ce_subject") == b"loans")
    return [
        event for event in map(UsageReported.from_json, found.values()) if event.replica == stage.house.home.as_posix()
    ]


@pytest.mark.timeout(360)
@pytest.mark.parametrize("format", ["onnx", "sklearn"])
async def test_what_a_pool_and_its_sandboxes_used_is_in_the_usage_of_the_version(
    stage: Stage, client: httpx.AsyncClient, format: str
) -> None:
    # So many that each process of the pool gets some: the start of one that never did anything is nobody's.
    house, rows = stage.house, 600_000
    model = package(classifier()) if format == "onnx" else package(skops_classifier(), "model.skops", format=format)
    stage.say(house.change("loans", house.variant("loans", house.keep(model), format=format), revision=2))
    own = psutil.Process(stage.start("batches", FAIRLEAD_BATCH_PROCESSES="2").pid)
    await eventually(house.settings.batches_port_path.exists, within=60, every=0.1)

    async def calm() -> float | None:
        """What it uses in a second without a job, which no version is charged for."""
        since = cpu_s([own])
        await asyncio.sleep(2)
        a_second = (cpu_s([own]) - since) / 2
        return a_second if 0 < a_second < 0.1 else None

    idle = await eventually(calm, within=60)
    reports, before, began = UsageReports(house.settings, house.home.as_posix()), cpu_s([own]), time.monotonic()
    job = await done(client, (await submit(client, parquet(table(rows)))).json()["id"], within=240)
    assert (job["state"], job["rows_done"]) == ("done", rows), job
    pool = own.children(recursive=True)
    workers = [process for process in pool if "spawn_main" in " ".join(process.cmdline())]
    assert len(workers) >= 2
    used, of_pool = cpu_s([own, *pool]) - before, cpu_s(pool)
    of_own = used - idle * (time.monotonic() - began)  # of a busy machine much of the time is none of the job's
    sums: dict[str, float] = {}

    async def adds_up() -> bool:
        """What a process wrote of itself is two seconds old at most."""
        await reports.say()
        events = await told(stage)
        sums.update(cpu=sum(each.model_cpu_s + each.serving_cpu_s for each in events))
        sums.update(wall=sum(each.busy_s for each in events), rows=sum(each.rows for each in events))
        assert sums["rows"] == rows
        assert 0.9 * of_own < sums["cpu"] < 1.1 * used, (sums, used, of_own, of_pool, idle)
        return True

    await eventually(adds_up, within=20, every=1.0)
    assert sums["wall"] > 0
    assert of_pool > 0.2 * used, "without the pool the sum would be another one"
    resident = sum(process.memory_info().rss for process in workers)
    assert max(each.memory_bytes for each in await told(stage)) > resident / 2
