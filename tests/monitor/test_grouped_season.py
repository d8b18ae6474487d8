"""Groups of segments under a season: each is compared with itself at the same time of earlier periods."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from contracts import Service
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.monitor import store
from services.monitor.domain.budget import of_data, of_segments
from services.monitor.domain.season import NONE, Season
from services.monitor.domain.watch import Finding, Watch
from services.monitor.settings import MonitorSettings

from . import streams
from .test_grouped import BUDGET, ENGINEER, ONE, Story, grouped, part
from .test_learning import DAY, HOURLY, House

PERIOD = 4_800
SEASON = Season(float(PERIOD))


def nights(
    random: np.random.Generator, first: int, count: int, period: int = PERIOD, out_of_step: int | None = None
) -> np.ndarray:
    """A row a second. A column of one group rises and falls, and the group is small by day and large by night; from
    some row on it is a quarter of a period late."""
    at = np.arange(first, first + count)
    rows = streams.World(random).rows(count)
    night = random.random(count) < 0.1 + 0.1 * np.sin(2 * np.pi * at / period)
    rows[:, 4] = np.where(night, 2.0, np.where(rows[:, 4] == 2, 0.0, rows[:, 4]))
    late = np.zeros(count) if out_of_step is None else (at >= out_of_step) * period / 4
    rows[night, 1] += 1.2 * np.sin(2 * np.pi * (at - late) / period)[night]
    return rows


def watch_over(
    watch: Watch, rows: np.ndarray, first: int, window: int = 100
) -> tuple[Watch, list[tuple[float, Finding]]]:
    """Windows to the end; what is found, by the second it was found at."""
    found: list[tuple[float, Finding]] = []
    for at in range(0, len(rows), window):
        block = grouped().block(part(rows[at : at + window], float(first + at)), watch.season)
        assert block is not None
        seen = watch.observe([block], float(first + at), of_segments(BUDGET))
        watch, finding = seen.judge(grouped().reference, 0.1)
        found += [(first + at + window, finding)] if finding else []
    return watch, found


@pytest.mark.parametrize("window", [100, 200])
def test_a_group_that_only_moves_with_the_season_raises_nothing(window: int) -> None:
    rows = nights(np.random.default_rng(1), 0, 8 * PERIOD)
    watch, found = watch_over(Watch.start(grouped().reference, SEASON), rows, 0, window)
    assert not [finding for _, finding in found if finding.kind == "alarm"] and watch.phase == "watching"
    _, found = watch_over(Watch.start(grouped().reference), rows[:PERIOD], 0, window)
    assert found[0][1].kind == "alarm", "without a season it is a departure"


def test_a_group_out_of_step_is_told_with_its_name_though_the_wholes_do_not_show_it() -> None:
    for seed in range(3):
        random, late = np.random.default_rng(20 + seed), 3 * PERIOD
        rows = nights(random, 0, 4 * PERIOD, out_of_step=late)
        watch, found = watch_over(Watch.start(grouped().reference, SEASON), rows, 0)
        at, finding = next(each for each in found if each[1].kind == "alarm")
        assert late < at <= late + PERIOD // 2 and abs(finding.since_s - late) <= 500
        assert finding.effects[0].name == "b where colour = 2"
        assert grouped().where(finding.effects) == "colour = 2"
        assert Watch.from_bytes(watch.to_bytes()).to_bytes() == watch.to_bytes()
        wholes = Watch.start(streams.reference_of(ONE), SEASON)
        for block in streams.blocks(ONE, rows[: int(at)]):
            wholes = wholes.observe([block], block.start_s, of_data(BUDGET, segmented=True))
        assert wholes.phase == "watching"


def test_what_a_group_is_expected_to_be_follows_the_times_at_which_its_own_rows_came() -> None:
    """By night it is high and there are many of it: over a whole period the mean is not that of the hours."""
    random = np.random.default_rng(3)
    watch, _ = watch_over(Watch.start(grouped().reference, SEASON), nights(random, 0, 6 * PERIOD), 0)
    rows = nights(random, 6 * PERIOD, PERIOD)
    block = grouped().block(part(rows, 6.0 * PERIOD))
    pieces = [grouped().block(part(rows[at : at + 100], 6.0 * PERIOD + at), SEASON) for at in range(0, PERIOD, 100)]
    seen = watch.silenced(6.0 * PERIOD).remember([each for each in pieces if each])
    place = [track.name for track in grouped().reference.tracks].index("b where colour = 2")
    expected = seen.usual(grouped().reference, [place]).counts[0]
    assert block is not None and np.abs(
        np.cumsum(expected) / expected.sum() - np.cumsum(block.counts[place]) / block.counts[place].sum()
    ).max() < 0.06  # fmt: skip


def test_of_a_long_season_as_many_cells_are_watched_as_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    every = len(grouped().cells)
    for season in (NONE, SEASON, Season(7 * 86_400.0)):
        assert grouped().under(season) is grouped()
    monkeypatch.setattr("services.monitor.domain.grouped._KEPT_AT_MOST", 7 * 168)
    some = grouped().under(Season(7 * 86_400.0))
    assert len(some.cells) == len(some.reference.tracks) == 7 < every
    block, whole = (each.block(part(nights(np.random.default_rng(1), 0, 300))) for each in (some, grouped()))
    assert block and whole and np.array_equal(block.counts, whole.counts[:7])


def test_a_window_says_something_at_the_mean_time_of_its_rows() -> None:
    rows = nights(np.random.default_rng(1), 0, 400)
    block, plain = grouped().block(part(rows, 1_000.0), SEASON), grouped().block(part(rows, 1_000.0))
    assert block and block.start_s == 1_150.0 and plain and plain.start_s == 1_000.0


def test_hours_that_are_replayed_lead_to_what_watching_them_led_to() -> None:
    rows = nights(np.random.default_rng(2), 0, 3 * PERIOD)
    blocks = [
        block for at in range(0, len(rows), 100) if (block := grouped().block(part(rows[at : at + 100], at), SEASON))
    ]
    replayed = grouped().replayed(blocks, SEASON, of_segments(BUDGET))
    watch, _ = watch_over(Watch.start(grouped().reference, SEASON), rows, 0)
    assert replace(replayed, last_s=watch.last_s).to_bytes() == watch.to_bytes()


def test_what_moves_in_the_last_replayed_hours_is_in_doubt_and_told_by_what_follows() -> None:
    random, late = np.random.default_rng(5), 3 * PERIOD
    rows = nights(random, 0, late + 2_000, out_of_step=late)
    blocks = [
        block for at in range(0, len(rows), 100) if (block := grouped().block(part(rows[at : at + 100], at), SEASON))
    ]
    watch = grouped().replayed(blocks, SEASON, of_segments(BUDGET))
    assert watch.phase == "doubting" and watch.recent is not None
    _, finding = watch.judge(grouped().reference, 0.1)
    assert finding and finding.kind == "alarm" and grouped().where(finding.effects) == "colour = 2"


async def test_under_a_season_that_is_set_a_group_out_of_step_is_the_endpoints_alarm(
    service_db: Callable[[Service], Database], monitor_settings: MonitorSettings
) -> None:
    period_s, hour = 240.0, 400
    story = Story(service_db("monitor"), monitor_settings, period_s)
    period = int(period_s / 10) * hour
    rows = nights(story.random, 0, 4 * period, period, out_of_step=3 * period)
    with use(Context(system("monitor"))):
        await story.serve()
        wholes = Watch.start(streams.reference_of(ONE), Season(period_s))
        for at in range(0, 3 * period, hour):
            start_s = story.start.timestamp()
            wholes = wholes.observe(
                await story.window(rows[at : at + hour], 10.0), start_s, of_data(100_000, segmented=True)
            )
        assert await story.said() == []
        async with story.db.reading() as session:
            kept = await store.watch(session, story.endpoint, 1)
        assert kept and kept.to_bytes() == wholes.to_bytes(), "of the groups the wholes know nothing"
        for at in range(3 * period, 4 * period, hour):
            await story.window(rows[at : at + hour], 10.0)
        said = await story.said()
    assert said[0].segment == "colour = 2" and said[0].features[0].name == "b where colour = 2"
    with use(ENGINEER):
        await story.desired.accept(story.endpoint, "the new unit works by day")
    with use(Context(system("monitor"))):
        for at in range(3 * period, 4 * period, hour):
            await story.window(rows[at : at + hour], 10.0)
        assert await story.said() == said and await story.open() == []


async def test_groups_are_watched_on_at_once_when_a_season_is_learned(monitor_settings: MonitorSettings) -> None:
    house = House(monitor_settings, "colour")
    await house.deployed()
    await house.hours(0, 38)
    assert not await house.learning.look()
    drift = await house.get("/drift")
    assert (drift["drifting"], drift["season_s"]) == (False, DAY)
    await house.hours(38, 48)
    assert not (await house.get("/drift"))["drifting"]
    rows = streams.World(house.random).rows(6 * HOURLY)
    at = np.arange(len(rows)) / HOURLY
    rows[:, 0] += 0.9 * np.sin(2 * np.pi * at / 24)
    rows[:, 1] += 0.9 * np.cos(2 * np.pi * at / 24)
    rows[rows[:, 4] == 2, 2] += 1.2
    await house.closed(rows, 48)
    told = [each for each in await house.said("drift.detected") if each.get("segment")]
    assert told[-1]["segment"] == "colour = 2" and told[-1]["features"][0]["name"] == "c where colour = 2"
