"""What is expected of decisions without labels is what their labels then show, as long as rows keep their meaning."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sk

from contracts import Column, ModelSchema, Profile, TensorSpec
from services.kit.payloads import Payload
from services.kit.profiles import Binner, build_profile
from services.monitor.domain.outcomes.decided import Counts, Decided, Deciding, score_bins
from services.monitor.domain.outcomes.estimate import Estimate, Estimator, classes_for
from services.monitor.domain.outcomes.labelled import Labelled, Task
from services.monitor.domain.outcomes.learned import Learned, placed
from services.monitor.domain.outcomes.numbers import cuts_of
from services.monitor.domain.outcomes.performance import Statistic
from services.monitor.domain.outcomes.tally import FAR, FINE, score_bin
from services.monitor.domain.windows import Part
from services.monitor.usecases.summary import Inference, summary

from . import streams
from .counting import inference

Array = NDArray[Any]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def told(found: Estimate | None, name: str, of: str | None = None) -> Statistic:
    assert found
    return next(s for s in found.statistics if (s.name, s.of) == (name, of))


def holds(statistic: Statistic, truth: float) -> bool:
    assert statistic.interval is not None
    return statistic.interval[0] <= truth <= statistic.interval[1]


def counts_of(decisions: Array, scores: Array) -> Counts:
    """Of two classes, as the monitor counts them."""
    deciding = Deciding(0, ("0", "1", "other", "other"), np.zeros(0, np.int64), 2)
    return deciding.count(decisions.astype(np.int64), scores)


def learned_of(rows: Sequence[Labelled], task: Task, cuts: Sequence[float] = ()) -> Learned:
    learned = Learned()
    for row in rows:
        learned.add(placed(row, task, cuts))
    return learned


class Loans:
    """Two classes. `shift` moves the applicants, not what becomes of one who is like another."""

    def __init__(self, seed: int, overconfident: float = 1.0) -> None:
        self.random = np.random.default_rng(seed)
        self.overconfident = overconfident

    def rows(self, count: int, shift: float = 0.0) -> tuple[Array, Array, Array]:
        """Decisions, labels and scores of so many."""
        log_odds = self.random.normal(shift, 1.5, count)
        label = (self.random.random(count) < sigmoid(log_odds)).astype(int)
        score = sigmoid(log_odds * self.overconfident)
        return (score > 0.5).astype(int), label, score

    def lessons(self, count: int) -> Learned:
        """What labelled rows teach that are not those to estimate."""
        return learned_of([Labelled(str(d), str(t), float(s)) for d, t, s in zip(*self.rows(count), strict=True)],
                          "binary")  # fmt: skip


def measured(decision: Array, label: Array, score: Array) -> dict[tuple[str, str | None], float]:
    found: dict[tuple[str, str | None], float] = {
        ("accuracy", None): float(sk.accuracy_score(label, decision)),
        ("roc auc", None): float(sk.roc_auc_score(label, score)),
        ("brier", None): float(sk.brier_score_loss(label, score)),
    }
    for c in (0, 1):
        found["precision", str(c)] = float(sk.precision_score(label, decision, pos_label=c))
        found["recall", str(c)] = float(sk.recall_score(label, decision, pos_label=c))
        found["f1", str(c)] = float(sk.f1_score(label, decision, pos_label=c))
    return found


def test_scores_at_their_word_give_the_figures_of_the_plain_formula() -> None:
    decision, _, score = Loans(1).rows(20_000, shift=0.7)
    found = Estimator("binary", ["0", "1"], Learned()).of(counts_of(decision, score))
    assert found and not found.calibrated and found.rows == 20_000
    hits, alarms = score[decision == 1].sum(), (1 - score[decision == 1]).sum()
    misses, rejections = score[decision == 0].sum(), (1 - score[decision == 0]).sum()
    assert told(found, "accuracy").value == pytest.approx((hits + rejections) / 20_000, abs=5e-4)
    assert told(found, "precision", "1").value == pytest.approx(hits / (hits + alarms), abs=5e-4)
    assert told(found, "recall", "1").value == pytest.approx(hits / (hits + misses), abs=5e-4)
    assert told(found, "recall", "0").value == pytest.approx(rejections / (rejections + alarms), abs=5e-4)
    assert told(found, "f1", "1").value == pytest.approx(2 * hits / (2 * hits + alarms + misses), abs=5e-4)
    assert told(found, "f1", "0").value == pytest.approx(2 * rejections / (2 * rejections + alarms + misses), abs=5e-4)
    assert told(found, "brier").value == pytest.approx((score * (1 - score)).mean(), abs=5e-4)
    order = np.argsort(score)
    down = np.cumsum((1 - score)[order]) - (1 - score)[order] / 2
    expected = (score[order] @ down) / (score.sum() * (1 - score).sum())
    assert told(found, "roc auc").value == pytest.approx(expected, abs=5e-4)


def test_under_covariate_shift_the_labels_then_show_what_was_expected() -> None:
    wrong: list[tuple[int, str]] = []
    for seed in range(60):
        loans = Loans(seed)
        learned = loans.lessons(1_500)
        decision, label, score = loans.rows(3_000, shift=1.5)
        found = Estimator("binary", ["0", "1"], learned).of(counts_of(decision, score))
        assert found and found.calibrated and found.learned == 1_500
        wrong += [
            (seed, name) for (name, of), truth in measured(decision, label, score).items()
            if not holds(told(found, name, of), truth)
        ]  # fmt: skip
        low, high = told(found, "accuracy").interval or (0.0, 1.0)
        assert high - low < 0.12
        before = measured(*loans.rows(3_000))["recall", "0"]
        assert not holds(told(found, "recall", "0"), before), "it would hold whatever came"
    assert not wrong


def test_scores_that_say_too_much_are_believed_until_labels_come() -> None:
    loans = Loans(3, overconfident=2.0)
    decision, label, score = loans.rows(4_000, shift=0.8)
    truth = measured(decision, label, score)
    counts = counts_of(decision, score)
    believed = Estimator("binary", ["0", "1"], Learned()).of(counts)
    assert believed and not believed.calibrated
    assert not holds(told(believed, "accuracy"), truth["accuracy", None])
    assert not holds(told(believed, "brier"), truth["brier", None])
    widths: list[float] = []
    for labels in (100, 1_000, 10_000):
        corrected = Estimator("binary", ["0", "1"], loans.lessons(labels)).of(counts)
        assert corrected and corrected.calibrated
        assert all(holds(told(corrected, name, of), value) for (name, of), value in truth.items())
        low, high = told(corrected, "accuracy").interval or (0.0, 0.0)
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True), "more labels, less doubt"
    found = told(Estimator("binary", ["0", "1"], loans.lessons(10_000)).of(counts), "accuracy").value
    assert found == pytest.approx(truth["accuracy", None], abs=0.02)


def test_a_changed_meaning_of_the_rows_is_not_seen() -> None:
    """The stated limit: labels alone tell of concept drift."""
    loans = Loans(4)
    decision, label, score = loans.rows(4_000)
    turned = np.where(loans.random.random(4_000) < 0.3, 1 - label, label)
    found = Estimator("binary", ["0", "1"], loans.lessons(2_000)).of(counts_of(decision, score))
    assert holds(told(found, "accuracy"), measured(decision, label, score)["accuracy", None])
    assert not holds(told(found, "accuracy"), measured(decision, turned, score)["accuracy", None])


def test_of_several_classes_the_score_is_the_chance_that_the_decision_is_right() -> None:
    random = np.random.default_rng(5)

    def rows(count: int) -> tuple[Array, Array, Array]:
        score = random.uniform(0.4, 1.0, count)
        decision = random.integers(0, 3, count)
        return decision, np.where(random.random(count) < score**2, decision, (decision + 1) % 3), score

    learned = learned_of([Labelled(str(d), str(t), float(s)) for d, t, s in zip(*rows(3_000), strict=True)], "classes")
    decision, label, score = rows(5_000)
    deciding = Deciding(0, ("0", "1", "2", "other", "other"), np.zeros(0, np.int64), 3)
    counts = deciding.count(decision, score)
    found = Estimator("classes", ["0", "1", "2"], learned).of(counts)
    assert holds(told(found, "accuracy"), float((decision == label).mean()))
    for c in range(3):
        assert holds(told(found, "precision", str(c)), float((label[decision == c] == c).mean()))
    at_its_word = told(Estimator("classes", ["0", "1", "2"], Learned()).of(counts), "accuracy")
    assert at_its_word.value == pytest.approx(score.mean(), abs=1e-3)
    assert not holds(at_its_word, float((decision == label).mean()))


def _three(random: np.random.Generator, count: int, shift: float = 0.0) -> tuple[Array, Array, Array]:
    """Decisions among three classes, truths, and scores; `shift` moves the rows, not what becomes of like ones."""
    at = random.normal(shift, 1.5, count)
    odds = np.exp(np.column_stack([-at, 0.3 * np.ones(count), at]))
    chances = odds / odds.sum(axis=1, keepdims=True)
    truth = (random.random((count, 1)) > chances.cumsum(axis=1)).sum(axis=1)
    return chances.argmax(axis=1), truth, chances.max(axis=1)


def test_recall_and_f1_of_several_classes_follow_what_labelled_errors_were() -> None:
    deciding = Deciding(0, ("0", "1", "2", "other", "other"), np.zeros(0, np.int64), 3)
    names, held, widths = ["0", "1", "2"], 0, list[float]()
    for seed in range(40):
        random = np.random.default_rng(seed)
        taught = [Labelled(str(d), str(t), float(s)) for d, t, s in zip(*_three(random, 3_000), strict=True)]
        cells = Counter((str(row.prediction), str(row.label)) for row in taught)
        estimator = Estimator("classes", names, learned_of(taught, "classes"), cells)
        decision, truth, score = _three(random, 4_000, 0.3)
        found = estimator.of(deciding.count(decision.astype(np.int64), score))
        real = {
            "macro recall": sk.recall_score(truth, decision, average="macro"),
            "macro f1": sk.f1_score(truth, decision, average="macro"),
        }
        for name, value in real.items():
            figure = told(found, name)
            held += holds(figure, float(value))
            assert figure.value == pytest.approx(value, abs=0.06) and figure.interval
            widths.append(figure.interval[1] - figure.interval[0])
        for c in (0, 1, 2):
            hits, either = int(((decision == c) & (truth == c)).sum()), int((decision == c).sum() + (truth == c).sum())
            held += holds(told(found, "recall", str(c)), hits / int((truth == c).sum()))
            held += holds(told(found, "f1", str(c)), 2 * hits / either)
    assert held >= 0.99 * 40 * 8 and max(widths) < 0.25, (held, max(widths))


def test_recall_of_several_classes_is_not_told_before_errors_have_labels() -> None:
    deciding = Deciding(0, ("0", "1", "2", "other", "other"), np.zeros(0, np.int64), 3)
    decision, _, score = _three(np.random.default_rng(1), 2_000)
    found = Estimator("classes", ["0", "1", "2"], Learned(), {("0", "1"): 29, ("1", "1"): 900}).of(
        deciding.count(decision.astype(np.int64), score)
    )
    assert told(found, "macro recall").why == "fewer than 30 labelled wrong decisions"
    assert told(found, "macro recall").value is None


# Numbers


def prices(random: np.random.Generator, count: int, middle: float) -> tuple[Array, Array]:
    """Predictions and truths: the dearer a house, the larger the error."""
    prediction = random.normal(middle, 60.0, count)
    return prediction, prediction + random.normal(size=count) * (5.0 + 0.1 * np.abs(prediction - 100.0))


def number_profile(random: np.random.Generator) -> Profile:
    schema = ModelSchema(
        inputs=(TensorSpec(name="X", datatype="FP32", shape=(-1, 1)),),
        outputs=(TensorSpec(name="price", datatype="FP64", shape=(-1,)),),
        columns=(Column(name="a"),), prediction="price",
    )  # fmt: skip
    prediction, _ = prices(random, 4_000, 200.0)
    return build_profile(pa.table({"a": random.normal(size=4_000), "price": prediction}), schema)


@pytest.mark.parametrize("seed", range(20))
def test_errors_of_predicted_numbers_follow_the_mix_of_the_predictions(seed: int) -> None:
    random = np.random.default_rng(seed)
    profile = number_profile(random)
    cuts, deciding = cuts_of(profile), Deciding.of(profile)
    assert deciding and 20 <= len(cuts) <= 23
    guessed, true = prices(random, 2_000, 200.0)
    learned = learned_of([Labelled(float(p), float(t)) for p, t in zip(guessed, true, strict=True)], "regression", cuts)
    prediction, truth = prices(random, 3_000, 240.0)
    bins = Binner(profile).bin({"price": prediction}, len(prediction))
    counts = deciding.count(bins[:, deciding.place], None)
    groups, rows = np.unique(np.searchsorted(np.array(cuts), prediction, side="left"), return_counts=True)
    assert counts == {"": dict(zip(groups.tolist(), rows.tolist(), strict=True))}
    found = Estimator("regression", [], learned).of(counts)
    size = np.abs(prediction - truth)
    assert found and found.calibrated
    assert holds(told(found, "mae"), float(size.mean()))
    assert holds(told(found, "rmse"), float(np.sqrt((size**2).mean())))
    assert not holds(told(found, "mae"), float(np.abs(guessed - true).mean())), "it would hold whatever came"


def test_errors_of_predicted_numbers_are_not_told_before_labels_come() -> None:
    nothing = Estimator("regression", [], Learned()).of({"": {3: 100}})
    assert nothing and not nothing.calibrated
    assert told(nothing, "mae").value is None and told(nothing, "mae").why == "fewer than 30 labelled rows"


# Counts


def test_bins_of_many_scores_are_those_of_each() -> None:
    scores = np.concatenate([np.random.default_rng(1).random(2_000), [0.0, 1.0, 0.5, 1e-9]])
    assert (score_bins(scores) - FAR * FINE).tolist() == [score_bin(float(score)) for score in scores]


@st.composite
def labelled(draw: st.DrawFn) -> Labelled:
    if draw(st.booleans()):
        return Labelled(draw(st.floats(-1e6, 1e6)), draw(st.none() | st.floats(-1e6, 1e6)))
    classes = st.sampled_from(["0", "1", "2"])
    return Labelled(draw(classes), draw(st.none() | classes), draw(st.none() | st.floats(0, 1)))


@given(st.lists(labelled(), max_size=30), st.lists(labelled(), max_size=10), st.randoms())
@settings(deadline=None, max_examples=100)
def test_what_labels_taught_merges_and_is_taken_back_exactly(
    kept: list[Labelled], revised: list[Labelled], random: Any
) -> None:
    def taught(rows: Sequence[Labelled]) -> Learned:
        return learned_of(rows, "binary", [0.0, 10.0])

    cut = random.randint(0, len(kept))
    learned = taught([*kept[:cut], *revised])
    learned.merge(Learned.from_json(taught(kept[cut:]).to_json()))
    for row in random.sample(revised, len(revised)):
        learned.add(Labelled.from_json(placed(row, "binary", [0.0, 10.0]).to_json()), -1)
    assert learned.to_json() == taught(kept).to_json()


def members(rows: np.ndarray, scores: Sequence[float | None], size: int) -> list[Inference]:
    made: list[Inference] = []
    for start in range(0, len(rows), size):
        some, said = rows[start : start + size], scores[start : start + size]
        request = {"inputs": [{"name": "X", "shape": [len(some), 5], "data": some[:, :5].ravel().tolist()}]}
        response = {"outputs": [
            {"name": "label", "data": some[:, 5].astype(int).tolist()},
            {"name": "probabilities", "shape": [len(some), 2], "data": [x for s in said for x in (0.5, s)]},
        ]}  # fmt: skip
        variant = "champion" if start % 3 else "challenger"
        made.append(inference(Payload(len(some), request, response), float(start), 1.0, variant))
    return made


def test_windows_count_decisions_by_variant_and_score_however_the_rows_are_split() -> None:
    one = streams.watched(np.random.default_rng(7))
    random = np.random.default_rng(8)
    rows, scores = streams.World(random).rows(90), random.random(90).tolist()
    given = members(rows, scores, 10)
    whole, unfit = summary(one, given, 100, 8)
    assert not unfit
    parts = [summary(one, given[at : at + 3], 100, 8)[0] for at in range(0, len(given), 3)]
    merged = Part.from_bytes(parts[0].to_bytes())
    for part in reversed(parts[1:]):
        merged = merged.merge(Part.from_bytes(part.to_bytes()))
    assert sorted_(merged.decided) == sorted_(whole.decided)
    expected: dict[str, dict[str, dict[int, int]]] = {}
    for place, (row, score) in enumerate(zip(rows, scores, strict=True)):
        variant = "champion" if place // 10 * 10 % 3 else "challenger"
        bins = expected.setdefault(variant, {}).setdefault(str(int(row[5])), {})
        bins[score_bin(score)] = bins.get(score_bin(score), 0) + 1
    assert whole.decided.variants == expected


def sorted_(decided: Decided) -> Any:
    return {v: {n: sorted(b.items()) for n, b in counts.items()} for v, counts in decided.variants.items()}


def test_rows_without_a_share_for_a_score_are_not_estimated_from() -> None:
    deciding = Deciding(0, ("0", "1", "other", "other"), np.zeros(0, np.int64), 2)
    decisions = np.array([0, 1, 1, 2, 3])
    assert deciding.count(decisions, None) == {}
    counts = deciding.count(decisions, np.array([0.5, np.nan, 1.5, 0.5, 0.5]))
    assert counts == {"0": {0: 1}, "other": {0: 1}}
    assert Estimator("binary", ["0", "1"], Learned()).of({}) is None
    few = Estimator("binary", ["0", "1"], Learned()).of(counts)
    assert told(few, "accuracy").why == "fewer than 30 rows"


def test_the_classes_are_those_of_the_baseline_or_of_the_labels() -> None:
    taught = learned_of([Labelled("good", "bad", 0.5)], "binary")
    assert classes_for(["0", "1"], taught) == ["0", "1"]
    assert classes_for(["good"], taught) == ["bad", "good"]
    assert classes_for(["1"], Learned()) == ["0", "1"]


def test_a_row_that_was_counted_before_estimates_teaches_nothing_and_takes_nothing_back() -> None:
    old = Labelled.from_json({k: v for k, v in Labelled("0", "1", 0.5).to_json().items() if k != "b"})
    learned = Learned()
    learned.add(old, -1)
    assert learned.to_json() == Learned().to_json()
    assert replace(old, learned=None) == old
