"""Values that cannot be used are told once, beyond a tolerance, with a budget, and not where a drift says so."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from contracts import AlertRaised, AlertResolved, InferenceLogged, MonitorSettings, Service
from services.kit.compacted import Change
from services.kit.context import Caller, Context, system, use
from services.kit.db import Database
from services.kit.objects import Objects
from services.kit.signing import canonical
from services.monitor import store
from services.monitor.domain.latency import LatencyCounts
from services.monitor.domain.quality import Quality, counted, watched
from services.monitor.domain.reference import Reference
from services.monitor.domain.traffic import Ids, Traffic
from services.monitor.domain.windows import Part, Sums
from services.monitor.settings import MonitorSettings as ServiceSettings
from services.monitor.usecases.closing import Closing
from services.monitor.usecases.desired import Desired
from services.monitor.usecases.versions import Versions

from . import streams
from .saying import alerts, deployment, fresh

ENGINEER = Context(Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"})))
ONE = streams.watched(np.random.default_rng(11))
REFERENCE = streams.reference_of(ONE)
WHATS = [f"{what.column} {what.how}" for what in watched(REFERENCE.tracks)]
NOWHERE = np.zeros(len(WHATS), bool)


def window(random: np.random.Generator, rows: int = 200, ids: list[str] | None = None, /, **bad: float) -> Part:
    """With so large a share of a column's values missing (`b`), out of range (`b_far`) or unseen (`colour_new`)."""
    made = streams.World(random).rows(rows)
    for name, share in bad.items():
        column, _, how = name.partition("_")
        hit = random.uniform(size=rows) < share
        made[hit, streams.NAMES.index(column)] = {"": np.nan, "far": 99.0, "new": 7.0}[how]
    (block,) = streams.blocks(ONE, made, rows)
    return Part(
        rows, rows, (block,), Sums.zero(len(ONE.numeric)), LatencyCounts({}), traffic=Traffic(0.0, Ids.of(ids or []))
    )


def shown(quality: Quality, part: Part, start_s: float, budget: int = 10_000_000, tolerance: float = 0.05) -> Quality:
    counts = part.counts()
    assert counts is not None
    return quality.observe(counted(REFERENCE.tracks, counts, part.traffic.ids), start_s, tolerance).judge(
        budget, NOWHERE
    )


def told(quality: Quality) -> list[str]:
    return [f"{each.what.column} {each.what.how}" for each in quality.departures(REFERENCE.tracks)]


def test_the_shares_are_of_every_column_and_of_request_ids() -> None:
    assert WHATS[:4] == ["a missing", "a out of range", "b missing", "b out of range"]
    assert {"colour missing", "colour unseen", "None repeated"} <= set(WHATS)


@pytest.mark.parametrize(
    ("bad", "what"),
    [({"b": 0.3}, "b missing"), ({"b_far": 0.2}, "b out of range"), ({"colour_new": 0.2}, "colour unseen")],
)
def test_more_unusable_values_are_told_within_a_few_windows_and_end_when_they_are_over(
    bad: dict[str, float], what: str
) -> None:
    random, quality = np.random.default_rng(5), Quality.start(REFERENCE)
    for at in range(20):
        quality = shown(quality, window(random), at)
    assert told(quality) == []
    for at in (20, 21):
        quality = shown(quality, window(random, **bad), at)
    assert told(quality) == [what]
    (found,) = quality.departures(REFERENCE.tracks)
    assert found.since_s == 20 and found.rows == 400 and found.before < 0.02
    assert found.now == pytest.approx(next(iter(bad.values())), abs=0.08)
    for at in (22, 23):
        quality = shown(quality, window(random), at)
    assert told(quality) == [what], "three windows, not two"
    quality = shown(Quality.from_json(quality.to_json()), window(random), 24)
    assert told(quality) == []
    for at in (25, 26):
        quality = shown(quality, window(random, **bad), at)
    assert told(quality) == [what], "another episode"


def test_one_odd_window_and_what_is_within_the_tolerance_are_not_told() -> None:
    random, quality = np.random.default_rng(6), Quality.start(REFERENCE)
    for at in range(200):
        quality = shown(quality, window(random, b=1.0 if at % 5 == 4 else 0.0, c=0.04), at)
        assert told(quality) == []


def test_without_a_change_nothing_is_told_and_at_the_very_bound_no_more_than_the_budget_allows() -> None:
    """3,000 windows of 200 rows without a change; then 12,000 of one share that is as large as it may just be."""
    random, quality = np.random.default_rng(7), Quality.start(REFERENCE)
    for at in range(3_000):
        quality = shown(quality, window(random), at)
        assert told(quality) == []
    track = REFERENCE.tracks[0]
    one = Reference.of((track,), REFERENCE.counts[:1])
    quality, alarms, none = Quality.start(one), 0, np.zeros(3, bool)
    bound, budget = quality.bounds(0.05)[0], 2_000
    for at in range(12_000):
        bad = random.binomial(50, bound)
        counts = np.zeros((1, REFERENCE.counts.shape[1]), np.int64)
        counts[0, track.missing], counts[0, 10] = bad, 50 - bad
        after = quality.observe(counted(one.tracks, counts, Ids()), at, 0.05).judge(budget, none)
        alarms += bool((after.told & ~quality.told).any())
        quality = after
    assert alarms <= 12_000 * 50 / budget


def test_ids_that_come_twice_are_told_against_a_versions_first_thousand() -> None:
    random, quality = np.random.default_rng(8), Quality.start(REFERENCE)

    def ids(at: int, different: int) -> list[str]:
        return [f"{at}-{n % different}" for n in range(200)]

    for at in range(30):
        quality = shown(quality, window(random, 200, ids(at, 140)), at)
    assert told(quality) == [], "that is how it is asked"
    for at in (30, 31, 32):
        quality = shown(quality, window(random, 200, ids(at, 40)), at)
    assert told(quality) == ["None repeated"]


def test_what_drift_tells_is_not_told_twice_and_what_is_accepted_is_usual() -> None:
    random, quality = np.random.default_rng(9), Quality.start(REFERENCE)
    elsewhere = NOWHERE.copy()
    elsewhere[WHATS.index("b missing")] = True
    for at in range(4):
        quality = shown(quality, window(random, b=0.3, c=0.3), at)
    assert sorted(told(quality)) == ["b missing", "c missing"]
    assert told(quality.judge(10_000_000, elsewhere)) == ["c missing"]
    quality = quality.accepted(10_000_000)
    for at in range(4, 30):
        quality = shown(quality, window(random, b=0.3, c=0.3), at)
        assert told(quality) == []


def test_one_odd_window_is_not_the_usual_share_when_something_is_accepted() -> None:
    random, quality = np.random.default_rng(10), Quality.start(REFERENCE)
    quality = shown(quality, window(random, 20, None, b=1.0), 0).accepted(10_000_000)
    for at in range(1, 5):
        quality = shown(quality, window(random, b=0.3), at)
    assert told(quality) == ["b missing"]


class Story:
    """An endpoint whose windows are closed by the monitor's own round."""

    def __init__(self, db: Database, settings: ServiceSettings) -> None:
        versions = Versions(db, Objects(settings))
        self.db, self.settings, self.endpoint = db, settings, fresh()
        self.closing, self.desired = Closing(settings, db, versions), Desired(db, versions)
        self.start = datetime(2026, 3, 4, 10, 30, tzinfo=UTC)
        self.random = np.random.default_rng(10)

    async def serve(self, version: int = 1, **settings: object) -> None:
        digest = await Objects(self.settings).put(canonical(streams.profile(np.random.default_rng(11))))
        event = deployment(self.endpoint, streams.schema(), digest, version=version, revision=version,
                           monitor=MonitorSettings.model_validate(settings))  # fmt: skip
        await self.desired.learn(Change(self.endpoint, event, None, 0))

    async def window(self, version: int = 1, **bad: float) -> None:
        key = store.WindowKey(self.endpoint, version, "retail", self.start, self.start + timedelta(seconds=10))
        part = window(self.random, **bad)
        block = replace(part.blocks[0], start_s=self.start.timestamp())
        self.start = key.end
        async with self.db.transaction() as tx:
            await store.add_part(tx.session, key, 0, 0, replace(part, blocks=(block,)))
            await store.note_read_to_end(
                tx.session, range(InferenceLogged.topic.partitions), [], datetime.now(UTC)
            )  # fmt: skip
        assert (await self.closing.close_due()).failed == {}

    async def said(self) -> list[AlertRaised | AlertResolved]:
        return await alerts(self.db)


@pytest.fixture
async def story(service_db: Callable[[Service], Database], monitor_settings: ServiceSettings) -> Story:
    made = Story(service_db("monitor"), monitor_settings)
    with use(Context(system("monitor"))):
        await made.serve()
    return made


async def test_closed_windows_tell_it_once_and_a_person_may_accept_it(story: Story) -> None:
    with use(Context(system("monitor"))):
        await story.serve(2, tolerance=5.0)
        for bad in (0.0, 0.0, *[0.3] * 6):
            await story.window(2, b_far=bad)
        said = await story.said()
        (raised,) = said
        assert isinstance(raised, AlertRaised)
        assert (raised.kind, raised.subject, raised.severity) == ("data-quality", story.endpoint, "warning")
        assert raised.how_much and raised.how_much.startswith("b out of range: 0.")
    with use(ENGINEER):
        await story.desired.accept(story.endpoint, "a new sensor")
    with use(Context(system("monitor"))):
        for _ in range(4):
            await story.window(2, b_far=0.3)
        _, over = await story.said()
        assert isinstance(over, AlertResolved) and over.reason == "a new sensor"


async def test_a_drift_that_names_the_column_is_enough(story: Story) -> None:
    with use(Context(system("monitor", "retail"))):
        for _ in range(6):
            await story.window(b=0.5)
        async with story.db.reading() as session:
            alarm = await store.open_alarm(session, story.endpoint)
        assert alarm and "b" in {feature.name for feature in alarm.features}
        assert await story.said() == []
        for _ in range(6):
            await story.window(b=0.5, c=0.5)
        (raised,) = await story.said()
        assert isinstance(raised, AlertRaised) and raised.how_much and raised.how_much.startswith("c missing: 0.")


async def test_it_is_over_with_the_version_and_with_the_setting(story: Story) -> None:
    with use(Context(system("monitor"))):
        await story.serve(2, tolerance=5.0)
        for _ in range(4):
            await story.window(2, b_far=0.3)
        await story.serve(3, tolerance=5.0, quality_alerts=False)
        for _ in range(4):
            await story.window(3, b_far=0.3)
        raised, over = await story.said()
        assert isinstance(raised, AlertRaised) and isinstance(over, AlertResolved)
        assert over.reason == "version 3 serves"
