"""Batches on a Ray cluster of two nodes on this machine."""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from contracts import Service
from services.kit.db import Database
from services.kit.errors import Unavailable
from services.kit.health import Progress
from services.kit.objects import Objects
from services.scorer.batches.chunks import Done, Task
from services.scorer.batches.executors import executor_of
from services.scorer.batches.inputs import Inputs
from services.scorer.batches.jobs import Runner
from services.scorer.batches.serving import Serving
from services.scorer.endpoints import Endpoint
from services.scorer.metering import Told

from .conftest import Stage
from .test_batch_usage import cpu_s
from .test_batches import client, done, log_of, parquet, result, submit, table

__all__ = ["client"]

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def other_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the second node, as if it were another machine."""
    return tmp_path_factory.mktemp("other")


@pytest.fixture(scope="module")
def cluster(other_home: Path) -> Iterator[str]:
    """Its address."""
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 80 * 1024**2, "include_dashboard": False},
    )
    made.add_node(num_cpus=1, object_store_memory=80 * 1024**2, env_vars={"FAIRLEAD_HOME": str(other_home)})
    yield str(made.address)
    made.shutdown()


@pytest.mark.timeout(240)
async def test_a_batch_is_scored_on_both_nodes_of_a_ray_cluster_as_it_is_here(
    stage: Stage, client: httpx.AsyncClient, service_db: Callable[[Service], Database], cluster: str,
    other_home: Path,
) -> None:  # fmt: skip
    from services.scorer.batches.cluster import OnRay

    shutil.copytree(stage.house.settings.keys / "public", other_home / "keys" / "public")
    settings, objects = stage.house.settings.model_copy(update={"ray": cluster}), Objects(stage.house.settings)
    for package in settings.run_folder.glob("packages/*.zip"):
        await objects.put_file(package)
    assert isinstance(executor_of(settings), OnRay)
    told: list[Told] = []

    class Listening(OnRay):
        async def score(self, task: Task, endpoint: Endpoint) -> Done:
            done = await super().score(task, endpoint)
            told.extend(done.told)
            return done

    executor = Listening(settings)
    inputs = Inputs.of(settings, objects)
    runner = Runner(settings, service_db("scorer"), objects, inputs, Serving(settings), Progress(), executor)
    running = asyncio.create_task(runner.run())
    try:
        job = await done(client, (await submit(client, parquet(table(6_000)))).json()["id"], within=120)
        assert (job["state"], job["rows_done"], job["rows_failed"]) == ("done", 6_000, 0), job
        assert len(await executor.nodes()) == 2
        actors = [p for p in psutil.Process().children(recursive=True) if "_Actor" in " ".join(p.cmdline())]
        assert len(actors) == 2
        used = sum(each.model_cpu_s + each.serving_cpu_s for each in told)
        assert used == pytest.approx(cpu_s(actors), rel=0.1), "what the actors used is told, their start included"
        assert sum(each.busy_s for each in told) > 0
        assert list(other_home.glob("run/scorer/packages/*.zip"))
    finally:
        running.cancel()
        executor.rest()
    rows = await result(client, job["id"])
    values = np.random.default_rng(5).normal(size=(6_000, 3)).round(4)
    close = np.abs(values.sum(axis=1)) > 0.3
    assert (rows["prediction"].to_numpy()[close] == (values.sum(axis=1) > 0)[close]).all()
    logs = await log_of(stage, job["id"])
    assert sorted((log.seq, log.rows) for log in logs) == [(seq, 500) for seq in range(1, 13)]


@pytest.fixture
def actors(cluster: str) -> Iterator[Any]:
    """One of the cluster's actors, which waits."""
    import ray

    from services.scorer.batches.cluster import Actors

    class Waits:  # in here, so that it travels by value
        """Scores when it is told to."""

        def score(self, told: Path) -> Path:
            while not told.exists():
                time.sleep(0.01)
            return told

    ray.init(cluster, namespace="fairlead", log_to_driver=False, configure_logging=False)
    yield Actors([ray.remote(Waits).remote()])
    ray.shutdown()


@pytest.mark.timeout(120)
async def test_who_stops_waiting_for_a_chunk_leaves_the_actor_to_the_next(actors: Any, tmp_path: Path) -> None:
    told = tmp_path / "told"
    first, second = (asyncio.create_task(actors.score(told)) for _ in range(2))
    await asyncio.sleep(0)
    for one in (first, second):  # at work, and waiting for its turn
        one.cancel()
    assert [type(each) for each in await asyncio.gather(first, second, return_exceptions=True)] == [
        asyncio.CancelledError, asyncio.CancelledError,
    ]  # fmt: skip
    told.touch()
    assert [await actors.score(told), await actors.score(told)] == [told, told]


@pytest.mark.timeout(120)
async def test_nobody_waits_for_actors_that_were_ended(actors: Any, tmp_path: Path) -> None:
    waiting = [asyncio.create_task(actors.score(tmp_path / "never")) for _ in range(3)]
    await asyncio.sleep(0)
    actors.end()
    assert [type(each) for each in await asyncio.gather(*waiting, return_exceptions=True)] == [Unavailable] * 3
