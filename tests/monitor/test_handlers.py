"""The monitor on real Kafka and PostgreSQL: what it counts is exact, what it finds it says once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import numpy as np
import pytest

from contracts import DriftDetected, MonitorReported, MonitorSettings, Service
from services.kit.context import Caller, Context, use
from services.kit.errors import NotFound
from services.kit.kafka import Connection
from services.kit.objects import Objects
from services.kit.outbox import Relay
from services.kit.service import Parts
from services.kit.settings import Settings
from services.kit.signing import canonical
from services.kit.testing import eventually
from services.kit.watch import latest
from services.monitor.app import build
from services.monitor.settings import MonitorSettings as Service_
from services.monitor.usecases.desired import Desired
from services.monitor.usecases.reading import Reading
from services.monitor.usecases.versions import Versions

from . import streams
from .saying import aligned, deployment, fresh, logged, say_deployment, say_logged, spread

Speaker = Callable[[Service], Settings]
ENGINEER = Context(Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"})))


@asynccontextmanager
async def running(settings: Service_) -> AsyncIterator[Parts]:
    """The monitor's jobs and its outbox, as the service runs them."""
    parts = build(settings)
    assert parts.db
    relay = Relay(settings, parts.db, parts.progress)
    tasks = [asyncio.create_task(job()) for job in (*parts.jobs, relay.run)]
    try:
        yield parts
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await parts.db.close()


@pytest.fixture
async def baseline(monitor_settings: Service_) -> str:
    profile = streams.profile(np.random.default_rng(11))
    return await Objects(monitor_settings).put(canonical(profile))


async def windows(parts: Parts, endpoint: str) -> list[MonitorReported]:
    assert parts.db
    with use(ENGINEER):
        return await Reading(parts.db).windows(endpoint, None, 1_000)


async def counted(parts: Parts, endpoint: str) -> int:
    try:
        return sum(window.window.rows for window in await windows(parts, endpoint))
    except NotFound:
        return 0


async def test_windows_hold_the_distinct_rows_and_a_departure_is_told_once(
    monitor_settings: Service_, speaker: Speaker, baseline: str
) -> None:
    endpoint, world = fresh(), streams.World(np.random.default_rng(3))
    start = aligned(60)
    clean = spread(world.rows(3_000), 10, start, 30)
    moved = spread(world.rows(1_000, "shift"), 10, start + timedelta(seconds=30), 10)
    records = [logged(endpoint, rows, seq, at) for seq, (rows, at) in enumerate([*clean, *moved])]
    await say_deployment(speaker("deployer"), deployment(endpoint, streams.schema(), baseline))
    async with running(monitor_settings) as parts:
        await say_logged(speaker("scorer"), records)
        # A forwarder that was killed says again what it may have said before.
        await say_logged(speaker("scorer"), records[100:250])
        assert await eventually(lambda: _is(counted(parts, endpoint), 4_000), within=60)
        await eventually(lambda: drifts(monitor_settings, endpoint), within=5)
        await asyncio.sleep(1.0)
        found = await windows(parts, endpoint)
        (drift,) = await drifts(monitor_settings, endpoint)
    assert [(w.window.rows, w.inferences, w.revision) for w in reversed(found)] == [(1000, 100, 0)] * 4
    assert drift.features[0].name in ("a", "label") and drift.budget_rows == 100_000
    assert abs((drift.since - start).total_seconds() - 30) < 3
    assert found[0].latency is not None and found[0].latency.p50_ms == pytest.approx(0.8, rel=0.03)
    age = next(column for column in found[0].columns if column.name == "a")
    assert age.effect > 0.3 and age.rows == 1_000


async def drifts(settings: Service_, endpoint: str) -> list[DriftDetected]:
    """What was said of an endpoint, as the operator reads it."""
    operator = Connection.read(settings.home / "kafka" / "operator.properties")
    said = [DriftDetected.from_json(r.value) for r in await latest(operator, ["drift.detected"], 100) if r.value]
    return [event for event in said if event.endpoint == endpoint]


async def _is(counting: "asyncio.Future[int] | object", wanted: int) -> bool:
    return await counting == wanted  # type: ignore[misc]


async def test_rows_that_come_late_revise_their_window(
    monitor_settings: Service_, speaker: Speaker, baseline: str
) -> None:
    endpoint, world, start = fresh(), streams.World(np.random.default_rng(4)), aligned(60)
    await say_deployment(speaker("deployer"), deployment(endpoint, streams.schema(), baseline))
    async with running(monitor_settings) as parts:
        await say_logged(speaker("scorer"), [logged(endpoint, world.rows(50), 1, start)])
        assert await eventually(lambda: _is(counted(parts, endpoint), 50), within=60)
        await say_logged(speaker("scorer"), [logged(endpoint, world.rows(7), 2, start + timedelta(seconds=9))])
        assert await eventually(lambda: _is(counted(parts, endpoint), 57), within=30)
        (window,) = await windows(parts, endpoint)
    assert window.revision == 1 and window.inferences == 2
    assert {column.rows for column in window.columns if column.name != "probabilities"} == {57}


async def test_another_version_is_watched_anew_and_closes_the_alarm(
    monitor_settings: Service_, speaker: Speaker, baseline: str
) -> None:
    endpoint, world, start = fresh(), streams.World(np.random.default_rng(5)), aligned(120)
    await say_deployment(speaker("deployer"), deployment(endpoint, streams.schema(), baseline))
    async with running(monitor_settings) as parts:
        assert parts.db
        reading = Reading(parts.db)
        moved = spread(world.rows(1_500, "shift"), 50, start, 20)
        await say_logged(speaker("scorer"), [logged(endpoint, r, seq, at) for seq, (r, at) in enumerate(moved)])

        async def drifting() -> bool:
            with use(ENGINEER):
                return (await reading.standing(endpoint)).alarm is not None

        assert await eventually(lambda: _is(counted(parts, endpoint), 1_500), within=60)
        assert await eventually(drifting, within=5)
        now_normal = streams.profile(np.random.default_rng(12))
        second = await Objects(monitor_settings).put(canonical(now_normal))
        event = deployment(endpoint, streams.schema(), second, version=2, revision=2)
        await say_deployment(speaker("deployer"), event)
        assert await eventually(lambda: _not(drifting()), within=10)
        with use(ENGINEER):
            standing = await reading.standing(endpoint)
    assert standing.watch is None and standing.endpoint.version == 2
    assert [(f.kind, f.closed_because) for f in standing.findings if f.kind == "alarm"] == [
        ("alarm", "version 2 serves")
    ]


async def _not(asked: object) -> bool:
    return not await asked  # type: ignore[misc]


async def test_a_record_that_cannot_be_read_is_a_dead_letter_and_the_rest_is_counted(
    monitor_settings: Service_, speaker: Speaker, baseline: str
) -> None:
    endpoint, world, start = fresh(), streams.World(np.random.default_rng(6)), aligned(60)
    await say_deployment(speaker("deployer"), deployment(endpoint, streams.schema(), baseline))
    good = logged(endpoint, world.rows(5), 3, start)
    strange = logged(endpoint, world.rows(5), 1, start) | {"request": {"inputs": "nonsense"}}
    lost = logged(endpoint, world.rows(5), 2, start) | {"received_at": "yesterday"}
    async with running(monitor_settings) as parts:
        await say_logged(speaker("scorer"), [strange, lost, good])
        assert await eventually(lambda: _is(counted(parts, endpoint), 10), within=60)
        (window,) = await windows(parts, endpoint)
        assert parts.settings == monitor_settings
    assert {column.rows for column in window.columns if column.name != "probabilities"} == {5}


async def test_an_endpoint_without_a_baseline_is_counted_all_the_same(
    monitor_settings: Service_, speaker: Speaker
) -> None:
    endpoint, world, start = fresh(), streams.World(np.random.default_rng(7)), aligned(60)
    await say_deployment(speaker("deployer"), deployment(endpoint, streams.schema(), None))
    async with running(monitor_settings) as parts:
        await say_logged(speaker("scorer"), [logged(endpoint, world.rows(5), 1, start)])
        assert await eventually(lambda: _is(counted(parts, endpoint), 5), within=60)
        (window,) = await windows(parts, endpoint)
    assert window.columns == () and window.latency is not None


async def test_settings_that_a_person_overrides_hold_and_survive_a_deployment(
    monitor_settings: Service_, speaker: Speaker, baseline: str
) -> None:
    endpoint = fresh()
    first = deployment(endpoint, streams.schema(), baseline)
    async with running(monitor_settings) as parts:
        assert parts.db
        desired = Desired(parts.db, Versions(parts.db, Objects(monitor_settings)))
        await say_deployment(speaker("deployer"), first)

        async def known(revision_settings: float) -> bool:
            with use(ENGINEER):
                found = await Reading(parts.db).endpoints("", 1_000)  # type: ignore[arg-type]
            return any(e.endpoint == endpoint and e.settings.tolerance == revision_settings for e in found)

        assert await eventually(lambda: known(0.1), within=20)
        with use(ENGINEER):
            assert (await desired.configure(endpoint, {"tolerance": 0.3})).settings == MonitorSettings(
                window_s=10.0, budget_rows=100_000, tolerance=0.3
            )
        again = deployment(endpoint, streams.schema(), baseline, version=2, revision=2)
        await say_deployment(speaker("deployer"), again)

        async def second() -> bool:
            with use(ENGINEER):
                found = await Reading(parts.db).standing(endpoint)  # type: ignore[arg-type]
            return found.endpoint.version == 2 and found.endpoint.settings.tolerance == 0.3

        assert await eventually(second, within=10)
