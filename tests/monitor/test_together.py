"""What columns are together: what is lost, turned or gained between them, and what a profile keeps of it."""

from math import log

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import Column, ModelSchema, Profile, TensorSpec
from services.kit.binned import packed, sheets, unpacked
from services.kit.cuts import Cuts, cuts, even_cuts
from services.kit.profiles import Binner, build_profile
from services.monitor.domain.effects import all_effects
from services.monitor.domain.reference import Pair, Reference, Track
from services.monitor.domain.watch import Finding, Watch
from services.monitor.domain.windows import Block
from services.monitor.usecases.versions import Watched

from . import streams

NAMES = [f"f{place}" for place in range(8)]
SCHEMA = ModelSchema(
    inputs=(TensorSpec(name="X", datatype="FP32", shape=(-1, len(NAMES))),),
    outputs=(TensorSpec(name="label", datatype="INT64", shape=(-1,)),),
    columns=tuple(Column(name=name) for name in NAMES), prediction="label",
)  # fmt: skip
BUDGET = 1_000_000


def rows(random: np.random.Generator, count: int, change: str | None = None) -> np.ndarray:
    """Five columns of one factor, three that have nothing to do with any."""
    made = random.normal(size=(count, len(NAMES)))
    common = random.normal(size=count)
    made[:, :5] = 0.7 * common[:, None] + 0.7 * made[:, :5]
    match change:
        case "lost":
            made[:, 0] = random.normal(size=count)
        case "flipped":
            made[:, 0] *= -1
        case "closer":
            made[:, 0] = 0.9 * common + 0.3 * made[:, 0]
            made[:, 0] /= made[:, 0].std()
        case "gained":
            made[:, 6] = 0.6 * made[:, 5] + 0.8 * made[:, 6]
        case _:
            pass
    return made


def table(made: np.ndarray) -> pa.Table:
    return pa.table({name: made[:, place] for place, name in enumerate(NAMES)} | {"label": np.zeros(len(made))})


def watched(seed: int, count: int = 5_000) -> Watched:
    made = build_profile(table(rows(np.random.default_rng(seed), count)), SCHEMA)
    return Watched.of("model", SCHEMA, made)


def blocks(one: Watched, made: np.ndarray, start_s: float) -> list[Block]:
    binner = streams.binner_of(one)
    bins = binner.bin({name: made[:, place] for place, name in enumerate(NAMES)} | {"label": made[:, 0] * 0}, len(made))
    return [Block(start_s + at, 100, binner.count(bins[at : at + 100])) for at in range(0, len(made), 100)]


def after(change: str, seed: int) -> tuple[int, Finding]:
    """Rows from a change to what is found, and what that is."""
    random, one = np.random.default_rng(seed), watched(seed)
    reference = streams.reference_of(one)
    watch = Watch.start(reference)
    made = np.concatenate([rows(random, 3_000), rows(random, 2_000, change)])
    for block in blocks(one, made, 0.0):
        watch, finding = watch.observe([block], block.start_s, BUDGET).judge(reference, 0.1)
        if finding:
            return int(block.start_s) + 100 - 3_000, finding
    raise AssertionError(f"{change} was not found")


@pytest.mark.parametrize(
    ("change", "within", "told"),
    [("lost", 200, "f0 follows less from the others"), ("flipped", 200, "f0 follows less from the others"),
     ("closer", 400, "f0"), ("gained", 300, "correlation of f5 and f6")],
)  # fmt: skip
def test_what_columns_are_to_each_other_is_told_by_name(change: str, within: int, told: str) -> None:
    for seed in range(4):
        took, finding = after(change, seed)
        assert finding.kind == "alarm" and 0 < took <= within
        names = [effect.name for effect in finding.effects]
        assert any(told in name for name in names), names


@pytest.mark.parametrize("count", [60, 400, 5_000])
def test_a_reference_of_any_size_raises_no_alarm(count: int) -> None:
    random, one = np.random.default_rng(count), watched(count, count)
    detector, highest = Watch.start(streams.reference_of(one)).detector, 0.0
    for block in blocks(one, rows(random, 60_000), 0.0):
        detector = detector.observe(block)
        highest = max(highest, detector.evidence().statistic)
    assert highest < log(BUDGET)


def test_copies_and_constants_are_taken_and_a_copy_that_is_none_any_more_shows_at_once() -> None:
    random = np.random.default_rng(1)
    made = rows(random, 3_000)
    made[:, 1], made[:, 2] = made[:, 0], 7.0
    profile = build_profile(table(made), SCHEMA)
    assert profile.rotation is not None and profile.rotation.residuals is not None
    followed = {NAMES[of.column] for of in profile.rotation.residuals}
    assert {"f0", "f1", "f3", "f4"} <= followed and "f2" not in followed
    assert np.isfinite([of.weights for of in profile.rotation.residuals]).all()
    one = Watched.of("model", SCHEMA, profile)
    detector = Watch.start(streams.reference_of(one)).detector
    calm, parted = rows(random, 2_000), rows(random, 100)
    for each in (calm, parted):
        each[:, 1], each[:, 2] = each[:, 0], 7.0
    parted[:, 1] += 0.3 * random.normal(size=100)
    for block in blocks(one, calm, 0.0):
        detector = detector.observe(block)
    assert detector.evidence().statistic < log(BUDGET)
    (block,) = blocks(one, parted, 2_000.0)
    assert detector.observe(block).evidence().statistic > log(BUDGET)


def test_columns_that_have_nothing_to_do_with_each_other_have_no_residuals() -> None:
    made = np.random.default_rng(2).normal(size=(4_000, 8))
    profile = build_profile(table(made), SCHEMA)
    assert profile.rotation is not None and profile.rotation.residuals is None
    assert len(streams.reference_of(Watched.of("model", SCHEMA, profile)).tracks) == 9 + 8 + 1


def test_more_columns_than_rows_have_a_profile() -> None:
    made = np.random.default_rng(3).normal(size=(6, 8))
    assert Binner(build_profile(table(made), SCHEMA)).bin({}, 2).shape[0] == 2


def test_an_older_profile_has_neither_residuals_nor_pairs_and_keeps_its_bytes() -> None:
    said = build_profile(table(rows(np.random.default_rng(4), 2_000)), SCHEMA).model_dump(mode="json")
    del said["rotation"]["residuals"], said["rotation"]["pairs"]
    older = Profile.model_validate(said)
    assert older.model_dump(mode="json") == said
    one = Watched.of("model", SCHEMA, older)
    reference = streams.reference_of(one)
    assert {track.kind for track in reference.tracks} == {"numeric", "categorical", "axis"} and reference.pairs == 0
    watch = Watch.start(reference).observe(blocks(one, rows(np.random.default_rng(5), 500), 0.0), 0.0, BUDGET)
    assert Watch.from_bytes(watch.to_bytes()).to_bytes() == watch.to_bytes()


def test_the_correlation_of_a_pair_has_an_interval_that_holds_for_the_whole_sheet() -> None:
    """Of 100 streams without a change at most one ever seems to have one, in any of 30 pairs and at any of 20 looks."""
    random, shares = np.random.default_rng(6), (0.074, 0.852, 0.074)
    track, wrong = Track("", "pairs", 90, tuple(Pair("a", f"{n}", 0.54) for n in range(30))), 0
    before = packed(random.multinomial(100_000, shares, 30), 104)
    for _ in range(100):
        live = np.cumsum([packed(random.multinomial(300, shares, 30), 104) for _ in range(20)], axis=0)
        looks = [all_effects(Reference.of((track,), before), each)[0][0] for each in live]
        wrong += any(look.least > 0 for look in looks)
    assert wrong <= 1


@pytest.mark.parametrize(("change", "told"), [("lost", "f0 follows less"), ("closer", "f0 follows more")])
def test_a_residual_tells_which_column_follows_less_or_more(change: str, told: str) -> None:
    one, made = watched(8), rows(np.random.default_rng(8), 20_000, change)
    counts = np.sum([block.counts for block in blocks(one, made, 0.0)], axis=0)
    of_residuals = [each for each in all_effects(streams.reference_of(one), counts) if each[0].track.kind == "residual"]
    moved = max((effect for each in of_residuals for effect in each if effect.measure == "location"),
                key=lambda effect: abs(effect.size))  # fmt: skip
    assert moved.name == f"{told} from the others" and moved.beyond(0.1)


def test_a_pair_tells_the_size_of_a_correlation() -> None:
    random = np.random.default_rng(7)
    one, made = watched(7), rows(random, 20_000, "gained")
    counts = np.sum([block.counts for block in blocks(one, made, 0.0)], axis=0)
    found = all_effects(streams.reference_of(one), counts)[-1][0]
    assert found.name == "correlation of f5 and f6" and found.unit == "sd"
    assert found.size == pytest.approx(0.54, abs=0.06), "of three classes it is a tenth less than 0.6"


@given(st.integers(0, 300), st.sampled_from([3, 4, 34, 104]))
def test_pairs_lie_side_by_side_and_are_found_again(count: int, width: int) -> None:
    pairs = np.arange(3 * count).reshape(count, 3)
    made = packed(pairs, width)
    assert made.shape == (sheets(count, width), width) and made.sum() == pairs.sum()
    assert np.array_equal(unpacked(made, count), pairs)


@given(st.integers(0, 10_000))
def test_bins_of_many_columns_at_once_are_those_of_a_search(seed: int) -> None:
    random = np.random.default_rng(seed)
    made = [random.normal(size=300), random.normal(size=300) ** 3, np.zeros(300), np.floor(random.normal(size=300))]
    edges = [*(cuts(each, 50) for each in made), *(even_cuts(each, 50) for each in made), np.array([1.0])]
    values = np.column_stack([random.choice(each, 200) * random.choice([1, 1.001, 9], 200) for each in edges])
    found = np.column_stack([np.searchsorted(each, values[:, place]) for place, each in enumerate(edges)])
    assert np.array_equal(Cuts(edges).of(values), found)
