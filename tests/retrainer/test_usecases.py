"""Durable jobs on real PostgreSQL: whatever dies, each ends once, in its own story and unit."""

import asyncio
from datetime import datetime

import pytest

from contracts import ModelRegistered, Training
from services.kit.context import Context, system, use
from services.kit.errors import Conflict, NotFound, NotYet, Unavailable
from services.retrainer import store
from services.retrainer.domain import Job, Retrained
from services.retrainer.gateway import Snapshot

from . import making
from .making import ENGINEER, OTHER_UNIT, STORY, House


async def test_a_request_becomes_one_job_and_one_event_of_its_story(house: House) -> None:
    await house.knows()
    asked = await house.is_asked()
    assert (await house.job(asked.retraining_id)).state == "requested"
    assert await house.retrainer.work()
    job = await house.job(asked.retraining_id)
    assert job.state == "candidate_won", job.reason
    ((headers, completed),) = await house.said()
    assert completed.retraining_id == asked.retraining_id
    assert completed.package_digest is not None
    assert completed.champion_metrics["accuracy"] < completed.candidate_metrics["accuracy"]
    assert (headers["ce_unit"], headers["ce_correlationid"]) == ("retail", STORY["correlation_id"])
    assert job.result["package_digest"] == completed.package_digest
    assert not await house.retrainer.work()


async def test_a_request_for_an_unknown_version_waits(house: House) -> None:
    with pytest.raises(NotYet):
        await house.is_asked()


async def test_a_repeated_request_is_the_same_job(house: House) -> None:
    await house.knows()
    asked = await house.is_asked()
    await house.hears(house.retrainer.take_request, asked)
    with use(Context(ENGINEER)):
        assert len(await house.retrainer.jobs("retraining", {}, None, 10)) == 1


async def test_jobs_are_done_one_at_a_time(house: House) -> None:
    await house.knows()
    await house.is_asked()
    async with store.turn(house.db) as mine:
        assert mine
        assert not await house.another().work()
    assert await house.another().work()


async def test_the_turn_of_a_dead_connection_is_free_at_once(house: House) -> None:
    async with store.turn(house.db) as first:
        assert first
    async with store.turn(house.db) as second:
        assert second


async def test_a_job_left_by_a_dead_process_is_taken_up_and_ends_once(house: House) -> None:
    await house.knows()
    asked = await house.is_asked()
    dead = await _claimed(house)
    assert dead.attempt == 1
    assert await house.retrainer.work()
    assert (await house.job(asked.retraining_id)).attempt == 2
    # The one thought dead was only slow: what it brings now is too late.
    await _late(house, dead)
    assert len(await house.said()) == 1


async def test_an_attempt_that_was_thought_dead_does_not_end_the_one_that_followed(house: House) -> None:
    await house.knows()
    asked = await house.is_asked()
    dead, _ = await _claimed(house), await _claimed(house)
    await _late(house, dead)
    job = await house.job(asked.retraining_id)
    assert (job.state, job.attempt) == ("running", 2)


async def test_a_job_that_kills_every_process_fails_with_its_reason(house: House) -> None:
    await house.knows()
    asked = await house.is_asked()
    for _ in range(3):
        await _claimed(house)
    assert await house.retrainer.work()
    job = await house.job(asked.retraining_id)
    assert job.state == "failed"
    assert "ended the retrainer's process 3 times" in str(job.reason)
    assert house.shelf.asked == 0


async def test_a_recorder_that_is_away_lets_the_job_wait(house: House) -> None:
    await house.knows()
    asked = await house.is_asked()

    async def away(endpoint: str, model: str, since: datetime | None) -> Snapshot:
        raise Unavailable("the recorder is away")

    there, house.shelf.snapshot = house.shelf.snapshot, away
    for _ in range(5):
        with pytest.raises(Unavailable):
            await house.retrainer.work()
    job = await house.job(asked.retraining_id)
    assert (job.state, job.reason) == ("requested", "waits: the recorder is away")
    assert await house.said() == []
    house.shelf.snapshot = there
    assert await house.retrainer.work()
    assert (await house.job(asked.retraining_id)).state == "candidate_won"


async def test_a_job_that_fails_in_a_way_nobody_foresaw_ends_with_a_reason_and_holds_up_no_other(house: House) -> None:
    await house.knows()
    bad = await house.is_asked()
    good = await house.is_asked()
    there = house.workshop.retrain

    async def broken(job: Job, model: ModelRegistered) -> Retrained:
        if job.id == bad.retraining_id:
            raise RuntimeError("a fault of ours")
        return await there(job, model)

    house.workshop.retrain = broken
    for _ in range(3):
        with pytest.raises(RuntimeError):
            await house.retrainer.work()
        if (await house.job(good.retraining_id)).state == "requested":
            assert await house.retrainer.work()
    assert (await house.job(good.retraining_id)).state == "candidate_won"
    assert await house.retrainer.work()
    job = await house.job(bad.retraining_id)
    assert job.state == "failed" and "ask for another" in str(job.reason)
    house.workshop.retrain = there
    again = await house.is_asked()
    assert await house.retrainer.work()
    assert (await house.job(again.retraining_id)).state == "candidate_won"


async def test_a_restart_of_the_service_in_the_middle_of_a_job_is_no_fault_of_the_job(house: House) -> None:
    await house.knows()
    asked, begun = await house.is_asked(), asyncio.Event()
    there = house.shelf.snapshot

    async def slow(endpoint: str, model: str, since: datetime | None) -> Snapshot:
        begun.set()
        await asyncio.sleep(60)
        raise AssertionError

    house.shelf.snapshot = slow
    for _ in range(4):
        begun.clear()
        work = asyncio.create_task(house.another().work())
        await begun.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    house.shelf.snapshot = there
    assert await house.retrainer.work()
    job = await house.job(asked.retraining_id)
    assert (job.state, job.orphaned) == ("candidate_won", 0)


async def test_too_few_labels_fail_with_how_many_there_are(house: House) -> None:
    await house.knows()
    house.shelf.data = making.snapshot(300, labelled=17)
    await house.is_asked()
    assert await house.retrainer.work()
    ((_, completed),) = await house.said()
    assert completed.outcome == "failed"
    assert completed.reason == "there are 17 labelled rows (of 300 recorded), and a retraining needs 200"
    assert completed.snapshot_digest is not None


async def test_jobs_are_seen_by_their_unit_alone(house: House) -> None:
    await house.knows()
    asked = await house.is_asked()
    with pytest.raises(NotFound):
        await house.job(asked.retraining_id, OTHER_UNIT)
    with use(Context(OTHER_UNIT)):
        assert await house.retrainer.jobs("retraining", {}, None, 10) == []
        with pytest.raises(NotFound):
            await house.retrainer.reproduce(OTHER_UNIT, "threshold", 1)


async def test_a_version_from_outside_cannot_be_reproduced(house: House) -> None:
    await house.knows()
    with use(Context(ENGINEER)), pytest.raises(Conflict, match="came from outside"):
        await house.retrainer.reproduce(ENGINEER, "threshold", 1)


async def test_a_retrained_version_is_reproduced(house: House) -> None:
    await house.knows()
    asked = await house.is_asked()
    await house.retrainer.work()
    ((_, completed),) = await house.said()
    known = Training(
        data_digest=completed.snapshot_digest, retraining_id=str(asked.retraining_id), parent_version=1,
        metrics=completed.candidate_metrics,
    )  # fmt: skip
    made = making.registered(str(completed.package_digest), version=2, training=known)
    await house.hears(house.retrainer.learn_version, made)
    with use(Context(ENGINEER)):
        job = await house.retrainer.reproduce(ENGINEER, "threshold", 2)
    assert await house.retrainer.work()
    with use(Context(ENGINEER)):
        ended = await house.retrainer.job(job.id, "reproduction")
    assert ended.state == "identical", ended.reason
    assert len(await house.said()) == 1


async def test_two_processes_at_once_do_a_job_once(house: House) -> None:
    await house.knows()
    await house.is_asked()
    done = await asyncio.gather(*(house.another().work() for _ in range(3)))
    assert sorted(done) == [False, False, True]
    assert len(await house.said()) == 1


async def _claimed(house: House) -> Job:
    with use(Context(system("retrainer"))):
        async with house.db.transaction() as tx:
            job = await store.claim(tx.session, making.now())
    assert job is not None
    return job


async def _late(house: House, job: Job) -> None:
    with use(Context(system("retrainer", "retail"))):
        async with house.db.transaction() as tx:
            assert not await store.end(tx.session, job, "failed", "late", {}, making.now())
