"""Whether a model became worse: rarely said where nothing changed, soon where it did, and with what it was before."""

from math import log

import numpy as np
import pytest

from services.monitor.domain.outcomes.labelled import Labelled
from services.monitor.domain.outcomes.loss import LossBlock, LossFinding, LossWatch, blocks_of, loss_of

BUDGET = 5_000_000
"""What an endpoint with a budget of a million rows leaves to its performance."""


def watched(
    losses: np.ndarray, budget: int = BUDGET, *, expected: float | None = None, block: int = 25
) -> tuple[LossFinding | None, int]:
    """What was found first, and after how many rows."""
    watch = LossWatch("binary")
    for at in range(0, len(losses), block):
        wrong = int(losses[at : at + block].sum())
        watch = watch.observe(LossBlock(float(at), {0: block - wrong, 1: wrong}), log(budget), expected)
        watch, finding = LossWatch.from_json(watch.to_json()).judge(0.1, expected)
        if finding:
            return finding, at + block
    return None, len(losses)


def stream(random: np.random.Generator, *parts: tuple[float, int]) -> np.ndarray:
    return np.concatenate([random.random(rows) < rate for rate, rows in parts]).astype(int)


@pytest.mark.parametrize("before", [2_000, 5_000])
def test_an_error_rate_that_rises_from_15_to_25_percent_is_found_within_few_hundred_labels(before: int) -> None:
    delays: list[int] = []
    for seed in range(12):
        finding, at = watched(stream(np.random.default_rng(seed), (0.15, before), (0.25, 3_000)))
        assert finding and finding.kind == "alarm"
        assert finding.effect.before == pytest.approx(0.15, abs=0.05)
        assert finding.effect.now.low < 0.25 < finding.effect.now.high
        delays.append(at - before)
    assert min(delays) > 0 and sorted(delays)[6] <= 500 and max(delays) <= 1_200


def test_more_errors_than_were_accepted_are_found_though_it_was_never_better() -> None:
    delays = [watched(stream(np.random.default_rng(s), (0.25, 3_000)), expected=0.15)[1] for s in range(12)]
    assert sorted(delays)[6] <= 500


@pytest.mark.parametrize(("rate", "expected"), [(0.02, None), (0.15, None), (0.4, None), (0.15, 0.15)])
def test_false_evidence_is_no_more_frequent_than_the_budget(rate: float, expected: float | None) -> None:
    random, budget, rows, passed = np.random.default_rng(int(rate * 100)), 4_000, 80_000, 0
    watch = LossWatch("binary")
    for at in range(0, rows, 20):
        wrong = int(random.binomial(20, rate))
        watch = watch.observe(LossBlock(float(at), {0: 20 - wrong, 1: wrong}), log(budget), expected)
        if watch.phase != "watching":
            passed, watch = passed + 1, LossWatch("binary")
    assert passed <= rows / budget


def test_a_model_that_became_better_is_no_alarm() -> None:
    assert watched(stream(np.random.default_rng(3), (0.3, 2_000), (0.1, 4_000)))[0] is None


def test_larger_errors_of_numbers_are_found_whatever_their_scale() -> None:
    random = np.random.default_rng(4)
    errors = np.concatenate([random.normal(0, 3e4, 3_000), random.normal(0, 6e4, 3_000)])
    losses = [loss_of(Labelled(float(e), 0.0)) for e in errors]
    known = [(float(at), loss) for at, loss in enumerate(losses) if loss is not None]
    watch, found = LossWatch("regression"), None
    for block in blocks_of(known):
        watch = watch.observe(block, log(BUDGET), None)
        watch, found = watch.judge(0.1, None)
        if found:
            break
    assert found and found.kind == "alarm" and 2_800 < found.since_s < 3_300
    assert found.effect.before == pytest.approx(3e4 * (2 / np.pi) ** 0.5, rel=0.1)
    assert watch.rows + sum(watch.recent.values()) < 3_600
    calm = watch.accepted()
    assert calm.phase == "watching" and calm.rows == sum(watch.recent.values())


def test_a_change_after_too_few_labels_to_call_a_normal_keeps_nobody_from_watching_on() -> None:
    random = np.random.default_rng(1)
    losses = stream(random, (0.0, 20), (0.5, 3_000), (0.9, 3_000))
    finding, at = watched(losses, block=1)
    assert finding and finding.kind == "alarm" and 3_020 < at < 3_500
    assert finding.effect.before == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    "before", [loss_of(Labelled(1.0, 1.0)), loss_of(Labelled(2.0, 1.0))], ids=["none", "all alike"]
)
def test_errors_of_a_model_that_made_none_or_always_the_same_are_found(before: int) -> None:
    watch, after = LossWatch("regression"), loss_of(Labelled(101.0, 1.0))
    assert after is not None
    for at in range(20):
        watch = watch.observe(LossBlock(float(at), {before: 50}), log(BUDGET), None)
    watch = watch.observe(LossBlock(20.0, {after: 50}), log(BUDGET), None)
    watch, found = watch.judge(0.1, None)
    assert found and found.kind == "alarm" and watch.phase == "alarmed"
    assert found.effect.now.value == pytest.approx(100, rel=0.1)
