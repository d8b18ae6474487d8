"""A slow model is asked no longer than the caller's budget allows: what is known by then is the answer."""

import asyncio

import numpy as np
import pytest

from contracts import Column, ModelSchema, TensorSpec
from services.scorer.explanations import counterfactual, usecases
from services.scorer.explanations.deadline import Deadline, OutOfTime
from services.scorer.explanations.domain import Array, Arrays, Focus, Row, focus_of
from services.scorer.explanations.shapley import Shares

RANDOM = np.random.default_rng(3)


def schema(columns: int) -> ModelSchema:
    return ModelSchema(
        inputs=(TensorSpec(name="X", datatype="FP64", shape=(-1, columns)),),
        outputs=(TensorSpec(name="label", datatype="INT64", shape=(-1,)),),
        columns=tuple(Column(name=f"c{n}") for n in range(columns)), prediction="label",
    )  # fmt: skip


class Slow:
    """A model that decides by the sum of all columns; each call takes a while from `quick` calls on."""

    def __init__(self, columns: int, call_s: float, quick: int = 0) -> None:
        self.rows = RANDOM.normal(size=(200, columns))
        self.row = np.full(columns, -2 / columns)
        self.calls, self.call_s, self.quick = 0, call_s, quick
        self.focus: Focus = focus_of(schema(columns), Row((), 0), self.said(self.row[None, :]), self.said(self.rows))

    def said(self, rows: Array) -> Arrays:
        return {"label": (rows.sum(axis=1) > 0).astype(int)}

    async def ask(self, rows: Array) -> Arrays:
        self.calls += 1
        if self.calls > self.quick:
            await asyncio.sleep(self.call_s)
        return self.said(rows)

    async def explained(self, deadline: Deadline) -> usecases.Found:
        return await usecases._found(self.row, self.rows, self.focus, deadline.bounded(self.ask), {}, deadline)

    async def turned(self, deadline: Deadline) -> tuple[counterfactual.Change, float | str] | str:
        shares = Shares(np.linspace(1, 2, len(self.row)), None)
        steps = counterfactual.Steps.of(self.rows, np.zeros(len(self.row), bool))
        return await usecases._counterfactual(
            self.row, self.rows, self.said(self.rows), steps, self.focus, deadline.bounded(self.ask),
            np.ones(len(self.row), bool), shares, deadline,
        )  # fmt: skip


async def test_a_counterfactual_that_time_does_not_do_for_is_the_best_so_far() -> None:
    whole, slow = Slow(50, 0), Slow(50, 0.1)
    best = await whole.turned(Deadline(30))
    assert whole.calls > 10 and not isinstance(best, str)
    found = await slow.turned(Deadline(0.45))
    assert slow.calls < whole.calls
    assert not isinstance(found, str)
    change, decides = found
    assert decides == 1 == slow.said(change.row[None, :])["label"][0]
    assert change.changed == tuple(np.flatnonzero(change.row != slow.row))
    assert len(change.changed) >= len(best[0].changed)


async def test_where_no_change_was_found_in_time_the_reason_says_so() -> None:
    said = await Slow(5, 60).turned(Deadline(0.05))
    assert said == "budget_s: 0.05 s were over before a change was found that turns the decision"


async def test_too_slow_for_all_subsets_is_sampled_and_leaves_time_for_the_counterfactual() -> None:
    assert (await Slow(4, 0).explained(Deadline(5))).method == "exact"
    deadline = Deadline(3)
    found = await Slow(9, 0.1).explained(deadline)
    assert found.method == "sampled" and found.shares.errors is not None
    assert deadline.left_s > 0


async def test_a_call_that_outlasts_the_time_ends_the_sampling_with_what_is_known() -> None:
    found = await Slow(20, 60, quick=6).explained(Deadline(1))
    assert found.method == "sampled"


async def test_a_model_too_slow_for_any_contribution_is_refused_by_the_name_of_the_budget() -> None:
    with pytest.raises(OutOfTime, match=r"budget_s: 0\.05 s were over"):
        await Slow(20, 60, quick=2).explained(Deadline(0.05))
