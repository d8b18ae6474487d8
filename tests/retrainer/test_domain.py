"""What decides a retraining: the split, the comparison, the verdict."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.retrainer.domain import (
    Answers,
    Comparison,
    Incomparable,
    compare,
    held_out,
    judge,
    measure,
    reproduced,
    too_few,
)

ids = st.lists(st.uuids().map(str), min_size=1, max_size=300, unique=True)


def _compare(
    labels: np.ndarray, champion: np.ndarray, candidate: np.ndarray, *, regression: bool = False
) -> Comparison:
    return compare(
        labels, Answers(champion), Answers(candidate), regression=regression, confidence=0.95, seed="a seed"
    )  # fmt: skip


def _classes(rows: int, accuracy: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, rows).astype(float)
    return labels, np.where(random.random(rows) < accuracy, labels, 1 - labels)


@given(ids=ids, seed=st.text(), data=st.data())
def test_a_row_falls_on_the_same_side_whatever_comes_before_it(ids: list[str], seed: str, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(ids))))
    straight, mixed = held_out(ids, seed, 0.25), held_out([ids[n] for n in order], seed, 0.25)
    np.testing.assert_array_equal(straight[order], mixed)


@given(numbers=st.integers(0, 10_000), seed=st.text())
def test_rows_of_one_inference_stay_together(numbers: int, seed: str) -> None:
    ids = [str(n) for n in np.random.default_rng(numbers).integers(0, 200, 1000)]
    sides: dict[str, bool] = {}
    for id, held in zip(ids, held_out(ids, seed, 0.5).tolist(), strict=True):
        assert sides.setdefault(id, held) == held


@given(seed=st.text())
def test_one_large_inference_is_split_all_the_same(seed: str) -> None:
    share = held_out(["one"] * 4000, seed, 0.25).mean()
    assert 0.2 < share < 0.3


@given(seed=st.text(min_size=1), other=st.text(min_size=1))
def test_another_seed_is_another_split(seed: str, other: str) -> None:
    assume(seed != other)
    ids = [str(n) for n in range(1000)]
    assert (held_out(ids, seed, 0.5) != held_out(ids, other, 0.5)).any()


@given(rows=st.integers(1, 500), accuracy=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_model_against_itself_gains_nothing(rows: int, accuracy: float, seed: int) -> None:
    labels, said = _classes(rows, accuracy, seed)
    compared = compare(labels, Answers(said), Answers(said), regression=False, confidence=0.95, seed="s")
    assert (compared.gain, compared.low, compared.high) == (0, 0, 0)
    assert judge(compared).outcome == "champion_kept"


@given(seed=st.integers(0, 10_000), regression=st.booleans())
def test_swapping_the_models_turns_the_gain_around(seed: int, regression: bool) -> None:
    random = np.random.default_rng(seed)
    labels, one, two = random.integers(0, 3, (3, 200)).astype(float)
    there = compare(labels, Answers(one), Answers(two), regression=regression, confidence=0.9, seed="s")
    back = compare(labels, Answers(two), Answers(one), regression=regression, confidence=0.9, seed="s")
    assert there.gain == pytest.approx(-back.gain)
    assert there.champion == back.candidate
    assert there.low <= there.gain <= there.high


@given(seed=st.integers(0, 10_000))
def test_the_reason_does_not_depend_on_when_it_is_asked(seed: int) -> None:
    labels, said = _classes(300, 0.7, seed)
    other = np.roll(said, 1)
    assert _compare(labels, said, other) == _compare(labels, said, other)


def test_a_clearly_better_candidate_wins_and_the_reason_states_the_interval() -> None:
    labels, champion = _classes(1000, 0.7, 1)
    verdict = judge(_compare(labels, champion, labels))
    assert verdict.outcome == "candidate_won"
    assert "accuracy 1.0000 against 0.68" in verdict.reason
    assert "95% interval +0." in verdict.reason


def test_a_gain_within_chance_keeps_the_champion() -> None:
    labels, champion = _classes(200, 0.7, 2)
    candidate = champion.copy()
    wrong = np.flatnonzero(champion != labels)
    candidate[wrong[0]] = labels[wrong[0]]  # one row better, of 200
    compared = _compare(labels, champion, candidate)
    assert compared.gain > 0
    assert judge(compared).outcome == "champion_kept"


def test_the_error_rate_is_kept() -> None:
    """Of equal models, about one in forty candidates wins by chance (half of what the interval leaves out)."""
    random, wins = np.random.default_rng(5), 0
    labels = random.integers(0, 2, 400).astype(float)
    for _ in range(400):
        one, two = (np.where(random.random(400) < 0.8, labels, 1 - labels) for _ in range(2))
        wins += judge(_compare(labels, one, two)).outcome == "candidate_won"
    assert 1 <= wins <= 22


def test_a_label_of_an_outcome_is_the_class_of_a_model() -> None:
    assert measure(np.array([1.0, 0.0]), Answers(np.array(["1", "0"])), regression=False)["accuracy"] == 1.0
    assert measure(np.array(["yes", "no"]), Answers(np.array(["yes", "yes"])), regression=False)["accuracy"] == 0.5


def test_probabilities_are_judged_by_the_brier_score() -> None:
    random = np.random.default_rng(3)
    truth = random.random(600)
    labels = (random.random(600) < truth).astype(float)
    classes = (truth > 0.5).astype(float)
    honest, sure = np.column_stack([1 - truth, truth]), np.column_stack([1 - classes, classes])
    compared = compare(
        labels, Answers(classes, sure), Answers(classes, honest), regression=False, confidence=0.95, seed="s"
    )
    assert compared.candidate["accuracy"] == compared.champion["accuracy"]
    assert compared.candidate["brier_score"] == pytest.approx(((truth - labels) ** 2).mean(), abs=1e-4)
    assert judge(compared).outcome == "candidate_won"
    assert "brier score" in judge(compared).reason


@pytest.mark.parametrize(
    "scores", [[[0.2, 0.9]], [[np.nan, 1.0]], [[-0.5, 1.5]], [[0.5, 0.2, 0.3], [0, 0, 1]], [[1.0]]]
)
def test_what_are_no_probabilities_of_these_classes_do_not_judge(scores: list[list[float]]) -> None:
    measured = measure(np.array([1.0]), Answers(np.array([1.0]), np.array(scores)), regression=False)
    assert measured == {"accuracy": 1.0}


def test_numbers_are_judged_by_their_distance() -> None:
    measured = measure(np.array([1.0, 2.0]), Answers(np.array([2.0, 2.0])), regression=True)
    assert measured == {"mean_absolute_error": 0.5, "root_mean_squared_error": 0.7071}
    labels = np.linspace(0, 1, 500)
    assert judge(_compare(labels, labels + 0.5, labels + 0.1, regression=True)).outcome == "candidate_won"


@given(seed=st.integers(0, 1000), rows=st.integers(2, 60))
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    labels, score = random.integers(0, 2, rows).astype(float), random.integers(0, 5, rows) / 4
    ones, zeros = score[labels == 1], score[labels == 0]
    assume(len(ones) and len(zeros))
    pairs = (ones[:, None] > zeros).mean() + (ones[:, None] == zeros).mean() / 2
    scores = np.column_stack([1 - score, score])
    measured = measure(labels, Answers(labels, scores), regression=False)
    assert measured["roc_auc"] == pytest.approx(pairs, abs=1e-4)


@pytest.mark.parametrize(
    ("labels", "said", "regression"),
    [
        ([1.0, 2.0], [1.0], False),
        ([], [], False),
        ([1.0], [np.nan], True),
        ([1.0], ["text"], True),
    ],
)
def test_answers_that_are_none_are_refused(labels: list[float], said: list[float], regression: bool) -> None:
    with pytest.raises(Incomparable):
        measure(np.array(labels), Answers(np.array(said)), regression=regression)


@given(labelled=st.integers(0, 1000), more=st.integers(0, 1000), needed=st.integers(1, 1000))
def test_too_few_rows_are_told_with_their_numbers(labelled: int, more: int, needed: int) -> None:
    refused = too_few(labelled, labelled + more, needed)
    assert (refused is None) == (labelled >= needed)
    if refused:
        assert f"{labelled} labelled rows (of {labelled + more} recorded)" in refused
        assert f"needs {needed}" in refused


def test_a_reproduction_says_whether_every_byte_is_the_same() -> None:
    same, other = {"registered": "a", "reproduced": "a"}, {"registered": "a", "reproduced": "b"}
    assert reproduced({"model.onnx": same}, {}, {}).state == "identical"
    different = reproduced({"model.onnx": other, "training.parquet": same}, {"accuracy": 0.8}, {"accuracy": 0.7})
    assert different.state == "different"
    assert "byte-identical artifact was not reached: model.onnx differ" in different.reason
    assert "accuracy 0.8 and are accuracy 0.7" in different.reason
