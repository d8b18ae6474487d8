"""Batches take turns: one gives way to another that could be worked on here, and nothing is scored twice for that."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import httpx
import pytest

from contracts import Service
from services.kit.context import EVERY_UNIT, Context, system, use
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.ids import uuid7
from services.kit.objects import Objects
from services.scorer.batches import store
from services.scorer.batches.chunks import Done, Task
from services.scorer.batches.domain import Job
from services.scorer.batches.executors import Here
from services.scorer.batches.inputs import Inputs
from services.scorer.batches.jobs import Runner
from services.scorer.batches.serving import Serving
from services.scorer.batches.work import Turn
from services.scorer.endpoints import Endpoint

from .conftest import Stage
from .test_batches import client, done, parquet, submit, table

__all__ = ["client"]


class Counting(Here):
    """Notes what is scored, in its order."""

    width = 3

    def __init__(self) -> None:
        self.scored: list[tuple[str, int]] = []

    async def score(self, task: Task, endpoint: Endpoint) -> Done:
        self.scored.append((str(task.job.id), task.number))
        return await super().score(task, endpoint)


def runner_of(stage: Stage, db: Database, executor: Here) -> Runner:
    """A host whose turns are over as soon as somebody asks."""
    settings = stage.house.settings.model_copy(update={"batch_turn_s": 1e-9})
    objects = Objects(settings)
    return Runner(settings, db, objects, Inputs.of(settings, objects), Serving(settings), Progress(), executor)


async def job_in(db: Database, id: UUID) -> Job:
    async with db.reading(EVERY_UNIT) as session:
        return await store.get(session, id)


async def add(db: Database, job: Job) -> None:
    async with db.transaction(unit=job.unit) as tx:
        await store.add(tx.session, job)


async def test_a_batch_that_gives_way_finishes_what_is_in_hand(
    stage: Stage, client: httpx.AsyncClient, service_db: Callable[[Service], Database]
) -> None:
    counting = Counting()
    large, small = [(await submit(client, parquet(table(rows)))).json()["id"] for rows in (6_000, 600)]
    running = asyncio.create_task(runner_of(stage, service_db("scorer"), counting).run())
    for id, rows in ((small, 600), (large, 6_000)):
        job = await done(client, id)
        assert (job["state"], job["rows_done"]) == ("done", rows), job["reason"]
    running.cancel()
    of = [id for id, _ in counting.scored]
    assert of.index(small) < len(of) - 1 - of[::-1].index(large), "the large one gave way"
    assert set(Counter(counting.scored).values()) == {1}, "no chunk was scored in vain"


async def test_a_batch_gives_way_to_what_could_be_worked_on_here_alone(
    stage: Stage, client: httpx.AsyncClient, service_db: Callable[[Service], Database]
) -> None:
    db = service_db("scorer")
    runner = runner_of(stage, db, Here())
    id = UUID((await submit(client, parquet(table(600)))).json()["id"])
    with use(Context(system("scorer"))):
        job = await job_in(db, id)
        await add(db, replace(job, id=uuid7(), endpoint="nowhere"))
    with use(Context(system("scorer", "retail"))):
        assert not await runner._other_waits(id), "nobody could score the other one"
    other = replace(job, id=uuid7(), unit="wealth")
    with use(Context(system("scorer"))):
        await add(db, other)
    with use(Context(system("scorer", "retail"))):
        async with store.held(db, other.id) as ours:
            assert ours
            assert not await runner._other_waits(id), "another host is at it"
        assert await runner._other_waits(id), "whatever unit it is of"


async def test_a_turn_begins_with_the_first_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, job = [0.0], Job.__new__(Job)
    object.__setattr__(job, "id", uuid7())
    monkeypatch.setattr("services.scorer.batches.work.time.monotonic", lambda: clock[0])
    turn = Turn(60.0, lambda _: asyncio.sleep(0, True))
    clock[0] = 1_000.0  # to come to the first chunk took long
    assert not await turn.is_over(job)
    turn.begin()
    clock[0] += 59
    turn.begin()
    assert not await turn.is_over(job)
    clock[0] += 1
    assert await turn.is_over(job)
