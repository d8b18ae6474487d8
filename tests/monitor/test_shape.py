"""A number whose distribution changes while its mean and deviation stay is told, as its shape."""

from math import log

import numpy as np
import pytest

from services.monitor.domain.effects import all_effects
from services.monitor.domain.watch import Finding, Watch

from . import streams

TOLERANCE, BUDGET = 0.1, 1_000_000


def found(live: np.ndarray, before: np.ndarray) -> list[Finding]:
    """What is told of rows [rows, 6] after a reference of others, in windows of 100 rows, up to the first alarm."""
    one = streams.watched_of(before)
    reference, told = streams.reference_of(one), list[Finding]()
    watch = Watch.start(reference)
    for block in streams.blocks(one, live, 100):
        watch, finding = watch.observe([block], block.start_s, BUDGET).judge(reference, TOLERANCE)
        if finding:
            told.append(finding)
            if finding.kind == "alarm":
                break
    return told


def _rows(seed: int, count: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.column_stack([random.normal(size=(count, 4)), random.choice(4, size=count), random.choice(2, size=count)])


@pytest.mark.parametrize("seed", range(3))
def test_two_points_in_place_of_a_bell_are_an_alarm_of_shape(seed: int) -> None:
    live = _rows(100 + seed, 2_000)
    live[:, 0] = np.sign(live[:, 0])
    alarm = found(live, _rows(seed, 6_000))[-1]
    assert alarm.kind == "alarm"
    assert (alarm.effects[0].name, alarm.effects[0].moved, alarm.effects[0].unit) == ("a", "shape", "psi")


def test_even_values_in_place_of_a_bell_are_a_note_of_shape() -> None:
    live = _rows(7, 80_000)
    live[:, 0] = np.random.default_rng(8).uniform(-(3**0.5), 3**0.5, size=len(live))
    told = found(live, _rows(1, 6_000))
    assert [(each.kind, each.effects[0].name, each.effects[0].moved) for each in told] == [("note", "a", "shape")]
    assert 0.03 < told[0].effects[0].size < TOLERANCE


@pytest.mark.parametrize("now", [7.0, -7.0])
def test_a_constant_that_becomes_another_is_an_alarm(now: float) -> None:
    before, live = _rows(1, 6_000), _rows(2, 1_000)
    before[:, 0], live[:, 0] = 5.0, now
    alarm = found(live, before)[-1]
    assert (alarm.kind, alarm.effects[0].name, alarm.effects[0].moved) == ("alarm", "a", "shape")


@pytest.mark.parametrize(("shift", "times"), [(0.5, 1.0), (-2.0, 1.0), (0.0, 1.5), (0.0, 0.5), (1.0, 2.0)])
def test_what_location_and_spread_explain_is_no_change_of_shape(shift: float, times: float) -> None:
    one = streams.watched_of(_rows(1, 6_000))
    live = _rows(2, 20_000)
    live[:, 0] = live[:, 0] * times + shift
    counts = np.sum([block.counts for block in streams.blocks(one, live)], axis=0)
    by_measure = {effect.measure: effect for effect in all_effects(streams.reference_of(one), counts)[0]}
    assert by_measure["shape"].size < TOLERANCE / 2
    assert not by_measure["shape"].beyond(TOLERANCE)


def test_rows_that_stay_as_they_are_give_no_evidence() -> None:
    one = streams.watched_of(_rows(1, 6_000))
    watch = Watch.start(streams.reference_of(one))
    for block in streams.blocks(one, _rows(2, 60_000), 50):
        watch = watch.observe([block], block.start_s, BUDGET)
        assert watch.statistic < log(BUDGET)
