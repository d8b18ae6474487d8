"""What moves in one group of a segment is an alarm that names the group, within the endpoint's budget, told once."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import text

from contracts import DriftDetected, FeatureEvidence, InferenceLogged, MonitorSettings, Service, Window
from services.kit.compacted import Change
from services.kit.context import Caller, Context, system, use
from services.kit.db import Database
from services.kit.ids import uuid7
from services.kit.objects import Objects
from services.kit.signing import canonical
from services.monitor import store
from services.monitor.domain.budget import of_attributions, of_data, of_performance, of_quality, of_segments
from services.monitor.domain.grouped import Grouped
from services.monitor.domain.latency import LatencyCounts
from services.monitor.domain.segments import LEAST_ROWS
from services.monitor.domain.trial import Setting, Trial
from services.monitor.domain.watch import Finding, Watch
from services.monitor.domain.windows import Block, Part, Sums
from services.monitor.settings import MonitorSettings as ServiceSettings
from services.monitor.store import FindingRow
from services.monitor.usecases.closing import Closing
from services.monitor.usecases.desired import Desired
from services.monitor.usecases.remembering import remember
from services.monitor.usecases.versions import Versions, Watched

from . import streams
from .saying import deployment, fresh
from .test_segments import profile, schema

ENGINEER = Context(Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"})))
PROFILE = profile(12_000, "colour")
ONE = Watched.of("m", schema("colour"), PROFILE)
BUDGET = 1_000_000


def grouped() -> Grouped:
    assert ONE.grouped is not None
    return ONE.grouped


def part(rows: np.ndarray, start_s: float = 0.0) -> Part:
    bins = streams.binner_of(ONE).bin({n: rows[:, i] for i, n in enumerate((*streams.NAMES, "label"))}, len(rows))
    assert ONE.segmenter is not None
    return Part(
        len(rows), len(rows), tuple(streams.blocks(ONE, rows, 100, start_s)), Sums.zero(len(ONE.numeric)),
        LatencyCounts({}), segments=ONE.segmenter.count(bins),
    )  # fmt: skip


def moved(random: np.random.Generator, count: int, by: float, *colours: int) -> np.ndarray:
    rows = streams.World(random).rows(count)
    rows[np.isin(rows[:, 4], colours), 1] += by
    return rows


def see(watch: Watch, rows: np.ndarray, start_s: float) -> tuple[Watch, Finding | None]:
    block = grouped().block(part(rows, start_s))
    assert block is not None
    return watch.observe([block], start_s, of_segments(BUDGET)).judge(grouped().reference, 0.1)


def test_parts_of_the_budget_are_the_whole_of_it() -> None:
    for columns in ([of_data(BUDGET)], [of_data(BUDGET, segmented=True), of_segments(BUDGET)]):
        rates = [1 / rows for rows in (*columns, of_performance(BUDGET), of_quality(BUDGET), of_attributions(BUDGET))]
        assert sum(rates) * BUDGET == pytest.approx(1, rel=1e-5)


def test_a_season_changes_nothing_of_the_budgets_parts() -> None:
    for segmented in (True, False):
        for season_s in (None, 86_400.0):
            assert Setting(BUDGET, 0.1, season_s, segmented).budget == of_data(BUDGET, segmented=segmented)


def test_every_column_is_watched_within_every_group_but_a_segments_own() -> None:
    names = [track.name for track in grouped().reference.tracks]
    assert "b where colour = 2" in names and not [name for name in names if name.startswith("colour where colour")]
    assert not [name for name in names if "= other" in name], "nobody is in it"
    assert Watched.of("m", streams.schema(), profile(2_000)).grouped is None


def test_a_change_in_one_group_of_fifteen_in_a_hundred_is_told_of_it_before_the_wholes_show_it() -> None:
    for seed in range(6):
        random, watch, at = np.random.default_rng(seed), Watch.start(grouped().reference), 0
        wholes = Watch.start(streams.reference_of(ONE))
        found: Finding | None = None
        for at in range(60):
            rows = moved(random, 200, 0.0 if at < 20 else 0.9, 2)
            watch, found = see(watch, rows, at * 200.0)
            blocks = streams.blocks(ONE, rows, 100, at * 200.0)
            wholes = wholes.observe(blocks, at * 200.0, of_data(BUDGET, segmented=True))
            if found:
                break
        assert found and found.kind == "alarm" and 20 <= at <= 32, (seed, at)
        assert wholes.phase == "watching"
        first = found.effects[0]
        assert first.name == "b where colour = 2" and first.size == pytest.approx(0.75, abs=0.35)
        assert grouped().where(found.effects) == "colour = 2" and found.since_s >= 18 * 200


def test_without_a_change_there_is_no_evidence_in_any_group() -> None:
    for seed in (1, 2, 3):
        random, watch = np.random.default_rng(100 + seed), Watch.start(grouped().reference)
        for at in range(100):
            watch, found = see(watch, moved(random, 1_000, 0.0), at * 1_000.0)
            assert found is None and watch.phase == "watching"


def test_what_was_accepted_is_the_normal_of_its_group_and_nothing_is_known_anew_of_empty_ones() -> None:
    random, watch = np.random.default_rng(4), Watch.start(grouped().reference)
    for at in range(20):
        rows = moved(random, 400, 1.5, 2)
        watch, _ = see(watch, rows[rows[:, 4] != 1], at * 400.0)
    assert watch.phase == "alarmed"
    watch = Watch.from_bytes(watch.to_bytes()).accepted()
    for at in range(20, 60):
        watch, found = see(watch, moved(random, 400, 1.5, 2), at * 400.0)
        assert found is None or found.kind == "note"


def test_of_a_group_that_few_rows_came_to_the_baseline_holds_when_something_is_accepted() -> None:
    random, watch = np.random.default_rng(4), Watch.start(grouped().reference)
    for at in range(20):
        rows = moved(random, 400, 1.5, 2)
        there = rows[:, 4] == 1
        watch, _ = see(watch, rows[~there | (np.cumsum(there) <= 2)], at * 400.0)
    assert watch.phase == "alarmed" and watch.recent is not None
    place = [track.name for track in grouped().reference.tracks].index("b where colour = 1")
    assert 0 < watch.recent.counts[place].sum() < LEAST_ROWS
    normal = watch.accepted(LEAST_ROWS).normal
    assert normal is not None and normal[place].sum() >= grouped().reference.counts[place].sum()


class Story:
    """An endpoint with a segment whose windows are closed by the monitor's own round."""

    def __init__(self, db: Database, settings: ServiceSettings, season_s: float | None = None) -> None:
        versions = Versions(db, Objects(settings))
        self.db, self.settings, self.endpoint, self.season_s = db, settings, fresh(), season_s
        self.closing, self.desired = Closing(settings, db, versions), Desired(db, versions)
        self.start, self.random = datetime(2026, 3, 4, 10, 30, tzinfo=UTC), np.random.default_rng(12)

    async def serve(self) -> None:
        digest = await Objects(self.settings).put(canonical(PROFILE))
        monitor = MonitorSettings(budget_rows=100_000, season_s=self.season_s)
        event = deployment(self.endpoint, schema("colour"), digest, monitor=monitor)
        await self.desired.learn(Change(self.endpoint, event, None, 0))

    async def windows(self, count: int, by: float, *colours: int) -> None:
        for _ in range(count):
            await self.window(moved(self.random, 400, by, *colours))

    async def window(self, rows: np.ndarray, over_s: float = 0.0) -> tuple[Block, ...]:
        """Rows that come at its beginning, or evenly over some seconds; answers what the wholes see of it."""
        start_s, each_s = self.start.timestamp(), over_s / len(rows)
        key = store.WindowKey(self.endpoint, 1, "retail", self.start, self.start + timedelta(seconds=10))
        made = part(rows)
        blocks = tuple(replace(block, start_s=start_s + block.start_s * each_s) for block in made.blocks)
        self.start = key.end
        async with self.db.transaction() as tx:
            await store.add_part(tx.session, key, 0, 0, replace(made, blocks=blocks))
            await store.note_read_to_end(
                tx.session, range(InferenceLogged.topic.partitions), [], datetime.now(UTC)
            )  # fmt: skip
        assert (await self.closing.close_due()).failed == {}
        return blocks

    async def said(self) -> list[DriftDetected]:
        select = text("SELECT value FROM outbox WHERE topic = 'drift.detected' ORDER BY number")
        async with self.db.chassis() as session:
            return [DriftDetected.from_json(value) for value in await session.scalars(select)]

    async def open(self) -> list[FindingRow]:
        async with self.db.reading() as session:
            found = await store.findings(session, self.endpoint, 50)
        return [each for each in found if each.kind == "alarm" and each.closed_at is None]


@pytest.fixture
async def story(service_db: Callable[[Service], Database], monitor_settings: ServiceSettings) -> Story:
    made = Story(service_db("monitor"), monitor_settings)
    with use(Context(system("monitor"))):
        await made.serve()
    return made


async def test_a_group_is_told_once_and_a_whole_that_follows_is_the_same_alarm(story: Story) -> None:
    with use(Context(system("monitor"))):
        await story.windows(3, 0.0)
        await story.windows(12, 0.9, 2)
        (first,) = await story.said()
        assert first.segment == "colour = 2" and first.features[0].name == "b where colour = 2"
        assert abs(first.since.timestamp() - story.start.timestamp() + 120) <= 20
        await story.windows(6, 0.9, 0, 1, 2, 3)
        _, second = await story.said()
        assert second.segment == "colour = 2" and "where" not in second.features[0].name
        (alarm,) = await story.open()
        assert alarm.event == second
        await story.windows(4, 0.9, 0, 1, 2, 3)
        assert len(await story.said()) == 2


async def test_a_whole_that_drifts_is_not_told_of_its_groups_and_acceptance_is_of_both(story: Story) -> None:
    with use(Context(system("monitor"))):
        await story.windows(3, 0.0)
        await story.windows(10, 0.9, 0, 1, 2, 3)
        (drift,) = await story.said()
        assert "where" not in drift.features[0].name and drift.segment is None
    with use(ENGINEER):
        await story.desired.accept(story.endpoint, "a new unit")
    with use(Context(system("monitor"))):
        await story.windows(10, 0.9, 0, 1, 2, 3)
        assert await story.said() == [drift] and await story.open() == []


async def test_an_alarm_of_groups_is_told_though_a_chosen_detectors_is_open(story: Story) -> None:
    with use(Context(system("monitor"))):
        await story.windows(3, 0.0)
        theirs = DriftDetected(
            endpoint=story.endpoint, use_case="benefits", model="census-employment", version=1,
            window=Window(**{"from": story.start, "to": story.start}, rows=400), since=story.start,
            detector="river adwin", statistic=9.0, budget_rows=100_000, rows_watched=400,
            features=(FeatureEvidence(name="a", effect=0.5, interval=(0.4, 0.6), tolerance=0.1),), retrain=True,
        )  # fmt: skip
        async with story.db.transaction() as tx:
            await store.add_finding(tx.session, uuid7(), "retail", "alarm", story.start, theirs)
        await story.windows(12, 0.9, 2)
        (ours,) = await story.said()
        assert ours.segment == "colour = 2"
        (alarm,) = await story.open()
        assert alarm.event == ours


@pytest.mark.parametrize("at_once", [1, 2, 200])
async def test_what_earlier_windows_counted_is_read_in_pages_and_is_all_of_it(
    story: Story, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("services.monitor.usecases.remembering._AT_ONCE", at_once)
    since = story.start + timedelta(seconds=20)
    with use(Context(system("monitor"))):
        await story.windows(5, 0.0)
        key = store.WindowKey(story.endpoint, 1, "retail", story.start, story.start + timedelta(seconds=10))
        watch = Watch.start(streams.reference_of(ONE))
        async with story.db.transaction() as tx:
            seen = await remember(tx, key, watch, since.timestamp(), lambda part: part.blocks)
    assert seen.recent is not None and seen.recent.rows[0, 0] == 3 * 400


def test_a_trial_tells_what_moved_within_groups_as_the_watch_does() -> None:
    random, reference = np.random.default_rng(5), streams.reference_of(ONE)
    tight, loose = (Trial(reference, Setting(BUDGET, by, None, True), grouped()) for by in (0.1, 2.0))
    for place in range(40):
        rows, start_s = moved(random, 250, 0.9 if place >= 20 else 0.0, 3), 250.0 * place
        window, end = part(rows, start_s), datetime.fromtimestamp(start_s + 250, UTC)
        for trial in (tight, loose):
            trial.see(start_s, end, window.blocks, window)
    alarms = [each for each in tight.raised if each.finding.kind == "alarm"]
    assert alarms and {each.segment for each in alarms} == {"colour = 3"}
    assert isinstance(alarms[0].finding, Finding)
    assert alarms[0].finding.effects[0].track.name == "b where colour = 3"
    assert alarms[0].at.timestamp() > 5_000
    assert not [each for each in loose.raised if each.finding.kind == "alarm"]
