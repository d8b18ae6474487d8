"""Sums of powers keep the digits that variances are made of, far from nought and next to it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitor.domain.outcomes.intervals import mean, z_ever
from services.monitor.domain.outcomes.labelled import Labelled
from services.monitor.domain.outcomes.performance import performance
from services.monitor.domain.outcomes.sums import Moments
from services.monitor.domain.outcomes.tally import Tally


def of(values: np.ndarray) -> Moments:
    moments = Moments(4)
    for value in values.tolist():
        moments.add(value)
    return moments


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e8, -1e12])
def test_the_interval_of_a_mean_is_as_wide_wherever_the_numbers_lie(offset: float) -> None:
    values = offset + np.random.default_rng(1).normal(size=2_000)
    found = mean(of(values))
    assert found
    assert (found.high - found.low) / 2 == pytest.approx(z_ever(2_000) * np.std(values) / 2_000**0.5, rel=1e-2)


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e8])
def test_the_fourth_power_about_the_mean_is_exact(offset: float) -> None:
    values = offset + np.random.default_rng(2).normal(size=500)
    assert of(values).fourth == pytest.approx(np.mean((values - values.mean()) ** 4), rel=1e-6)


def test_errors_too_small_for_the_sums_have_no_interval_and_none_at_all_have_one() -> None:
    tiny, nought = of(np.full(100, 1e-13)), of(np.zeros(100))
    assert mean(tiny, 2) is None
    assert mean(tiny, 1) is not None
    assert mean(nought, 2) is not None


@given(st.lists(st.floats(-1e60, 1e60), max_size=20), st.lists(st.floats(-1e60, 1e60), max_size=20))
def test_what_is_taken_out_leaves_nothing(kept: list[float], gone: list[float]) -> None:
    moments = of(np.array(kept))
    for value in gone:
        moments.add(value)
    for value in gone:
        moments.add(value, -1)
    assert moments == of(np.array(kept))


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e8])
def test_what_a_model_explains_is_known_wherever_the_truth_lies(offset: float) -> None:
    random, tally = np.random.default_rng(3), Tally()
    truth = offset + random.normal(0, 10, size=3_000)
    for prediction, label in zip((truth + random.normal(size=3_000)).tolist(), truth.tolist(), strict=True):
        tally.add(Labelled(prediction, label))
    found = {each.name: each for each in performance(tally, "regression", [])}["r2"]
    assert found.value == pytest.approx(0.99, abs=0.002)
    assert found.interval and 0.95 < found.interval[0] < 0.99 < found.interval[1] <= 1
