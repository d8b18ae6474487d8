"""How far the truth moved from that of the training rows."""

from typing import Literal

import numpy as np
import pyarrow as pa
import pytest

from contracts import Column, ColumnProfile, ModelSchema, TensorSpec
from services.kit.profiles import build_profile
from services.monitor.domain.outcomes.labelled import Labelled, Task
from services.monitor.domain.outcomes.labels import label_shift
from services.monitor.domain.outcomes.tally import Tally

RANDOM = np.random.default_rng(3)


def truth(values: list[float] | list[str], datatype: Literal["INT64", "FP64", "BYTES"] = "INT64") -> ColumnProfile:
    """The profile's labels of training rows."""
    schema = ModelSchema(
        inputs=(TensorSpec(name="X", datatype="FP32", shape=(-1, 1)),),
        outputs=(TensorSpec(name="label", datatype=datatype, shape=(-1,)),),
        columns=(Column(name="a"),), prediction="label",
    )  # fmt: skip
    table = pa.table({"a": RANDOM.normal(size=len(values)), "truth": values})
    found = build_profile(table, schema, label="truth").label
    assert found is not None
    return found


def tally(labels: list[str] | list[float]) -> Tally:
    found = Tally()
    for label in labels:
        found.add(Labelled(label, label, None, None))
    return found


@pytest.mark.parametrize("values", [[0.0, 1.0], [0, 1]])
def test_classes_are_compared_by_name_however_they_are_written(values: list[float]) -> None:
    before = truth(RANDOM.choice(values, size=4_000, p=[0.7, 0.3]).tolist())
    same = label_shift(tally(RANDOM.choice(["0", "1"], size=2_000, p=[0.7, 0.3]).tolist()), "binary", before)
    assert same.value is not None and same.interval and same.value < 0.02 and same.interval[0] == 0.0
    moved = label_shift(tally(RANDOM.choice(["0", "1"], size=2_000, p=[0.4, 0.6]).tolist()), "binary", before)
    exact = 0.3 * np.log(0.7 / 0.4) + 0.3 * np.log(0.6 / 0.3)
    assert moved.value == pytest.approx(exact, abs=0.06)
    assert moved.interval and 0.1 < moved.interval[0] < exact < moved.interval[1] and moved.rows == 2_000


def test_a_class_that_the_training_rows_do_not_have_is_a_shift() -> None:
    before = truth(RANDOM.choice(["calm", "wild"], size=4_000).tolist(), "BYTES")
    moved = label_shift(tally(["calm"] * 400 + ["wild"] * 400 + ["new"] * 400), "classes", before)
    assert moved.value is not None and moved.interval and moved.value > 1 and moved.interval[0] > 0.5


def test_numbers_move_by_standard_deviations_of_the_training_rows() -> None:
    before = truth(RANDOM.normal(100.0, 20.0, size=5_000).tolist(), "FP64")
    moved = label_shift(tally(RANDOM.normal(110.0, 20.0, size=3_000).tolist()), "regression", before)
    assert moved.value == pytest.approx(0.5, abs=0.08)
    assert moved.interval and 0.3 < moved.interval[0] < 0.5 < moved.interval[1] < 0.7


@pytest.mark.parametrize(
    ("task", "labels", "before", "why"),
    [
        ("binary", ["0"] * 50, None, "the baseline has no labels"),
        ("binary", ["0"] * 29, [0.0, 1.0] * 100, "fewer than 30 rows"),
        ("binary", ["0"] * 50, "numbers", "the baseline's labels are numbers"),
        ("regression", [1.0] * 50, [0.0, 1.0] * 100, "the baseline's labels are no numbers that vary"),
        ("regression", [1.0] * 20, "numbers", "fewer than 30 rows"),
    ],
)
def test_where_nothing_can_be_told_it_says_why(
    task: Task, labels: list[str] | list[float], before: list[float] | str | None, why: str
) -> None:
    profile = None
    if before is not None:
        drawn = RANDOM.normal(size=400).tolist() if before == "numbers" else list(before)
        profile = truth(drawn, "FP64" if before == "numbers" else "INT64")  # pyright: ignore[reportArgumentType]
    found = label_shift(tally(labels), task, profile)
    assert (found.value, found.interval, found.why) == (None, None, why)
