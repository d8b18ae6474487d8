"""Readiness is progress: what fails, hangs or never began is told."""

import asyncio

import pytest

from services.kit import again as jobs
from services.kit import health
from services.kit.again import Backoff, again
from services.kit.health import Progress
from services.kit.testing import eventually


def test_a_part_that_never_began_is_not_ready() -> None:
    progress = Progress()
    progress.expect("bus")
    assert progress.problems() == {"bus": "has not started"}
    progress.beat("bus")
    assert progress.problems() == {}


def test_a_short_trouble_is_pardoned_a_long_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    at = [100.0]
    monkeypatch.setattr(health.time, "monotonic", lambda: at[0])
    progress = Progress()
    progress.expect("bus", grace_s=10)
    progress.beat("bus")
    progress.fail("bus", "Kafka is away")
    assert progress.problems() == {}
    at[0] += 11
    assert progress.problems() == {"bus": "Kafka is away"}
    progress.beat("bus")
    assert progress.problems() == {}


def test_a_part_that_hangs_in_its_work_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    at = [100.0]
    monkeypatch.setattr(health.time, "monotonic", lambda: at[0])
    progress = Progress()
    progress.beat("outbox")
    progress.work("outbox")
    at[0] += health.STUCK_S + 1
    assert "same work for 61 s" in progress.problems()["outbox"]
    progress.beat("outbox")
    assert progress.problems() == {}


async def test_a_job_that_crashes_again_and_again_makes_its_service_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_STEADY_S", 0.1)
    progress = Progress()
    broken = asyncio.Event()

    async def job() -> None:
        if not broken.is_set():
            broken.set()
            raise ZeroDivisionError("the job's own fault")
        await asyncio.Event().wait()

    task = asyncio.create_task(again("job", job, progress))
    await broken.wait()
    await eventually(lambda: "ZeroDivisionError" in progress.problems().get("job", ""))
    await eventually(lambda: progress.problems() == {})
    task.cancel()


async def test_a_job_that_failed_and_came_to_its_end_is_no_trouble_any_more() -> None:
    progress, tries = Progress(), list[int]()

    async def job() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ZeroDivisionError("at first")

    await again("job", job, progress)
    assert progress.parts["job"].failing_since is None
    assert progress.problems() == {}


def test_pauses_grow_and_are_short_again_after_a_while_without_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    at = [100.0]
    monkeypatch.setattr(jobs.time, "monotonic", lambda: at[0])
    backoff = Backoff(0.5, longest_s=3.0)

    def pauses(count: int) -> list[float]:
        found: list[float] = []
        for _ in range(count):
            found.append(backoff.pause())
            at[0] += found[-1] + 1
        return found

    assert pauses(5) == [0.5, 1.0, 2.0, 3.0, 3.0]
    at[0] += 61
    assert pauses(3) == [0.5, 1.0, 2.0]
