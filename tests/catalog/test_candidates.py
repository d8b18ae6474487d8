"""What retrainings bring: whatever dies or is away, each candidate ends once, as a version or with a reason."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import pytest

from contracts import Training
from services.catalog import store
from services.catalog.domain import Arrival, Candidate
from services.catalog.intake import Pack
from services.catalog.usecases import Candidates
from services.kit.alerts import alert_id
from services.kit.context import Context, system, use
from services.kit.db import AlreadyHandled
from services.kit.errors import Invalid, NotFound, Unavailable
from services.kit.ids import now
from services.kit.testing import eventually

from . import making
from .hearing import STORY, House

ROOT = Path(__file__).parents[2]


async def test_a_candidate_that_won_becomes_the_next_version_with_its_lineage(house: House) -> None:
    id = await house.hears_of_a_winner()
    assert len(await house.said("model.registered")) == 1, "the handler only records the wish"
    await house.job.once()
    event = (await house.said("model.registered"))[1]
    digest = (await house.way(id)).event["package_digest"]
    assert (event["version"], event["digest"], event["registered_by"]) == (2, digest, "service:governor")
    assert event["training"]["retraining_id"] == id == str(UUID(int=7))
    assert (event["training"]["parent_version"], event["training"]["rows"]) == (1, 500)
    assert event["training"]["metrics"] == {"accuracy": 0.9}
    assert event["headers"]["ce_correlationid"] == STORY["correlation_id"]
    assert event["headers"]["traceparent"].split("-")[1] == STORY["traceparent"].split("-")[1]
    assert event["headers"]["ce_unit"] == "retail"
    assert {"candidate won", "credit version 2"} <= await house.lineage()
    assert not await house.candidates.waiting()


async def test_one_retraining_is_one_version_however_often_it_is_told(house: House) -> None:
    event = making.retraining(package_digest=await house.packed())
    await house.hear(event)
    with pytest.raises(AlreadyHandled):
        await house.hear(event)
    await house.hear(event, id="told again under another id")
    await house.job.once()
    await house.hear(event, id="and once more, when it is a version")
    await house.job.once()
    assert [each["version"] for each in await house.said("model.registered")] == [1, 2]


async def test_what_only_the_event_gets_wrong_is_refused_at_once(house: House) -> None:
    with pytest.raises(Invalid, match="without a package"):
        await house.hear(making.retraining())
    package = await house.packed()
    with pytest.raises(NotFound):
        await house.hear(making.retraining(package_digest=package, champion_version=9))
    with pytest.raises(NotFound):
        await house.hear(making.retraining(package_digest=package), unit="wealth")
    assert not await house.candidates.waiting()


async def test_a_candidate_that_is_refused_says_why_to_a_person_and_is_not_tried_again(house: House) -> None:
    wrong = {
        "no object": "sha256:" + "0" * 64,
        "calls itself other": await house.packed(name="other"),
        "zip": await house.objects.put(b"PK\3\4"),
        "altered": await _swapped(house),
        "column d": await house.packed(columns=[{"name": "d"}], training="t.parquet", files={"t.parquet": b"PAR1"}),
    }
    for id, digest in enumerate(wrong.values(), 20):
        await house.hear(making.retraining(id=id, package_digest=digest), f"wrong {id}")
    await house.job.once()
    ways = [await house.way(str(UUID(int=id))) for id, _ in enumerate(wrong, 20)]
    assert {way.state for way in ways} == {"refused"}
    alerts, audit = await house.said("alert.raised"), await house.said("audit.recorded")
    assert [alert["detail"] for alert in alerts] == [way.reason for way in ways]
    told = await house.said("candidate.refused")
    assert [(event["retraining_id"], event["reason"]) for event in told] == [
        (way.retraining_id, way.reason) for way in ways
    ]
    refusals = [row for row in audit if row["action"] == "candidate.refused"]
    assert [row["detail"]["reason"] for row in refusals] == [way.reason for way in ways]
    for reason, way in zip(list(wrong)[:4], ways, strict=False):
        assert reason in way.reason
    assert {(alert["kind"], alert["subject"], alert["headers"]["ce_unit"]) for alert in alerts} == {
        ("candidate-refused", "credit", "retail")
    }
    assert len(await house.said("model.registered")) == 1
    assert "candidate refused" in await house.lineage()
    await house.hurry()
    await house.job.once()
    assert [(await house.way(way.retraining_id)).attempt for way in ways] == [1] * len(ways)


async def test_the_next_candidate_that_is_registered_ends_the_alert_of_a_refusal(house: House) -> None:
    await house.hears_of_a_winner(id=8, name="other")
    await house.job.once()
    assert await house.said("alert.resolved") == []
    for id in (9, 10):
        await house.hears_of_a_winner(id=id, tags=[f"n{id}"])
        await house.job.once()
    (over,) = await house.said("alert.resolved")
    assert over["alert_id"] == str(alert_id("candidate-refused", "credit"))
    assert over["reason"] == "version 2 was registered"


async def test_a_store_that_is_away_lets_the_candidate_wait_with_growing_pauses(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await house.hears_of_a_winner()
    with monkeypatch.context() as broken:
        broken.setattr(house.objects, "fetch", _raising(Unavailable("the object store is away")))
        pauses = list[float]()
        for _ in range(7):
            before = now()
            with pytest.raises(Unavailable):
                await house.job.once()
            pauses.append(round((await house.way(id)).next_try.timestamp() - before.timestamp()))
            assert await house.candidates.due() == []
            await house.job.once()
            await house.hurry()
    way = await house.way(id)
    assert pauses == [2, 4, 8, 16, 32, 60, 60]
    assert (way.state, way.reason, way.failures) == ("waiting", "waits: the object store is away", 0)
    assert await house.said("alert.raised") == []
    await house.job.once()
    assert (await house.way(id)).state == "registered"


async def test_a_candidate_left_by_a_dead_process_is_taken_up_and_ends_once(house: House) -> None:
    id = await house.hears_of_a_winner()
    dead = await _claimed(house, id, "a process that died")
    await house.job.once()
    way = await house.way(id)
    assert (way.state, way.attempt, way.failures) == ("registered", 2, 1)
    # The one thought dead was only slow: what it brings now is too late.
    with use(Context(system("catalog", "retail"))):
        async with house.db.transaction() as tx:
            assert not await store.end_arrival(tx.session, dead, "refused", "late", now())
            await store.put_back(tx.session, dead, "late", now(), failed=True)
    assert (await house.way(id)).state == "registered"
    assert [each["version"] for each in await house.said("model.registered")] == [1, 2]


async def test_a_kill_in_the_middle_of_an_inspection_loses_nothing_and_doubles_nothing(house: House) -> None:
    id = await house.hears_of_a_winner()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _INSPECTS_FOR_EVER, cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "FAIRLEAD_HOME": str(house.settings.home), "RETRAINING": id,
             "FAIRLEAD_SERVICE_DATABASE": house.settings.service_database},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"inspecting\n"
        await house.job.once()
        assert (await house.way(id)).attempt == 1, "one process at a time"
        process.send_signal(signal.SIGKILL)
        await process.wait()

        async def registered() -> bool:
            await house.job.once()
            return (await house.way(id)).state == "registered"

        await eventually(registered, within=20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert [each["version"] for each in await house.said("model.registered")] == [1, 2]


_INSPECTS_FOR_EVER = """
import asyncio, os
from services.catalog.intake import Intake
from services.catalog.settings import CatalogSettings
from services.catalog.usecases import Candidates
from services.kit.db import Database
from services.kit.objects import Objects

class Slow(Intake):
    async def candidate(self, pack, training, unit):
        print("inspecting", flush=True)
        await asyncio.sleep(3600)

settings = CatalogSettings()
candidates = Candidates(Database(settings.service_database, "catalog"), Slow(settings, Objects(settings)))
asyncio.run(candidates.inspect(os.environ["RETRAINING"]))
"""


async def test_two_processes_inspect_a_candidate_once(house: House) -> None:
    id = await house.hears_of_a_winner()
    await asyncio.gather(*(Candidates(house.db, house.intake).inspect(id) for _ in range(4)))
    assert [each["version"] for each in await house.said("model.registered")] == [1, 2]
    assert (await house.way(id)).failures == 0


async def test_a_candidate_that_fails_in_a_way_nobody_foresaw_holds_up_no_other_and_ends(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = await house.hears_of_a_winner(), await house.hears_of_a_winner(id=8, tags=["good"])
    there = house.intake.candidate

    async def candidate(pack: Pack, training: Training, unit: str) -> Candidate:
        if "good" in pack.manifest.tags:
            return await there(pack, training, unit)
        raise KeyError("a fault of ours")

    monkeypatch.setattr(house.intake, "candidate", candidate)
    await house.job.once()
    way = await house.way(bad)
    assert (way.state, way.reason, way.failures) == ("waiting", "waits: KeyError: 'a fault of ours'", 1)
    assert (await house.way(good)).state == "registered"
    for _ in range(5):
        await house.hurry()
        await house.job.once()
    way = await house.way(bad)
    assert (way.state, way.attempt) == ("refused", 6)
    assert "broke off 5 times" in way.reason


async def test_a_service_that_is_stopped_puts_its_candidate_back(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    id = await house.hears_of_a_winner()
    began = asyncio.Event()

    async def candidate(*_: object) -> None:
        began.set()
        await asyncio.sleep(3600)

    with monkeypatch.context() as slow:
        slow.setattr(house.intake, "candidate", candidate)
        running = asyncio.create_task(house.job.run())
        await asyncio.wait_for(began.wait(), 20)
        running.cancel()
        await asyncio.wait([running], timeout=10)
    way = await house.way(id)
    assert (way.state, way.reason, way.failures) == ("waiting", "waits: the service was stopped", 0)
    await house.job.once()
    assert (await house.way(id)).state == "registered"


async def test_readiness_says_what_candidates_wait_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.hears_of_a_winner()
    part = house.progress.parts["candidates"]
    with monkeypatch.context() as broken:
        broken.setattr(house.objects, "fetch", _raising(Unavailable("the object store is away")))
        running = asyncio.create_task(house.job.run())

        async def tells() -> bool:
            return part.reason == "the object store is away"

        await eventually(tells, within=10)
        await house.job.once()
        assert part.reason, "a look that finds nothing due is no progress"
    await house.hurry()
    house.candidates.asked()

    async def well() -> bool:
        return part.failing_since is None

    await eventually(well, within=10)
    running.cancel()
    await asyncio.wait([running], timeout=10)


async def _claimed(house: House, id: str, holder: str) -> Arrival:
    with use(Context(system("catalog"))):
        async with house.db.transaction() as tx:
            arrival = await store.claim(tx.session, id, holder, now())
    assert arrival is not None
    return arrival


async def _swapped(house: House) -> str:
    digest = await house.packed(tags=["swapped"])
    path = Path(house.settings.home / "objects" / "sha256" / digest[7:9] / digest[7:])
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    return digest


def _raising(error: Exception) -> Callable[..., Awaitable[None]]:
    async def away(*_: object) -> None:
        raise error

    return away
