"""River's detectors, where an operator chose them: within the budget, the same after a restart, told by name."""

from collections.abc import Callable
from datetime import timedelta
from threading import get_ident

import numpy as np
import pytest
from pydantic import ValidationError

from contracts import DriftDetected, MonitorSettings, Service
from contracts.monitoring import GivenSettings
from services.kit.compacted import Change
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.objects import Objects
from services.kit.settings import Settings
from services.kit.testing import eventually
from services.monitor import store
from services.monitor.domain.budget import (
    beside_chosen,
    of_attributions,
    of_data,
    of_each_chosen,
    of_performance,
    of_quality,
)
from services.monitor.domain.chosen import Watched, WatchedLabels
from services.monitor.domain.detectors.chosen import COLUMNS, LABELS, hddm_w
from services.monitor.domain.detectors.chosen.levels import LINES
from services.monitor.domain.effects import effects
from services.monitor.domain.outcomes.loss import LossBlock, worse
from services.monitor.settings import MonitorSettings as Service_
from services.monitor.store import losses
from services.monitor.usecases.choosing import kind_of
from services.monitor.usecases.desired import Desired
from services.monitor.usecases.judging import Judging
from services.monitor.usecases.versions import Versions

from . import streams
from .saying import aligned, deployment, fresh, logged, say_deployment, say_logged, spread
from .test_handlers import ENGINEER, baseline, counted, drifts, running

__all__ = ["baseline"]
ONE = streams.watched(np.random.default_rng(5))
REFERENCE = streams.reference_of(ONE)
ROWS, LABELS_AT_ONCE = 300, 50


def counts(random: np.random.Generator, change: str | None = None) -> np.ndarray:
    (block,) = streams.blocks(ONE, streams.World(random).rows(ROWS, change), ROWS)
    return block.counts


def block(random: np.random.Generator, share: float, number: int) -> LossBlock:
    wrong = int((random.random(LABELS_AT_ONCE) < share).sum())
    return LossBlock(float(number), {0: LABELS_AT_ONCE - wrong, 1: wrong})


def test_what_a_chosen_detector_hears_is_an_alarm_only_beyond_the_tolerance() -> None:
    rows = streams.World(np.random.default_rng(4)).rows(300)
    rows[:, 0] += 0.03
    (seen,) = streams.blocks(ONE, rows, 300)
    found = effects(REFERENCE.part([0]), seen.counts[[0]])
    assert found[0].high > 0.1 and kind_of(found, 0.1) == "note"  # the interval alone leaves an effect open
    rows[:, 0] += 1.0
    (moved,) = streams.blocks(ONE, rows, 300)
    assert kind_of(effects(REFERENCE.part([0]), moved.counts[[0]]), 0.1) == "alarm"
    few = worse("binary", {0: 9_500, 1: 500}, {0: 473, 1: 27}, None)
    assert few is not None and few.high > 0.1 and kind_of([few], 0.1) == "note"


def test_all_parts_of_the_budget_are_the_whole_of_it() -> None:
    budget, names = 1_000_000, ("adwin", "kswin", "ddm")
    rest = beside_chosen(budget, names)
    always = (of_data, of_performance, of_quality, of_attributions)
    parts = [*(part(rest) for part in always), *(of_each_chosen(budget, names) for _ in names)]
    assert sum(1 / rows for rows in parts) * budget == pytest.approx(1, rel=1e-5)
    assert beside_chosen(budget, ()) == budget


def test_every_detector_has_its_line() -> None:
    assert set(LINES) == {*COLUMNS, *LABELS} and all(slope < 0 for _, slope in LINES.values())


@pytest.mark.parametrize("name", COLUMNS)
def test_on_columns_without_a_change_the_part_of_the_budget_is_kept(name: str) -> None:
    random, watch, heard, windows, part = np.random.default_rng(1), Watched.start(REFERENCE), 0, 700, 7_000
    for number in range(windows):
        watch, found = watch.observe([name], REFERENCE, counts(random), float(number), part)
        heard += found is not None
    allowed = windows * ROWS / part
    assert heard <= allowed + 3 * allowed**0.5


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("share", [0.05, 0.2])
def test_on_labels_without_a_change_the_part_of_the_budget_is_kept(name: str, share: float) -> None:
    random, watch, heard, blocks, part = np.random.default_rng(2), WatchedLabels(), 0, 1_200, 2_000
    for number in range(blocks):
        watch, found = watch.observe([name], block(random, share, number), part)
        heard += found is not None
    allowed = blocks * LABELS_AT_ONCE / part
    assert heard <= allowed + 3 * allowed**0.5


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_that_moves_is_found_and_named(name: str) -> None:
    random, watch = np.random.default_rng(3), Watched.start(REFERENCE)
    for number in range(60):
        watch, found = watch.observe([name], REFERENCE, counts(random), float(number), 5e6)
        assert found is None
    found = None
    for number in range(60, 100):
        watch, found = watch.observe([name], REFERENCE, counts(random, "shift"), float(number), 5e6)
        if found:
            break
    assert found and found.name == f"river {name}" and REFERENCE.tracks[found.columns[0]].name == "a"


@pytest.mark.parametrize("name", LABELS)
def test_more_errors_are_found(name: str) -> None:
    random, watch, found, number = np.random.default_rng(4), WatchedLabels(), None, 0
    for number in range(100):
        watch, found = watch.observe([name], block(random, 0.1, number), 1e6)
        assert found is None
    while found is None and number < 1_000:
        number += 1
        watch, found = watch.observe([name], block(random, 0.9, number), 1e6)
    assert found and found.name == f"river {name}" and found.columns == ()


def test_a_restart_between_any_two_windows_changes_nothing() -> None:
    random, names = np.random.default_rng(6), [*COLUMNS]
    kept = without = Watched.start(REFERENCE)
    for number in range(60):
        seen = counts(random, "shift" if number > 45 else None)
        again = Watched.from_bytes(kept.to_bytes())
        assert again
        kept, told = again.observe(names, REFERENCE, seen, float(number), 50_000)
        without, other = without.observe(names, REFERENCE, seen, float(number), 50_000)
        assert told == other
    assert kept.to_bytes() == without.to_bytes() and len(kept.to_bytes()) < 6 * 3 * 2_000


def test_a_restart_between_any_two_labels_changes_nothing() -> None:
    random, names = np.random.default_rng(7), [*LABELS]
    kept = without = WatchedLabels()
    for number in range(80):
        seen = block(random, 0.6 if number > 60 else 0.1, number)
        again = WatchedLabels.from_bytes(kept.to_bytes())
        assert again
        kept, told = again.observe(names, seen, 5_000)
        without, other = without.observe(names, seen, 5_000)
        assert told == other
    assert kept.to_bytes() == without.to_bytes()


def test_a_window_that_is_seen_again_and_small_ones_change_nothing_by_themselves() -> None:
    random, watch = np.random.default_rng(8), Watched.start(REFERENCE)
    watch, _ = watch.observe(["adwin"], REFERENCE, counts(random), 5.0, 1e6)
    assert watch.observe(["adwin"], REFERENCE, counts(random, "shift"), 5.0, 1e6) == (watch, None)
    small = streams.blocks(ONE, streams.World(random).rows(60), 60)[0].counts
    held, _ = watch.observe(["adwin"], REFERENCE, small, 6.0, 1e6)
    assert held.held is not None and held.states == watch.states
    used, _ = held.observe(["adwin"], REFERENCE, small, 7.0, 1e6)
    assert used.held is None and used.states != watch.states


@pytest.mark.parametrize("name", COLUMNS)
def test_with_another_budget_a_detector_of_columns_begins_anew(name: str) -> None:
    random, before = np.random.default_rng(11), Watched.start(REFERENCE)
    for number in range(5):
        before, _ = before.observe([name], REFERENCE, counts(random), float(number), 1e6)
    seen = counts(random)
    after, _ = before.observe([name], REFERENCE, seen, 5.0, 2e3)
    new, _ = Watched.start(REFERENCE).observe([name], REFERENCE, seen, 5.0, 2e3)
    assert after.to_bytes() == new.to_bytes()


@pytest.mark.parametrize("name", LABELS)
def test_with_another_budget_a_detector_of_labels_begins_anew(name: str) -> None:
    random, before = np.random.default_rng(12), WatchedLabels()
    for number in range(5):
        before, _ = before.observe([name], block(random, 0.1, number), 1e6)
    seen = block(random, 0.1, 5)
    after, _ = before.observe([name], seen, 2e3)
    new, _ = WatchedLabels().observe([name], seen, 2e3)
    assert after.states == new.states


def test_of_small_windows_all_rows_that_a_detector_saw_are_told() -> None:
    random, watch, found, number = np.random.default_rng(13), Watched.start(REFERENCE), None, 60
    for number in range(60):
        watch, _ = watch.observe(["adwin"], REFERENCE, counts(random), float(number), 5e6)
    while found is None and number < 400:
        number += 1
        small = streams.blocks(ONE, streams.World(random).rows(60, "shift"), 60)[0].counts
        watch = Watched.from_bytes(watch.to_bytes()) or watch
        watch, found = watch.observe(["adwin"], REFERENCE, small, float(number), 5e6)
    assert found and found.counts is not None
    assert found.since_s == number - 1.0 and found.counts.sum(axis=1).tolist() == [120] * watch.columns


def test_a_name_that_nobody_knows_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValidationError) as refused:
        GivenSettings.model_validate({"detectors": ["adwim"]})
    assert all(name in str(refused.value) for name in (*COLUMNS, *LABELS))
    with pytest.raises(ValidationError, match="named twice"):
        GivenSettings.model_validate({"detectors": ["ddm", "ddm"]})
    assert GivenSettings.model_validate({"detectors": ["ddm", "adwin"]}).settings().detectors == ("ddm", "adwin")


async def test_what_a_chosen_detector_finds_within_the_tolerance_is_a_note_by_its_name(
    monitor_settings: Service_, speaker: Callable[[Service], Settings], baseline: str
) -> None:
    endpoint, world = fresh(), streams.World(np.random.default_rng(3))
    start = aligned(60)
    clean = spread(world.rows(4_000), 50, start, 20)
    rows = [*clean, *spread(world.rows(2_000, "shift"), 50, start + timedelta(seconds=20), 20)]
    records = [logged(endpoint, some, seq, at) for seq, (some, at) in enumerate(rows)]
    settings = MonitorSettings(window_s=10.0, budget_rows=100_000, tolerance=0.55, detectors=("adwin",))
    await say_deployment(speaker("deployer"), deployment(endpoint, streams.schema(), baseline, monitor=settings))
    async with running(monitor_settings) as parts:
        await say_logged(speaker("scorer"), records)

        async def all_counted() -> bool:
            return await counted(parts, endpoint) == 6_000

        assert await eventually(all_counted, within=60)
        assert parts.db
        with use(ENGINEER):
            async with parts.db.reading() as session:
                found = await store.findings(session, endpoint, 50)
        alarms: list[DriftDetected] = await drifts(monitor_settings, endpoint)
    assert alarms == [] and {row.kind for row in found} == {"note"}
    (first, *_) = [row.event for row in reversed(found) if row.event.detector == "river adwin"]
    assert first.detector == "river adwin" and first.budget_rows == 100_000
    assert first.features[0].name == "a" and first.features[0].effect == pytest.approx(0.5, abs=0.2)


async def test_more_errors_are_told_by_the_name_of_who_was_chosen(service_db: Callable[[Service], Database]) -> None:
    db, endpoint, random = service_db("monitor"), fresh(), np.random.default_rng(9)
    settings = MonitorSettings(tolerance=5.0, detectors=("hddm-w", "adwin"))  # beyond it nothing is, so both only note
    with use(Context(system("monitor"))):
        await Desired(db, Versions(db, Objects(Settings()))).learn(
            Change(endpoint, deployment(endpoint, streams.schema(), None, monitor=settings), None, 0)
        )
        judging = Judging(db)
        for number in range(12):
            share = 0.1 if number < 8 else 0.9
            blocks = [block(random, share, 10 * number + each) for each in range(10)]
            async with db.transaction() as tx:
                await losses.add(tx.session, endpoint, 1, "retail", "binary", blocks)
            assert await judging.judge() == {}
        async with db.reading() as session:
            found = await store.findings(session, endpoint, 50, "performance")
    (theirs, *_) = [row.event for row in reversed(found) if row.event.detector == "river hddm-w"]
    assert theirs.performance and theirs.performance.now > 1.5 * theirs.performance.before > 0
    assert {row.kind for row in found} == {"note"}


async def test_labels_that_piled_up_are_shown_in_rounds_and_on_a_thread(
    service_db: Callable[[Service], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    db, endpoint, threads, update = service_db("monitor"), fresh(), set[int](), hddm_w.Detector.update

    def seen(detector: hddm_w.Detector, value: float) -> bool:
        threads.add(get_ident())
        return update(detector, value)

    monkeypatch.setattr(hddm_w.Detector, "update", seen)
    with use(Context(system("monitor"))):
        event = deployment(endpoint, streams.schema(), None, monitor=MonitorSettings(detectors=("hddm-w",)))
        await Desired(db, Versions(db, Objects(Settings()))).learn(Change(endpoint, event, None, 0))
        blocks = [LossBlock(float(number), {0: 1}) for number in range(1_100)]
        async with db.transaction() as tx:
            await losses.add(tx.session, endpoint, 1, "retail", "binary", blocks)
        assert await Judging(db).judge() == {}
        async with db.transaction() as tx:
            left = await losses.take(tx.session, endpoint, 1)
    assert [block.start_s for _, block in left] == [float(number) for number in range(1_000, 1_100)]
    assert threads and get_ident() not in threads
