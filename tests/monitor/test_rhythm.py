"""A season that nobody declared: it is learned from what comes again, and from nothing else."""

import numpy as np
import pytest

from services.monitor.domain.rhythm import candidates, learned, season
from services.monitor.domain.season import NONE, Season
from services.monitor.domain.trial import Setting
from services.monitor.domain.watch import Finding, Watch
from services.monitor.domain.windows import HOUR_S, Block
from services.monitor.usecases.versions import Watched

from . import streams

DAY, HOURLY, BUDGET = 86_400.0, 400, 1_000_000
SETTING = Setting(BUDGET, 0.1, DAY)


def made(
    random: np.random.Generator, hours: range, *, wave: float = 0.9, steps: tuple[float, ...] = (), by: float = 0.6
) -> np.ndarray:
    """Rows of some hours: two columns rise and fall with the day, a third one moves at the first step,
    comes back at the second one, and so on."""
    rows = streams.World(random).rows(HOURLY * len(hours))
    at = hours.start + np.arange(len(rows)) / HOURLY
    rows[:, 0] += wave * np.sin(2 * np.pi * at / 24)
    rows[:, 1] += wave * np.cos(2 * np.pi * at / 24)
    for step in steps:
        rows[:, 2] += by * (at >= step)
        by = -by
    return rows


def blocks(one: Watched, rows: np.ndarray, first: int = 0) -> list[Block]:
    """An hour each."""
    by_hour = streams.blocks(one, rows, HOURLY)
    return [Block((first + n + 0.5) * HOUR_S, block.rows, block.counts) for n, block in enumerate(by_hour)]


def tried(hours: int, seed: int = 1, **how: object) -> Watch | None:
    random = np.random.default_rng(seed)
    one = streams.watched(random)
    rows = made(random, range(hours), **how)  # pyright: ignore[reportArgumentType]
    return learned(streams.reference_of(one), blocks(one, rows), SETTING)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("hours", [36, 48, 60])
def test_what_comes_again_is_learned_after_a_period_and_a_half(seed: int, hours: int) -> None:
    watch = tried(hours, seed)
    assert watch is not None and watch.season == Season(DAY) and watch.phase == "watching"


def test_a_period_alone_tells_nothing() -> None:
    assert tried(24) is None and tried(35) is None


@pytest.mark.parametrize("wave", [0.0, 0.9])
@pytest.mark.parametrize("step", [-1.0, 0.5, 1.0, 6.0, 12.0, 20.0, 23.0, 24.0, 25.0, 30.0, 34.0, 46.0])
def test_a_change_that_came_once_is_no_season_whenever_it_came(step: float, wave: float) -> None:
    for hours in (36, 48, 72):
        if step < hours - 1:
            for seed in range(2):
                assert tried(hours, seed, wave=wave, steps=(step,)) is None, (hours, seed)


@pytest.mark.parametrize("steps", [(12.0, 24.0), (6.0, 18.0), (3.0, 9.0, 30.0, 33.0), (12.0, 36.0), (2.0, 26.0)])
def test_what_passed_is_no_season_where_it_does_not_come_again(steps: tuple[float, ...]) -> None:
    for hours in (36, 42, 60):
        assert tried(hours, wave=0.0, steps=steps) is None, hours


def test_what_grows_is_no_season() -> None:
    random = np.random.default_rng(3)
    one = streams.watched(random)
    for hours in (36, 48, 72):
        rows = made(random, range(hours), wave=0.0)
        rows[:, 0] += 0.5 * np.arange(len(rows)) / HOURLY / 24
        assert learned(streams.reference_of(one), blocks(one, rows), SETTING) is None


def test_few_rows_agree_with_anything_until_more_days_have_passed() -> None:
    assert sparse(4, 36) is None
    assert sparse(20, 14 * 24) is not None


def sparse(few: int, hours: int) -> Watch | None:
    """What is learned of a few rows an hour."""
    random = np.random.default_rng(4)
    one = streams.watched(random)
    by_hour = streams.blocks(one, made(random, range(hours))[:: HOURLY // few], few)
    blocks = [Block((n + 0.5) * HOUR_S, block.rows, block.counts) for n, block in enumerate(by_hour)]
    return learned(streams.reference_of(one), blocks, SETTING)


@pytest.mark.parametrize("steps", [(4.0, 10.0, 27.0, 32.0), (12.0, 24.0), (8.0, 30.0)])
def test_what_happened_to_few_rows_is_no_season(steps: tuple[float, ...]) -> None:
    for few in (5, 10, 20):
        random = np.random.default_rng(few)
        one = streams.watched(random)
        rows = made(random, range(48), wave=0.0, steps=steps, by=1.0)[:: HOURLY // few]
        by_hour = streams.blocks(one, rows, few)
        hours = [Block((n + 0.5) * HOUR_S, block.rows, block.counts) for n, block in enumerate(by_hour)]
        assert learned(streams.reference_of(one), hours, SETTING) is None, few


def test_a_column_that_moved_before_the_first_row_is_not_explained_by_others_that_rise_and_fall() -> None:
    assert tried(48, steps=(-1.0,), by=0.3) is None
    assert tried(48, steps=(-1.0,), by=0.0) is not None


def test_stationary_rows_have_no_season() -> None:
    assert tried(72, wave=0.0) is None


def test_watching_goes_on_with_what_was_learned_and_keeps_the_budget() -> None:
    """Twelve more days without an alarm; then a step, which is found as soon as with a declared season."""
    random = np.random.default_rng(7)
    one = streams.watched(random)
    reference = streams.reference_of(one)
    watch = learned(reference, blocks(one, made(random, range(36))), SETTING)
    assert watch is not None
    after, found = 36 + 12 * 24, list[tuple[float, Finding]]()
    rows = made(random, range(36, after + 6), steps=(after,), by=0.7)
    for n, block in enumerate(streams.blocks(one, rows)):
        start_s = 36 * HOUR_S + n * HOUR_S / 4
        watch, finding = watch.observe([Block(start_s, block.rows, block.counts)], start_s, BUDGET).judge(
            reference, 0.1
        )
        if finding:
            found.append((start_s / HOUR_S - after, finding))
    (at, alarm), *_ = [each for each in found if each[1].kind == "alarm"]
    assert 0 <= at <= 1.0, f"{at} h, {HOURLY} rows each"
    assert any("c" in effect.name.split() for effect in alarm.effects)


@pytest.mark.parametrize("seed", range(3))
def test_a_change_in_the_last_hour_that_was_looked_at_is_found_in_those_that_follow(seed: int) -> None:
    random = np.random.default_rng(seed)
    one = streams.watched(random)
    reference, rows = streams.reference_of(one), made(random, range(40), steps=(35.0,))
    hours = blocks(one, rows)
    watch = learned(reference, hours[:36], SETTING)
    if watch is None:
        return
    found: list[Finding] = []
    for hour in hours[36:]:
        watch, finding = watch.observe([hour], hour.start_s, BUDGET).judge(reference, 0.1)
        found += [finding] if finding else []
    assert [each.kind for each in found] == ["alarm"] and found[0].since_s >= 34 * HOUR_S


def test_what_is_set_wins_and_nought_forbids() -> None:
    assert season(None, None, 10.0) == season(0.0, DAY, 10.0) == NONE
    assert season(None, DAY, 3_600.0) == Season(DAY) and season(3_600.0, DAY, 10.0) == Season(3_600.0)


def test_what_was_learned_does_not_hold_while_a_window_is_longer_than_its_slots() -> None:
    assert season(None, DAY, 3_601.0) == NONE


def test_a_longer_season_may_follow_a_shorter_one_and_none_of_a_few_windows() -> None:
    assert candidates(10.0, None) == [DAY, 7 * DAY]
    assert candidates(10.0, DAY) == [7 * DAY] and candidates(10.0, 7 * DAY) == []
    assert candidates(7_200.0, None) == []
