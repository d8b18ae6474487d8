"""What is counted of outcomes is exact in any order; what is told of it is what the textbooks say, with intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from contracts import Column, ModelSchema, TensorSpec, ValueMatrix
from services.kit.groups import OTHER, Grouping, class_name
from services.monitor.domain.outcomes.apart import CLASSES_AT_MOST
from services.monitor.domain.outcomes.intervals import share
from services.monitor.domain.outcomes.labelled import Labelled, Meaning, in_order
from services.monitor.domain.outcomes.performance import Statistic, classes_of, performance, worth_of_being_right
from services.monitor.domain.outcomes.sums import Moments
from services.monitor.domain.outcomes.tally import (
    Groups,
    Tally,
    add_to_groups,
    groups_from_json,
    groups_to_json,
    merge_groups,
)

from . import streams

_NUMBERS = st.floats(-1e6, 1e6)
_CLASSES = st.sampled_from(["0", "1", "2"])


@st.composite
def rows(draw: st.DrawFn) -> Labelled:
    if draw(st.booleans()):
        prediction: Any = draw(_NUMBERS)
        label: Any = draw(st.none() | _NUMBERS)
        score = None
    else:
        prediction, label = draw(_CLASSES), draw(st.none() | _CLASSES)
        score = draw(st.none() | st.floats(0, 1))
    kpis = {"a": draw(st.none() | _NUMBERS)} if draw(st.booleans()) else {}
    if not draw(st.integers(0, 3)):
        prediction = None
    return Labelled(prediction, label, score, draw(st.none() | _NUMBERS), kpis, {"sex": draw(_CLASSES)})


def counted(given: Sequence[Labelled]) -> tuple[Tally, Groups]:
    tally, groups = Tally(), Groups()
    for row in given:
        tally.add(add_to_groups(groups, row))
    return tally, groups


def stored(tally: Tally, groups: Groups) -> tuple[Any, Any]:
    return tally.to_json(), {s: told for s, told in groups_to_json(groups).items() if told}


@given(st.lists(rows(), max_size=30), st.randoms())
@settings(deadline=None, max_examples=150)
def test_any_split_and_any_order_of_the_rows_give_the_same_counts(given: list[Labelled], random: Any) -> None:
    whole = stored(*counted(given))
    mixed = random.sample(given, len(given))
    cut = random.randint(0, len(mixed))
    tally, groups = counted(mixed[:cut])
    other, others = counted(mixed[cut:])
    tally.merge(Tally.from_json(other.to_json()))
    merge_groups(groups, groups_from_json(groups_to_json(others)))
    assert stored(tally, groups) == whole


@given(st.lists(rows(), max_size=20), st.lists(rows(), max_size=10), st.randoms())
@settings(deadline=None, max_examples=150)
def test_a_row_that_is_taken_out_again_leaves_nothing_behind(
    kept: list[Labelled], revised: list[Labelled], random: Any
) -> None:
    tally, groups = Tally(), Groups()
    come = [*kept, *revised]
    for row in random.sample(come, len(come)):
        tally.add(add_to_groups(groups, row))
    for row in random.sample(revised, len(revised)):
        tally.add(row, -1)
        add_to_groups(groups, row, -1)
    assert stored(tally, groups) == stored(*counted(kept))


def told(statistics: Sequence[Statistic], name: str, of: str | None = None) -> Statistic:
    return next(s for s in statistics if (s.name, s.of) == (name, of))


def binary(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    score = random.beta(0.7, 2.0, size=count)
    label = (random.random(count) < score**1.3).astype(int)
    return (score > 0.5).astype(int), label, score


def test_two_classes_are_judged_as_a_known_library_judges_them() -> None:
    prediction, label, score = binary(np.random.default_rng(5), 3_000)
    tally, _ = counted([Labelled(str(p), str(t), float(s)) for p, t, s in zip(prediction, label, score, strict=True)])
    found = performance(tally, "binary", classes_of(tally))
    assert told(found, "accuracy").value == pytest.approx(sk.accuracy_score(label, prediction))
    for c in (0, 1):
        assert told(found, "precision", str(c)).value == pytest.approx(
            sk.precision_score(label, prediction, pos_label=c)
        )
        assert told(found, "recall", str(c)).value == pytest.approx(sk.recall_score(label, prediction, pos_label=c))
        assert told(found, "f1", str(c)).value == pytest.approx(sk.f1_score(label, prediction, pos_label=c))
    assert told(found, "macro f1").value == pytest.approx(sk.f1_score(label, prediction, average="macro"))
    assert told(found, "brier").value == pytest.approx(sk.brier_score_loss(label, score))
    assert told(found, "log loss").value == pytest.approx(sk.log_loss(label, score))
    auc = told(found, "roc auc")
    assert auc.value == pytest.approx(sk.roc_auc_score(label, score), abs=1e-3)
    for each in found:
        assert each.value is not None and each.interval is not None
        assert each.interval[0] <= each.value <= each.interval[1]


def test_rare_scores_are_told_apart_and_what_the_bins_hide_is_in_the_interval() -> None:
    random = np.random.default_rng(6)
    score = random.beta(1.0, 400.0, size=20_000)
    label = (random.random(20_000) < score * 3).astype(int)
    tally, _ = counted([Labelled("0", str(t), float(s)) for t, s in zip(label, score, strict=True)])
    auc = told(performance(tally, "binary", ["0", "1"]), "roc auc")
    assert auc.value == pytest.approx(sk.roc_auc_score(label, score), abs=5e-3)
    same, _ = counted([Labelled("0", str(t), 0.001) for t in label])
    hidden = told(performance(same, "binary", ["0", "1"]), "roc auc")
    assert hidden.value == 0.5 and hidden.interval == (0.0, 1.0)


def test_several_classes_are_calibrated_by_the_score_of_the_decision() -> None:
    random = np.random.default_rng(7)
    label = random.integers(0, 3, 4_000)
    right = random.random(4_000) < 0.8
    prediction = np.where(right, label, (label + 1) % 3)
    tally, _ = counted([Labelled(str(p), str(t), 0.95) for p, t in zip(prediction, label, strict=True)])
    found = performance(tally, "classes", classes_of(tally))
    expected = sk.f1_score(label, prediction, average="macro")
    assert told(found, "macro f1").value == pytest.approx(expected)
    off = told(found, "calibration error")
    assert off.value == pytest.approx(0.95 - right.mean())
    assert off.interval is not None and off.interval[0] > 0.1
    assert not [s for s in found if s.name == "roc auc"]


def test_numbers_are_judged_as_a_known_library_judges_them() -> None:
    random = np.random.default_rng(8)
    truth = random.normal(100.0, 15.0, 5_000)
    guess = truth + random.normal(2.0, 5.0, 5_000)
    tally, _ = counted([Labelled(float(p), float(t)) for p, t in zip(guess, truth, strict=True)])
    found = performance(tally, "regression", [])
    assert told(found, "mae").value == pytest.approx(sk.mean_absolute_error(truth, guess))
    assert told(found, "rmse").value == pytest.approx(sk.mean_squared_error(truth, guess) ** 0.5)
    assert told(found, "r2").value == pytest.approx(sk.r2_score(truth, guess))
    bias = told(found, "bias")
    assert bias.interval is not None and bias.interval[0] < 2.0 < bias.interval[1]


def test_of_few_rows_no_asymptotic_interval_is_told() -> None:
    tally, _ = counted([Labelled(1.0, 2.0)] * 5)
    mae = told(performance(tally, "regression", []), "mae")
    assert mae.value is None and mae.why == "fewer than 30 rows"


def test_an_interval_of_a_share_holds_at_all_looks_together() -> None:
    random, wrong = np.random.default_rng(9), 0
    for _ in range(200):
        hits = np.cumsum(random.random(1_000) < 0.1)
        looks = [share(int(hits[n - 1]), n) for n in range(1, 1_001, 7)]
        wrong += any(not look.low <= 0.1 <= look.high for look in looks)
    assert wrong <= 6  # 2 of 200 are allowed on average


def test_sums_hold_what_floating_point_would_lose() -> None:
    moments = Moments(2)
    for value in (1e15, 0.1, -1e15):
        moments.add(value)
    assert moments.mean() * 3 == 0.1
    flat = Moments(2)
    for _ in range(100):
        flat.add(1e9 + 0.5)
    assert flat.variance == pytest.approx(0.0, abs=1e-6)


def test_a_class_is_the_same_however_it_is_written() -> None:
    assert class_name(1) == class_name(1.0) == class_name("1") == class_name(True)
    assert in_order(["10", "9", "2"]) == ["2", "9", "10"] and in_order(["b", "a"]) == ["a", "b"]


def test_too_many_classes_and_groups_share_one_place() -> None:
    tally, groups = Tally(), Groups()
    kept = []
    for n in range(100):
        row = add_to_groups(groups, Labelled(f"class {n}", f"class {n}", segments={"zip": str(n)}))
        tally.add(row)
        kept.append(row)
    assert len(classes_of(tally)) == CLASSES_AT_MOST and len(tally.cells) == CLASSES_AT_MOST + 1
    assert len(groups["zip"]) == 21 and groups["zip"][OTHER].rows == 80
    for row in kept:
        tally.add(row, -1)
        add_to_groups(groups, row, -1)
    assert stored(tally, groups) == stored(Tally(), Groups())


def test_of_many_classes_right_is_right_though_few_are_told_apart() -> None:
    random = np.random.default_rng(1)
    rows = [Labelled(str(p), str(t), 0.5) for p, t in random.integers(0, 100, (5_000, 2))]
    tally, _ = counted(rows)
    found = performance(tally, "classes", classes_of(tally))
    right = sum(row.prediction == row.label for row in rows) / len(rows)
    assert told(found, "accuracy").value == right and told(found, "accuracy").rows == 5_000
    assert told(found, "brier").value == pytest.approx(0.25)
    mid = (told(found, "calibration error").value or 0) + right
    assert mid == pytest.approx(0.5)
    assert "30 classes" in (told(found, "macro recall").why or "")


_MANY = st.integers(0, 60).map(str)


@given(st.lists(st.tuples(_MANY, _MANY, st.integers(0, 3)), max_size=150), st.sampled_from([(), ("7", "9")]))
@settings(deadline=None, max_examples=100)
def test_of_many_classes_any_split_tells_the_same(given: list[tuple[str, str, int]], declared: tuple[str, ...]) -> None:
    one, parts = Tally.of(frozenset(declared)), [Tally.of(frozenset(declared)) for _ in range(4)]
    for prediction, label, part in given:
        one.add(Labelled(prediction, label, 0.5))
        parts[part].add(Labelled(prediction, label, 0.5))
    merged = Tally()
    for part in reversed(parts):
        merged.merge(Tally.from_json(part.to_json()))
    assert merged.to_json() == one.to_json()
    assert set(declared) & {name for p, t, _ in given for name in (p, t)} <= set(classes_of(one))
    for prediction, label, part in given:
        parts[part].add(Labelled(prediction, label, 0.5), -1)
    assert not any(part.rows or part.cells for part in parts)


def test_classes_of_the_baseline_are_told_apart_before_all_others() -> None:
    meaning = Meaning.of(streams.schema(), streams.profile(np.random.default_rng(1)))
    assert meaning.classes == {"0", "1"}
    tally = Tally.of(meaning.classes)
    for n in range(100):
        tally.add(Labelled(f"!{n}", f"!{n}"))
    tally.add(Labelled("1", "0"))
    assert {"0", "1"} < set(classes_of(tally)) and len(classes_of(tally)) == CLASSES_AT_MOST


def test_what_the_first_release_counted_of_too_many_classes_is_no_right_decision() -> None:
    cells = [[str(n), str(n), 1, None] for n in range(CLASSES_AT_MOST)] + [
        [OTHER, OTHER, 70, None],
        [OTHER, "3", 5, None],
    ]
    tally = Tally.from_json({"n": 105, "c": cells})
    found = told(performance(tally, "classes", classes_of(tally)), "accuracy")
    assert found.rows == 35 and found.value == pytest.approx(30 / 35) and "70 more rows" in (found.why or "")
    tally.add(Labelled(OTHER, OTHER), -1)
    tally.add(Labelled(OTHER, "3"), -1)
    tally.add(Labelled("new", "new"))
    assert Tally.from_json(tally.to_json()).to_json() == tally.to_json() and tally.labelled == 104


def test_a_group_has_every_figure_of_the_whole_and_its_auc_only_more_coarsely() -> None:
    random = np.random.default_rng(3)
    truths, scores = random.integers(0, 2, 2_000), random.random(2_000)
    rows = [
        Labelled(str(int(s > 0.5)), str(t), (s + t) / 2, segments={"sex": "1"})
        for t, s in zip(truths, scores, strict=True)
    ]
    tally, groups = counted(rows)
    whole, group = (performance(each, "binary", ["0", "1"]) for each in (tally, groups["sex"]["1"]))
    assert [(s.name, s.of) for s in group] == [(s.name, s.of) for s in whole]
    for one, other in zip(whole, group, strict=True):
        assert one.value == pytest.approx(other.value, abs=0.01 if one.name == "roc auc" else 1e-12)
    assert sum(map(len, (c.scores.bins for c in groups["sex"]["1"].cells.values()))) < 200


def test_a_row_that_its_groups_counted_without_its_score_leaves_none_behind() -> None:
    before = Labelled.from_json({"p": "1", "l": "1", "s": 0.75, "v": None, "k": {}, "g": {"sex": "1"}})
    groups = Groups()
    add_to_groups(groups, before)
    assert groups["sex"]["1"].cells["1", "1"].scores.score.rows == 0
    add_to_groups(groups, Labelled("1", "1", 0.5, segments={"sex": "1"}))
    add_to_groups(groups, before, -1)
    assert groups["sex"]["1"].cells["1", "1"].scores.score.rows == 1


def test_groups_of_a_protected_attribute_follow_what_is_declared() -> None:
    profile = streams.profile(np.random.default_rng(1))
    by_name = {column.name: column for column in profile.columns}
    declared = Grouping.of(Column(name="colour", categories=(0.0, 1.0)), by_name["colour"])
    assert [declared.group(value) for value in (0.0, 1, 3.0)] == ["0", "1", OTHER]
    learned = Grouping.of(Column(name="colour"), by_name["colour"])
    assert learned.group(3.0) == "3" and learned.group(9.0) == OTHER
    quarters = Grouping.of(Column(name="a"), by_name["a"])
    assert quarters.group(-99.0).startswith("up to") and quarters.group(99.0).startswith("over")
    assert len({quarters.group(x) for x in np.linspace(-5, 5, 200)}) == 4


@pytest.mark.parametrize(
    ("output", "score", "task"),
    [
        (TensorSpec(name="label", datatype="INT64", shape=(-1,)), (-1, 2), "binary"),
        (TensorSpec(name="label", datatype="INT64", shape=(-1,)), (-1, 4), "classes"),
        (TensorSpec(name="label", datatype="FP32", shape=(-1, 1)), None, "regression"),
        (TensorSpec(name="label", datatype="BYTES", shape=(-1,)), None, "binary"),
    ],
)
def test_what_is_predicted_is_read_off_the_schema(output: TensorSpec, score: tuple[int, ...] | None, task: str) -> None:
    outputs = (output, TensorSpec(name="p", datatype="FP32", shape=score)) if score else (output,)
    schema = ModelSchema(inputs=(), outputs=outputs, prediction="label", score="p" if score else None)
    assert Meaning.of(schema, None).task == task


def test_what_an_error_costs_is_what_right_and_wrong_decisions_were_worth() -> None:
    tally = Tally()
    for prediction, label, times in (("1", "1", 3), ("0", "0", 1), ("1", "0", 1), ("0", "1", 1)):
        for _ in range(times):
            tally.add(Labelled(prediction, label))
    matrix = ValueMatrix(true_positive=10, false_positive=-4, false_negative=-2, true_negative=2)
    assert worth_of_being_right(tally, matrix, "1") == pytest.approx((3 * 10 + 2) / 4 - (-4 - 2) / 2)
    assert worth_of_being_right(Tally(), matrix, "1") is None
    tally = Tally()
    tally.add(Labelled("1", "1"))
    assert worth_of_being_right(tally, matrix, "1") is None, "nothing was wrong yet"
