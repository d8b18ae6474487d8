"""What code answers reaches the caller as it was meant, or not at all."""

from typing import Any

import numpy as np
import pytest

from contracts import Datatype, TensorSpec
from services.scorer.runtimes.errors import ModelFailed
from services.scorer.runtimes.fitted import fitted


def fit(values: Any, datatype: Datatype = "INT64", shape: tuple[int, ...] = (-1,)) -> list[Any]:
    answer = np.asarray(values)
    return fitted({"y": answer}, TensorSpec(name="y", datatype=datatype, shape=shape), len(answer)).tolist()


def test_what_loses_nothing_is_taken() -> None:
    assert fit([1.0, 2.0]) == [1, 2]
    assert fit([True, False]) == [1, 0]
    assert fit([1, 0], "BOOL") == [True, False]
    assert fit([1, 2], "FP64") == [1.0, 2.0]
    assert fit([0.1], "FP32") == [np.float32(0.1)]
    assert fit(np.array([2**63], np.uint64), "UINT64") == [2**63]
    assert fit([-(2.0**63)]) == [-(2**63)]
    assert fit(["a", "b"], "BYTES") == ["a", "b"]
    assert np.isnan(fit([np.nan, np.inf], "FP32")[0])


def test_a_vector_and_one_column_are_the_same() -> None:
    assert fit([[1], [2]]) == [1, 2]
    assert fit([1, 2], shape=(-1, 1)) == [[1], [2]]


@pytest.mark.parametrize(
    ("values", "datatype"),
    [
        ([0.9], "INT64"), ([np.nan], "INT64"), ([1e30], "INT64"), ([2.0**63], "INT64"), ([2.0**64], "UINT64"),
        (np.array([2**63], np.uint64), "INT64"), ([-1], "UINT8"), ([300], "INT8"), ([2], "BOOL"), ([1e300], "FP32"),
        (["7"], "INT64"), (["7"], "FP64"), ([7], "BYTES"), ([1 + 2j], "FP64"),
    ],
)  # fmt: skip
def test_what_would_have_to_change_is_refused_by_name(values: Any, datatype: Datatype) -> None:
    with pytest.raises(ModelFailed, match=f"y.*{datatype}|{datatype}.*y"):
        fit(values, datatype)


@pytest.mark.parametrize("shape", [(2, 2), (2, 0), (2, 3, 3)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelFailed, match=r"y in shape"):
        fit(np.zeros(shape))
    with pytest.raises(ModelFailed, match="every row"):
        fitted({"y": np.zeros(3)}, TensorSpec(name="y", datatype="FP64", shape=(-1,)), 2)
    with pytest.raises(ModelFailed, match="every row"):
        fitted({}, TensorSpec(name="y", datatype="FP64", shape=(-1,)), 2)
