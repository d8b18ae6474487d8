"""What decisions rest on: bins of contributions that add up, rare false alarms, and how soon a change is told."""

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.monitor.domain.budget import of_attributions
from services.monitor.domain.influence import LEAST_ROWS, Influence
from services.monitor.domain.sample import SPACE, Sample, most_rows, place_of
from services.monitor.domain.season import Season
from services.monitor.domain.watch import Finding, Watch
from services.monitor.domain.windows import Block, Part

BUDGET, TOLERANCE = 1_000_000, 0.05
NAMES = ("steady", "gated", "stepped", "unused")


def contributions(random: np.random.Generator, rows: int, gated: float = 1.0) -> np.ndarray:
    """As trees make them: smooth ones, some that are nothing for many rows, a few values, none at all."""
    here = random.random(rows) < 0.4
    return np.column_stack([
        random.normal(size=rows), np.where(here, gated * random.normal(2.0, 0.5, rows), 1e-17),
        random.choice([-0.3, 0.1, 0.4], rows), np.zeros(rows),
    ])  # fmt: skip


def influence(rows: int = 750, seed: int = 0) -> Influence:
    made = Influence.of(NAMES, contributions(np.random.default_rng(seed), rows))
    assert made is not None
    return made


def see(watch: Watch, of: Influence, rows: np.ndarray, at: float) -> tuple[Watch, Finding | None]:
    return watch.observe([of.block(rows, at)], at, of_attributions(BUDGET)).judge(of.reference, TOLERANCE)


def test_bins_tell_the_influence_of_the_reference_itself_exactly() -> None:
    rows = contributions(np.random.default_rng(0), 750)
    of = influence()
    sizes = np.abs(rows).mean(axis=0)
    assert of.means(of.reference.counts) == pytest.approx(sizes / sizes.sum(), abs=1e-9)
    assert of.total == pytest.approx(sizes.sum())
    assert of.reference.counts.sum(axis=1).tolist() == [750] * 4


@given(st.lists(st.integers(0, 2**32), min_size=1, max_size=4), st.floats(0.01, 50))
@settings(max_examples=60, deadline=None)
def test_counts_of_any_split_add_up_to_those_of_all_rows(seeds: list[int], gated: float) -> None:
    of = influence()
    parts = [contributions(np.random.default_rng(seed), 30, gated) for seed in seeds]
    counts = np.sum([of.block(part, 0.0).counts for part in parts], axis=0)
    assert (counts == of.block(np.concatenate(parts), 0.0).counts).all()
    assert counts.sum() == 4 * 30 * len(seeds)


@given(st.floats(0.1, 9.0))
@settings(max_examples=40, deadline=None)
def test_what_is_beyond_the_reference_is_told_roughly_not_cut_off(times: float) -> None:
    of, rows = influence(), contributions(np.random.default_rng(3), 2_000, times)
    told = of.means(of.block(rows, 0.0).counts)
    assert told[1] == pytest.approx(np.abs(rows[:, 1]).mean() / of.total, rel=0.2, abs=0.02)


def test_nothing_is_made_of_too_few_rows_or_of_a_model_that_rests_on_nothing() -> None:
    random = np.random.default_rng(0)
    assert Influence.of(NAMES, contributions(random, LEAST_ROWS - 1)) is None
    assert Influence.of(NAMES, np.zeros((400, 4))) is None
    assert Influence.of(NAMES, np.full((400, 4), np.nan)) is None


def test_without_a_change_nothing_is_told_however_small_the_reference() -> None:
    for seed, reference in ((1, 60), (2, 400), (3, 400), (4, 1_000)):
        random, of = np.random.default_rng(100 + seed), influence(reference, seed)
        watch = Watch.start(of.reference)
        for at in range(2_500):
            watch, found = see(watch, of, contributions(random, 20), at * 10.0)
            assert found is None and watch.phase == "watching", (seed, at)


@pytest.mark.parametrize(("gated", "grew"), [(1.5, True), (0.6, False)])
def test_a_column_that_grew_or_shrank_is_told_within_a_few_hundred_rows(gated: float, grew: bool) -> None:
    delays: list[int] = []
    for seed in range(6):
        random, of = np.random.default_rng(seed), influence(seed=seed)
        watch, found, at = Watch.start(of.reference), None, 0
        for at in range(150):
            watch, found = see(watch, of, contributions(random, 20, gated if at >= 50 else 1.0), at * 10.0)
            if found:
                break
        assert found and found.kind == "alarm" and at >= 50, seed
        first = found.effects[0]
        (told,) = of.evidence([first], watch.usual(of.reference).counts)
        assert (first.name, first.unit, told.column) == ("influence of gated", "share", "gated")
        assert (told.now > told.before) is grew and told.now - told.before == pytest.approx(first.size, abs=1e-5)
        assert found.since_s >= 30 * 10.0
        delays.append((at - 49) * 20)
    print("rows to the alarm:", sorted(delays))
    assert sorted(delays)[3] <= 200 and max(delays) <= 600


def test_a_column_that_was_of_no_use_is_told_when_decisions_rest_on_it() -> None:
    random, of = np.random.default_rng(5), influence()
    watch, found = Watch.start(of.reference), None
    for at in range(60):
        rows = contributions(random, 20)
        rows[:, 3] = random.normal(size=20)
        watch, found = see(watch, of, rows, at * 10.0)
        if found:
            break
    assert found and found.effects[0].name == "influence of unused"


def test_a_change_within_the_tolerance_is_a_note_and_wakes_nobody() -> None:
    random, of = np.random.default_rng(9), influence(40_000)
    watch, found = Watch.start(of.reference), None
    for at in range(4_000):
        watch, found = see(watch, of, contributions(random, 20, 1.05), at * 10.0)
        if found:
            break
    assert found and found.kind == "note" and watch.phase == "watching"


def test_accepted_influences_are_what_later_ones_are_measured_against() -> None:
    random, of = np.random.default_rng(2), influence()
    watch, found, at = Watch.start(of.reference), None, 0
    while found is None:
        watch, found = see(watch, of, contributions(random, 20, 2.0), (at := at + 1) * 10.0)
    for _ in range(10):
        watch, _ = see(watch, of, contributions(random, 20, 2.0), (at := at + 1) * 10.0)
    watch = Watch.from_bytes(watch.accepted().to_bytes())
    for _ in range(200):
        watch, found = see(watch, of, contributions(random, 20, 2.0), (at := at + 1) * 10.0)
        assert found is None
    while found is None:
        watch, found = see(watch, of, contributions(random, 20, 1.0), (at := at + 1) * 10.0)
    assert found.effects[0].name == "influence of gated" and found.effects[0].size < 0


def test_an_influence_that_comes_and_goes_with_the_day_is_compared_with_itself() -> None:
    random, of, season = np.random.default_rng(4), influence(), Season(86_400.0)
    watch = Watch.start(of.reference, season)
    for at in range(3 * 24 * 6):
        gated = 1.0 + (0.8 if (at // 6) % 24 >= 12 else 0.0)
        watch, found = see(watch, of, contributions(random, 100, gated), at * 600.0)
        assert found is None, at


Texts = st.sampled_from((1, 200, 3_000, 5_000, 1_000_000)).map("x".__mul__)
Rows = st.dictionaries(st.integers(0, SPACE - 1), st.tuples(st.floats(-9, 9) | Texts), max_size=30)


@given(st.sampled_from((7, 100)), st.lists(Rows, min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_the_sample_of_a_window_is_the_same_however_its_rows_are_split(
    most: int, parts: list[dict[int, tuple[float | str]]]
) -> None:
    every: dict[int, tuple[float | str]] = {}
    for part in parts:
        every |= part
    whole = Sample.of(most, every.items())
    apart = Sample(most)
    for part in parts:
        apart = apart.merge(Sample.of(most, [(place, every[place]) for place in part]))
    assert apart == whole and Sample.from_json(whole.to_json()) == whole
    small = [row for _, row in sorted(every.items()) if not isinstance(row[0], str) or len(row[0]) <= 3_000]
    assert list(whole.in_order()) == small[: len(whole.rows)]
    assert len(whole.rows) >= min(most, len(small), 20)


def test_decisions_are_sampled_by_their_ids_alone_in_the_share_that_is_set() -> None:
    places = [place_of(f"decision-{n}") for n in range(20_000)]
    assert sum(place < 0.1 * SPACE for place in places) == pytest.approx(2_000, rel=0.1)
    assert max(places) < SPACE
    assert [place_of("one"), place_of("one")] == [place_of("one")] * 2
    assert (most_rows(2.0, 10.0, 5), most_rows(2.0, 3_600.0, 5), most_rows(2.0, 3_600.0, 2_000)) == (20, 500, 10)
    texts = Sample.of(500, [(n, ("x" * 1_000,)) for n in range(500)])
    assert 50 <= len(texts.in_order()) < 100, "an event carries so much"


def test_a_part_holds_no_more_of_a_sample_than_an_event_carries_and_one_large_row_leaves_the_others() -> None:
    large, small = (0, ("x" * 2_000_000, 1.0)), [(n, ("x" * 500, 1.0)) for n in range(1, 500)]
    sample = Sample.of(500, [large, *small])
    assert sample.in_order()[0] == small[0][1] and len(sample.rows) > 100
    assert len(orjson.dumps(sample.to_json())) < 330_000


def test_a_part_keeps_its_sample() -> None:
    from services.monitor.domain.latency import LatencyCounts
    from services.monitor.domain.windows import Sums

    sample = Sample.of(3, [(5, (1.0, None, "a")), (2**32 - 1, (2.0, 3.0, "b"))])
    part = Part(1, 1, (Block(0.0, 1, np.ones((1, 3), np.int64)),), Sums.zero(0), LatencyCounts({}), sample=sample)
    assert Part.from_bytes(part.to_bytes()).sample == sample
    assert part.merge(Part(0, 0, (), Sums.zero(0), LatencyCounts({}))).sample == sample
