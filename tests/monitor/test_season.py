"""A declared season: what comes again in every period is no departure, what does not is one."""

import struct
import zlib
from itertools import pairwise

import numpy as np
import orjson
import pytest

from contracts import MonitorSettings
from services.kit.errors import Invalid
from services.monitor.domain.detectors.bag import Bag
from services.monitor.domain.season import NONE, Season, check
from services.monitor.domain.watch import Finding, Watch
from services.monitor.domain.windows import Block
from services.monitor.usecases.versions import Watched

from . import streams

PERIOD, BUDGET = 4_800, 1_000_000
SEASON = Season(float(PERIOD))


def waves(random: np.random.Generator, first: int, count: int, change_at: int | None = None) -> np.ndarray:
    """Rows of which two columns rise and fall with the period, a row a second; a third one may move for good."""
    rows = streams.World(random).rows(count)
    at = np.arange(first, first + count)
    rows[:, 0] += 0.9 * np.sin(2 * np.pi * at / PERIOD)
    rows[:, 1] += 0.9 * np.cos(2 * np.pi * at / PERIOD)
    if change_at is not None:
        rows[:, 2] += 0.7 * (at >= change_at)
    return rows


def watched(random: np.random.Generator) -> Watched:
    return streams.watched(random, 6_000)


def watch_over(watch: Watch, one: Watched, rows: np.ndarray, first: int) -> tuple[Watch, list[tuple[int, Finding]]]:
    """Windows of 100 rows to the end, whatever is found: by the row at which it was."""
    found: list[tuple[int, Finding]] = []
    blocks = streams.blocks(one, rows, start_s=float(first))
    for place, block in enumerate(blocks):
        before, watch = watch, watch.observe([block], block.start_s, BUDGET)
        if before.phase == "watching" and watch.phase == "doubting" and watch.since_s is not None:
            watch = watch.remember([each for each in blocks[:place] if each.start_s >= watch.since_s])
        watch, finding = watch.judge(streams.reference_of(one), 0.1)
        if finding:
            found.append((int(block.start_s) + block.rows, finding))
    return watch, found


def test_a_declared_season_is_no_departure_and_an_undeclared_one_is() -> None:
    random = np.random.default_rng(1)
    one = watched(random)
    rows = waves(random, 0, 12 * PERIOD)
    _, found = watch_over(Watch.start(streams.reference_of(one), SEASON), one, rows, 0)
    assert not [finding for _, finding in found if finding.kind == "alarm"]
    _, found = watch_over(Watch.start(streams.reference_of(one)), one, rows[:PERIOD], 0)
    assert found and found[0][1].kind == "alarm" and found[0][0] < 1_500


@pytest.mark.parametrize("periods", [1, 2, 6])
def test_what_does_not_come_again_is_found_at_any_time_of_the_period(periods: int) -> None:
    random = np.random.default_rng(2 + periods)
    one = watched(random)
    change = periods * PERIOD + 700 * periods
    rows = waves(random, 0, change + 2_000, change)
    _, found = watch_over(Watch.start(streams.reference_of(one), SEASON), one, rows, 0)
    (at, finding), *_ = [each for each in found if each[1].kind == "alarm"]
    assert change < at <= change + (1_000 if periods == 1 else 500)
    assert abs(finding.since_s - change) <= 300
    effect = next(effect for effect in finding.effects if "c" in effect.name.split())
    assert effect.measure == "location" and 0.3 < abs(effect.size) < 0.9


def test_the_first_period_is_learned() -> None:
    random = np.random.default_rng(3)
    one = watched(random)
    watch, found = watch_over(Watch.start(streams.reference_of(one), SEASON), one, waves(random, 0, PERIOD), 0)
    assert not found and watch.statistic == 0.0


def test_the_state_of_a_season_survives_a_restart_to_the_last_bit() -> None:
    random = np.random.default_rng(4)
    one = watched(random)
    rows = waves(random, 0, 3 * PERIOD, 2 * PERIOD + 1_000)
    watch, _ = watch_over(Watch.start(streams.reference_of(one), SEASON), one, rows[: 2 * PERIOD + 700], 0)
    alarmed, found = watch_over(watch, one, rows[2 * PERIOD + 700 :], 2 * PERIOD + 700)
    assert found[-1][1].kind == "alarm" and alarmed.phase == "alarmed"
    for state in (watch, alarmed, alarmed.accepted()):
        again = Watch.from_bytes(state.to_bytes())
        assert again.to_bytes() == state.to_bytes() and again.season == SEASON
        following = streams.blocks(one, waves(np.random.default_rng(5), 3 * PERIOD, 500), start_s=3.0 * PERIOD)
        assert (
            again.observe(following, 3.0 * PERIOD, BUDGET).to_bytes()
            == state.observe(following, 3.0 * PERIOD, BUDGET).to_bytes()
        )


def test_another_season_is_learned_anew_but_an_open_alarm_stays() -> None:
    random = np.random.default_rng(6)
    reference = streams.reference_of(watched(random))
    watch = Watch.start(reference, SEASON)
    assert watch.suited(reference, SEASON) is watch
    assert watch.suited(reference, NONE).season == NONE
    alarmed = Watch("alarmed", watch.detector)
    assert alarmed.suited(reference, Season(86_400.0)) is alarmed
    accepted = alarmed.accepted()
    assert accepted.phase == "watching" and accepted.suited(reference, Season(86_400.0)).season.slots == 24


@pytest.mark.parametrize(
    ("period", "slots"), [(None, 1), (60.0, 24), (86_400.0, 24), (7 * 86_400.0, 168), (366 * 86_400.0, 168)]
)
def test_slots_are_hours_of_days_and_weeks(period: float | None, slots: int) -> None:
    season = Season(period)
    assert season.slots == slots
    moments = np.linspace(1.7e9, 1.7e9 + (period or 60.0), 5_000)
    weights = np.array([season.weights(at) for at in moments])
    assert np.allclose(weights.sum(axis=1), 1) and (weights >= 0).all()
    jumps = np.abs(np.diff(weights, axis=0)).max()
    assert jumps <= slots / 5_000 * 1.01, "they move as steadily as time does, over the end of a period too"
    turns = [season.turn(at) for at in moments]
    assert all(0 <= later - one <= 1 for one, later in pairwise(turns))


def test_a_slot_that_is_half_over_is_compared_without_a_bias() -> None:
    """A number that rises steadily: the mean of what a moment is compared with is that moment's own."""
    bins = np.arange(2_400)
    bag = Bag.start(np.zeros((1, 2_400)), Season(2_400.0))

    def row(at: int) -> Block:
        counts = np.zeros((1, 2_400), np.int64)
        counts[0, at % 2_400] = 1
        return Block(float(at), 1, counts)

    for at in range(2_400 + 700):
        bag = bag.plus(row(at))
    for moment in (2_400 + 700, 2_400 + 750):
        known = bag.like(float(moment))
        assert known is not None
        assert abs(known[0] @ bins / known[0].sum() - moment % 2_400) < 3, moment
        bag = bag.plus(row(moment))


def test_a_season_has_no_window_longer_than_a_slot() -> None:
    check(None, 10.0)
    check(0.0, 86_400.0)
    check(240.0, 10.0)
    with pytest.raises(Invalid, match=r"season_s: a season of 60 s is cut into 24 slots.*240 s at least"):
        check(60.0, 10.0)


def test_the_setting_is_left_out_where_there_is_none() -> None:
    assert "season_s" not in MonitorSettings().model_dump(mode="json")
    assert MonitorSettings(season_s=86_400.0).model_dump(mode="json")["season_s"] == 86_400.0


def test_a_state_of_before_groups_had_seasons_is_read_as_it_was_meant() -> None:
    random = np.random.default_rng(8)
    one = watched(random)
    change = 2 * PERIOD + 1_000
    watch, _ = watch_over(Watch.start(streams.reference_of(one), SEASON), one, waves(random, 0, 3 * PERIOD, change), 0)
    assert watch.phase == "alarmed" and watch.recent is not None
    slots = watch.recent.rows[:, 0]
    read = Watch.from_bytes(with_rows_by_slot(watch.to_bytes(), slots.tolist()))
    assert read.recent is not None and np.allclose(read.recent.rows, watch.recent.rows)
    assert np.array_equal(read.recent.counts, watch.recent.counts) and read.season == SEASON
    accepted = Watch.start(streams.reference_of(one)).silenced(0.0).remember(streams.blocks(one, waves(random, 0, 500)))
    for state in (accepted, accepted.accepted()):
        old = Watch.from_bytes(with_rows_by_slot(state.to_bytes(), [500.0] if state.recent else None))
        assert old.to_bytes() == state.to_bytes()


def with_rows_by_slot(data: bytes, slots: list[float] | None) -> bytes:
    """As such a state was stored: rows by slot alone, in the head."""
    head = struct.Struct("<BII")
    version, size, length = head.unpack_from(data)
    state = orjson.loads(data[head.size : head.size + size])
    body = zlib.decompress(data[head.size + size : head.size + size + length])
    counts = 8 * state["shape"][0] * state["shape"][1] * (state["recent"] + state["normal"])
    said, packed = orjson.dumps(state | {"slots": slots}), zlib.compress(body[:counts], 1)
    return head.pack(version, len(said), len(packed)) + said + packed + data[head.size + size + length :]
