"""Which number of an answer is explained, and whether a structure says the same as its model."""

import numpy as np
import pytest

from contracts import ModelSchema, TensorSpec
from services.scorer.explanations import domain
from services.scorer.explanations.domain import Arrays, Focus, Row, fits, focus_of


def schema(datatype: str = "INT64", score: str | None = "p", classes: int = 2) -> ModelSchema:
    outputs = [TensorSpec.model_validate({"name": "y", "datatype": datatype, "shape": (-1,)})]
    if score:
        outputs.append(TensorSpec(name=score, datatype="FP32", shape=(-1, classes)))
    spec = TensorSpec(name="x", datatype="FP32", shape=(-1, 1))
    return ModelSchema(inputs=(spec,), outputs=tuple(outputs), prediction="y", score=score)


def answer(decided: list[object], seconds: list[float]) -> Arrays:
    p = np.array(seconds)
    return {"y": np.array(decided), "p": np.column_stack([1 - p, p])}


@pytest.mark.parametrize("names", [(0, 1), (b"good", b"bad"), (b"a", b"b")])
def test_a_model_with_a_threshold_of_its_own_is_explained_by_the_class_that_it_decided(
    names: tuple[object, ...],
) -> None:
    no, yes = names
    datatype = "BYTES" if isinstance(yes, bytes) else "INT64"
    others = answer([no, yes, yes, no], [0.1, 0.4, 0.9, 0.2])
    told = yes.decode() if isinstance(yes, bytes) else yes
    focus = focus_of(schema(datatype), Row((0.0,), told), answer([yes], [0.35]), others)  # pyright: ignore
    assert (focus.output, domain.output_of(focus.schema, focus)) == (1, "p[1]")


def test_where_all_reference_rows_are_decided_alike_a_number_is_the_class_else_the_highest_score_is() -> None:
    alike = answer([1, 1], [0.5, 0.6])
    assert focus_of(schema(), Row((0.0,), 1), answer([1], [0.35]), alike).output == 1
    named = answer([b"b", b"b"], [0.5, 0.6])
    assert focus_of(schema("BYTES"), Row((0.0,), "b"), answer([b"b"], [0.8]), named).output == 1


def test_a_structure_that_agrees_with_its_model_on_one_row_alone_does_not_fit() -> None:
    focus = Focus(schema("FP64", None), 1.0, 0)
    values = np.array([1.0, 2.0, 3.0])
    assert fits(values[:, None], 0, focus, "value", values)
    assert not fits(np.array([[1.0], [5.0], [3.0]]), 0, focus, "value", values)
    two = Focus(schema(), 0, 0)
    odds = np.array([[0.0], [1.0]])
    assert fits(odds, 0, two, "log-odds", 1 - 1 / (1 + np.exp(-odds[:, 0])))
    assert not fits(odds, 0, two, "log-odds", 1 / (1 + np.exp(-odds[:, 0])))
