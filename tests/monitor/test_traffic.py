"""Whether rows come as they use to: volume, repeated ids and freshness, in counts that merge."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.monitor.domain.traffic import Ids, Traffic, expected_rows


@given(st.lists(st.sampled_from([f"id-{n}" for n in range(900)]), max_size=1_500), st.integers(0, 1_500))
@settings(deadline=None, max_examples=60)
def test_any_split_of_the_rows_gives_the_same_ids(ids: list[str], cut: int) -> None:
    one, other = Traffic(3.0, Ids.of(ids[:cut])), Traffic(5.0, Ids.of(ids[cut:]))
    merged = Traffic.from_json(one.to_json()).merge(Traffic.from_json(other.to_json()))
    assert merged == Traffic(5.0, Ids.of(ids)) == other.merge(one)
    assert Traffic.from_json(None) == Traffic.from_json(Traffic().to_json()) == Traffic()


def test_repeats_of_few_ids_are_exact_and_of_many_estimated() -> None:
    few = Ids.of(["a", "b", "a", "c", "a", "b"])
    assert (few.named, few.repeated, Ids().repeated) == (6, 3, 0)
    unique = [str(n) for n in range(50_000)]
    assert Ids.of(unique).repeated == 0
    again = Ids.of([*unique, *unique[:25_000]])
    assert again.named == 75_000 and again.repeated == pytest.approx(25_000, rel=0.15)
    assert len(again.sample) == 512


@pytest.mark.parametrize("mean", [3, 50, 4_000])
def test_a_steady_stream_keeps_within_what_is_expected_of_it(mean: int) -> None:
    random = np.random.default_rng(mean)
    outside = 0
    for _ in range(2_000):
        rows = random.poisson(mean, 61)
        found = expected_rows(rows[:-1].tolist())
        assert found and found[0] <= mean <= found[1]
        outside += not found[0] <= rows[-1] <= found[1]
    assert outside <= 20


def test_a_stream_that_halves_or_doubles_is_outside_even_after_odd_windows() -> None:
    random = np.random.default_rng(2)
    before = [*random.poisson(400, 40).tolist(), 3, 0, 9_000]
    found = expected_rows(before)
    assert found and 200 < found[0] < 400 < found[1] < 800
    bursts = expected_rows((400 * random.lognormal(0.0, 0.5, 60)).astype(int).tolist())
    assert bursts and bursts[0] < 200 and bursts[1] > 800, "of a restless stream more is expected"


def test_of_few_windows_nothing_is_expected() -> None:
    assert expected_rows([10] * 9) is None and expected_rows([]) is None
    assert expected_rows([0] * 10) is not None
