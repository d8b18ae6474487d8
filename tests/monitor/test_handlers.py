"""The monitor on real Kafka and PostgreSQL: what it counts is exact, what it finds it says once."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import orjson
import pytest
from sqlalchemy import text

from contracts import DriftDetected, MonitorReported, MonitorSettings, Rule, Service
from services.kit.context import Caller, Context, use
from services.kit.errors import Invalid, NotFound
from services.kit.kafka import Connection
from services.kit.letters import Letter
from services.kit.objects import Objects
from services.kit.outbox import Relay
from services.kit.payloads import Payloads
from services.kit.service import Parts, close
from services.kit.settings import Settings
from services.kit.signing import canonical, digest_of
from services.kit.testing import eventually
from services.kit.testing import running as beside
from services.kit.watch import latest
from services.monitor.api import StandingView
from services.monitor.app import build
from services.monitor.settings import MonitorSettings as Service_
from services.monitor.usecases.desired import Desired
from services.monitor.usecases.reading import Reading
from services.monitor.usecases.serving import Serving
from services.monitor.usecases.versions import Versions

from . import streams
from .saying import (
    aligned,
    as_batch,
    buried,
    deployment,
    fresh,
    logged,
    referring,
    replay,
    say_deployment,
    say_logged,
    spread,
)

Speaker = Callable[[Service], Settings]
ENGINEER = Context(Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"})))


@asynccontextmanager
async def running(settings: Service_) -> AsyncIterator[Parts]:
    """The monitor's jobs and its outbox, as the service runs them."""
    parts = build(settings)
    assert parts.db
    relay = Relay(settings, parts.db, parts.progress)
    try:
        async with beside(*(job() for job in parts.jobs), relay.run()):
            yield parts
    finally:
        await close(parts)


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
        # What the repeats could do wrong is done once a record behind them is counted.
        (last,) = spread(world.rows(10, "shift"), 10, start + timedelta(seconds=39), 1)
        await say_logged(speaker("scorer"), [logged(endpoint, last[0], len(records), last[1])])
        assert await eventually(lambda: _is(counted(parts, endpoint), 4_010), within=30)
        found = await windows(parts, endpoint)
        (drift,) = await drifts(monitor_settings, endpoint)
    told = [(w.window.rows, w.inferences, w.revision) for w in reversed(found)]
    assert told == [(1000, 100, 0)] * 3 + [(1010, 101, 1)]
    assert drift.features[0].name in ("a", "label") and drift.budget_rows == 100_000
    assert abs((drift.since - start).total_seconds() - 30) < 3
    assert found[0].latency is not None and found[0].latency.p50_ms == pytest.approx(0.8, rel=0.03)
    age = next(column for column in found[0].columns if column.name == "a")
    assert age.effect > 0.3 and age.rows == 1_010


async def test_a_window_tells_how_its_rows_came(monitor_settings: Service_, speaker: Speaker, baseline: str) -> None:
    """Twelve like windows, one with a fifth of the rows and an id that comes back; a late row revises it."""
    endpoint, world, start = fresh(), streams.World(np.random.default_rng(5)), aligned(200)
    records: list[dict[str, Any]] = []
    for window in range(13):
        for place in range(10 if window < 12 else 2):
            at = start + timedelta(seconds=10 * window + place / 2)
            records.append(logged(endpoint, world.rows(10), len(records), at) | {"request_id": f"{window}-{place}"})
    records[-1]["request_id"] = records[-2]["request_id"]
    await say_deployment(speaker("deployer"), deployment(endpoint, streams.schema(), baseline))
    async with running(monitor_settings) as parts:
        await say_logged(speaker("scorer"), records)
        assert await eventually(lambda: _is(counted(parts, endpoint), 1_220), within=60)
        newest, *before = await windows(parts, endpoint)
        late = logged(endpoint, world.rows(1), len(records), start + timedelta(seconds=127))
        await say_logged(speaker("scorer"), [late | {"request_id": "12-0"}])
        assert await eventually(lambda: _is(counted(parts, endpoint), 1_221), within=30)
        revised = (await windows(parts, endpoint))[0]
        assert parts.db
        with use(ENGINEER):
            standing = await Reading(parts.db).standing(endpoint)
    assert newest.traffic and newest.traffic.volume == "fewer" and newest.traffic.expected_rows
    assert newest.traffic.expected_rows[0] > 50
    assert (newest.traffic.named_ids, newest.traffic.repeated_ids) == (2, 1)
    assert newest.traffic.newest_row_at == start + timedelta(seconds=120.5)
    assert [w.traffic.volume for w in before if w.traffic] == ["expected", "expected", *[None] * 10]
    assert revised.revision == 1 and revised.traffic
    assert (revised.traffic.named_ids, revised.traffic.repeated_ids) == (3, 2)
    assert revised.traffic.newest_row_at == start + timedelta(seconds=127) == standing.newest_row_at
    told = StandingView.at(standing)
    assert told.age_s is not None and 60 < told.age_s < 200


async def drifts(settings: Service_, endpoint: str) -> list[DriftDetected]:
    """What was said of an endpoint, as the operator reads it."""
    operator = Connection.read(settings.home / "kafka" / "operator.properties")
    said = [DriftDetected.from_json(r.value) for r in await latest(operator, ["drift.detected"], 100) if r.value]
    return [event for event in said if event.endpoint == endpoint]


async def _is(counting: object, wanted: object) -> bool:
    return await counting == wanted  # pyright: ignore[reportGeneralTypeIssues]


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


async def test_what_a_shadow_would_have_answered_is_in_no_window(
    monitor_settings: Service_, speaker: Speaker, baseline: str
) -> None:
    endpoint, world, start = fresh(), streams.World(np.random.default_rng(4)), aligned(60)
    await say_deployment(speaker("deployer"), deployment(endpoint, streams.schema(), baseline))
    said = [logged(endpoint, world.rows(10), n, start) for n in range(1, 4)]
    said[1] |= {"shadow_of": said[0]["inference_id"], "variant": "challenger"}
    async with running(monitor_settings) as parts:
        await say_logged(speaker("scorer"), said)
        assert await eventually(lambda: _is(counted(parts, endpoint), 20), within=60)
        (window,) = await windows(parts, endpoint)
        assert parts.db
        with use(ENGINEER):
            whole = (await Serving(monitor_settings, parts.db).service(endpoint, "1h")).whole
    assert window.inferences == whole.inferences == 2 and whole.rows == 20


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


async def test_another_model_with_the_same_number_is_watched_anew_and_the_window_between_keeps_its_rows(
    monitor_settings: Service_, speaker: Speaker, baseline: str
) -> None:
    endpoint, world, start = fresh(), streams.World(np.random.default_rng(15)), aligned(60)
    await say_deployment(speaker("deployer"), deployment(endpoint, streams.schema(), baseline))
    async with running(monitor_settings) as parts:
        assert parts.db
        await say_logged(speaker("scorer"), [logged(endpoint, world.rows(300), 1, start)])
        assert await eventually(lambda: _is(counted(parts, endpoint), 300), within=60)
        small = streams.profile(np.random.default_rng(12), rows=30)
        second = await Objects(monitor_settings).put(canonical(small))
        event = deployment(endpoint, streams.schema(), second, revision=2, model="another-model")
        await say_deployment(speaker("deployer"), event)
        await eventually(lambda: _known(parts, endpoint), within=20)
        at = [start + timedelta(seconds=s) for s in (1, 11)]
        await say_logged(speaker("scorer"), [logged(endpoint, world.rows(40), 2 + n, t) for n, t in enumerate(at)])
        assert await eventually(lambda: _is(counted(parts, endpoint), 380), within=30)
        with use(ENGINEER):
            standing = await Reading(parts.db).standing(endpoint)
    assert standing.watch is not None and standing.watch.detector.rows == 40


async def _not(asked: object) -> bool:
    return not await asked  # pyright: ignore[reportGeneralTypeIssues]


async def test_a_record_that_cannot_be_read_is_a_dead_letter_and_the_rest_is_counted(
    monitor_settings: Service_, speaker: Speaker, baseline: str
) -> None:
    endpoint, world, start = fresh(), streams.World(np.random.default_rng(6)), aligned(60)
    await say_deployment(speaker("deployer"), deployment(endpoint, streams.schema(), baseline))
    good = logged(endpoint, world.rows(5), 3, start)
    strange: dict[str, Any] = logged(endpoint, world.rows(5), 1, start) | {"request": {"inputs": "nonsense"}}
    lost = logged(endpoint, world.rows(5), 2, start) | {"received_at": "yesterday"}
    async with running(monitor_settings) as parts:
        await say_logged(speaker("scorer"), [strange, lost, good])
        assert await eventually(lambda: _is(counted(parts, endpoint), 10), within=60)
        (window,) = await windows(parts, endpoint)
        letters = await letters_of(monitor_settings, [strange, lost, good])
    assert {column.rows for column in window.columns if column.name != "probabilities"} == {5}
    assert {letter.record.key: letter.record.header(REASON) for letter in letters} == {
        strange["inference_id"].encode(): "the payload is no V2 request or response",
        lost["inference_id"].encode(): "received_at: it is not an ISO 8601 time",
    }


REASON = "__connect.errors.exception.message"


async def letters_of(settings: Service_, records: list[dict[str, Any]]) -> list[Letter]:
    return await buried(settings, "monitor", "inference.logged", [record["inference_id"] for record in records])


async def test_a_dead_letter_that_is_replayed_after_its_cause_is_mended_is_counted_once(
    monitor_settings: Service_, speaker: Speaker, baseline: str
) -> None:
    endpoint, world, start = fresh(), streams.World(np.random.default_rng(8)), aligned(60)
    await say_deployment(speaker("deployer"), deployment(endpoint, streams.schema(), baseline))
    whole = logged(endpoint, world.rows(7), 1, start)
    request = orjson.dumps(whole["request"])
    early, good = referring(whole, digest_of(request)), logged(endpoint, world.rows(5), 2, start)
    async with running(monitor_settings) as parts:
        await say_logged(speaker("scorer"), [early, good])
        assert await eventually(lambda: _is(counted(parts, endpoint), 5), within=60)
        (letter,) = await letters_of(monitor_settings, [early, good])
        await replay(monitor_settings, [letter])
        assert await eventually(lambda: _have(letters_of(monitor_settings, [early]), 2), within=30)
        await Objects(monitor_settings).put(request)
        for _ in range(2):
            await replay(monitor_settings, [letter])
            assert await eventually(lambda: _is(counted(parts, endpoint), 12), within=30)
        last = logged(endpoint, world.rows(1), 3, start)
        await say_logged(speaker("scorer"), [last | {"inference_id": early["inference_id"]}])  # behind the replays
        assert await eventually(lambda: _is(counted(parts, endpoint), 13), within=30)
        (window,) = await windows(parts, endpoint)
    assert window.inferences == 3 and {c.rows for c in window.columns if c.name != "probabilities"} == {13}


async def test_rows_that_were_counted_without_their_columns_get_them_by_a_replay_and_count_no_more(
    monitor_settings: Service_, speaker: Speaker, baseline: str
) -> None:
    endpoint, world, start = fresh(), streams.World(np.random.default_rng(9)), aligned(60)
    broader = streams.schema().model_copy(update={"prediction": "another"})
    await say_deployment(speaker("deployer"), deployment(endpoint, broader, baseline))
    said = logged(endpoint, world.rows(6), 1, start)
    async with running(monitor_settings) as parts:
        await say_logged(speaker("scorer"), [said])
        assert await eventually(lambda: _is(counted(parts, endpoint), 6), within=60)
        (letter,) = await letters_of(monitor_settings, [said])
    await say_deployment(speaker("deployer"), deployment(endpoint, streams.schema(), baseline, revision=2))
    async with running(monitor_settings) as parts:

        async def columns() -> set[int]:
            (window,) = await windows(parts, endpoint)
            return {column.rows for column in window.columns if column.name != "probabilities"}

        await eventually(lambda: _known(parts, endpoint), within=20)
        for _ in range(2):
            await replay(monitor_settings, [letter])
            assert await eventually(lambda: _is(columns(), {6}), within=30)
        last = logged(endpoint, world.rows(1), 3, start)
        await say_logged(speaker("scorer"), [last | {"inference_id": said["inference_id"]}])
        assert await eventually(lambda: _is(counted(parts, endpoint), 7), within=30)
        assert await columns() == {7}
        (window,) = await windows(parts, endpoint)
        assert parts.db
        with use(ENGINEER):
            whole = (await Serving(monitor_settings, parts.db).service(endpoint, "1h")).whole
    assert window.inferences == whole.inferences == 2 and whole.rows == 7


async def test_rules_are_counted_for_distinct_rows_late_and_replayed_ones_too(
    monitor_settings: Service_, speaker: Speaker, baseline: str
) -> None:
    """Every second row breaks a rule; some records are said twice, one is a dead letter at first, one comes late."""
    endpoint, world, start = fresh(), streams.World(np.random.default_rng(9)), aligned(60)
    watching = MonitorSettings(window_s=10.0, rules={"limit": Rule(must="!(a > 100.0 && prediction in [0, 1])")})
    broader = streams.schema().model_copy(update={"prediction": "another"})
    records = [logged(endpoint, _with(world.rows(6), 200.0), seq, start + timedelta(seconds=seq)) for seq in range(5)]
    late = logged(endpoint, _with(world.rows(4), 200.0), 9, start + timedelta(seconds=1))
    await say_deployment(speaker("deployer"), deployment(endpoint, broader, baseline, monitor=watching))
    async with running(monitor_settings) as parts:
        await say_logged(speaker("scorer"), records[:1])
        assert await eventually(lambda: _is(counted(parts, endpoint), 6), within=60)
        (letter,) = await letters_of(monitor_settings, records[:1])
    deployed = deployment(endpoint, streams.schema(), baseline, revision=2, monitor=watching)
    await say_deployment(speaker("deployer"), deployed)
    async with running(monitor_settings) as parts:

        async def kept() -> tuple[int, ...]:
            (window,) = await windows(parts, endpoint)
            counts = [(rule.rows, rule.broken, rule.undecided) for rule in window.rules]
            return window.window.rows, *(counts[0] if counts else ())

        await eventually(lambda: _known(parts, endpoint), within=20)
        await say_logged(speaker("scorer"), [*records[1:], *records[1:3]])
        assert await eventually(lambda: _is(kept(), (30, 24, 12, 0)), within=30), await kept()
        for _ in range(2):
            await replay(monitor_settings, [letter])
            assert await eventually(lambda: _is(kept(), (30, 30, 15, 0)), within=30), await kept()
        await say_logged(speaker("scorer"), [late])
        assert await eventually(lambda: _is(kept(), (34, 34, 17, 0)), within=30), await kept()
        (window,) = await windows(parts, endpoint)
    (rule,) = window.rules
    first = [(each.inference_id, each.row) for each in rule.examples]
    assert first == [
        (records[0]["inference_id"], 0),
        *sorted([(records[1]["inference_id"], 0), (late["inference_id"], 0)]),
    ]


def _with(rows: np.ndarray, large: float) -> np.ndarray:
    """Every second row with a large first column."""
    rows[::2, 0] = large
    return rows


async def _have(asked: Any, wanted: int) -> bool:
    return len(await asked) == wanted


async def _known(parts: Parts, endpoint: str) -> bool:
    """Whether the endpoint's second revision has arrived."""
    assert parts.db
    with use(ENGINEER):
        async with parts.db.reading() as session:
            found = "SELECT revision FROM endpoint WHERE endpoint = :e"
            return await session.scalar(text(found), {"e": endpoint}) == 2


async def test_a_batch_of_the_log_that_refers_to_more_than_memory_holds_is_counted_in_parts(
    monitor_settings: Service_, speaker: Speaker, baseline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, world, start = fresh(), streams.World(np.random.default_rng(10)), aligned(60)
    monkeypatch.setattr(Payloads, "AT_ONCE", 4 * (500 * 5 * 8 + 500 * 2 * 8))
    await say_deployment(speaker("deployer"), deployment(endpoint, streams.schema(), baseline))
    said = [logged(endpoint, world.rows(500), n, start) for n in range(1, 41)]
    await say_logged(speaker("scorer"), await as_batch(Objects(monitor_settings), said, ["a", "b", "c", "d", "e"]))
    async with running(monitor_settings) as parts:
        assert await eventually(lambda: _is(counted(parts, endpoint), 20_000), within=60)
        (window,) = await windows(parts, endpoint)
    assert window.inferences == 40
    assert {column.rows for column in window.columns if column.name != "probabilities"} == {20_000}


async def test_inferences_without_a_logged_payload_count_by_rows_and_latency_alone(
    monitor_settings: Service_, speaker: Speaker, baseline: str
) -> None:
    endpoint, world, start = fresh(), streams.World(np.random.default_rng(8)), aligned(60)
    await say_deployment(speaker("deployer"), deployment(endpoint, streams.schema(), baseline))
    records = [logged(endpoint, world.rows(5), n, start) for n in range(1, 13)]
    for record in records[::3]:
        record |= {"sampled": False, "request": {}, "response": {}}
    records[1]["request"] = {"inputs": "of no shape"}
    async with running(monitor_settings) as parts:
        await say_logged(speaker("scorer"), records)
        assert await eventually(lambda: _is(counted(parts, endpoint), 60), within=60)
        (window,) = await windows(parts, endpoint)
    assert window.inferences == 12 and window.latency is not None
    assert {column.rows for column in window.columns if column.name != "probabilities"} == {35}
    letters = await letters_of(monitor_settings, records)
    assert [letter.record.key for letter in letters] == [records[1]["inference_id"].encode()]


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
                found = await Reading(parts.db).endpoints("", 1_000)  # pyright: ignore[reportArgumentType]
            return any(e.endpoint == endpoint and e.settings.tolerance == revision_settings for e in found)

        assert await eventually(lambda: known(0.1), within=20)
        with use(ENGINEER):
            assert (await desired.configure(endpoint, {"tolerance": 0.3})).settings == MonitorSettings(
                window_s=10.0, budget_rows=100_000, tolerance=0.3
            )
            with pytest.raises(Invalid, match="season_s: a season of 60 s"):
                await desired.configure(endpoint, {"season_s": 60.0})
            assert (await desired.configure(endpoint, {"season_s": 86_400.0})).settings.season_s == 86_400.0
            assert (await desired.configure(endpoint, {"season_s": 0.0})).settings.season_s == 0.0
        other = MonitorSettings(window_s=10.0, budget_rows=200_000)
        again = deployment(endpoint, streams.schema(), baseline, version=2, revision=2, monitor=other)
        await say_deployment(speaker("deployer"), again)

        async def second() -> bool:
            with use(ENGINEER):
                found = await Reading(parts.db).standing(endpoint)  # pyright: ignore[reportArgumentType]
            settings = found.endpoint.settings
            # What was not overridden follows the deployment.
            return found.endpoint.version == 2 and (settings.tolerance, settings.budget_rows) == (0.3, 200_000)

        assert await eventually(second, within=10)
