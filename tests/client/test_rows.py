"""Rows as people hold them become the tensors of the Open Inference Protocol."""

import numpy as np
import pyarrow as pa
import pytest

from fairlead import Invalid
from fairlead.rows import InputSpec, Signature, tensors

MATRIX = Signature((InputSpec("X", "FP32", (-1, 3)),), ("age", "sex", "wage"))
VECTORS = Signature((InputSpec("age", "FP32", (-1,)), InputSpec("job", "BYTES", (-1, 1))))


class Frame:
    """As much of a data frame as the client touches."""

    def __init__(self, **columns: list[float]) -> None:
        self.columns = list(columns)
        self._data = columns

    def __getitem__(self, name: str) -> list[float]:
        return self._data[name]


def test_dicts_are_put_into_the_order_of_the_schema_not_into_their_own() -> None:
    (tensor,) = tensors([{"wage": 3, "age": 1, "sex": 2}, {"age": 4, "sex": 5, "wage": 6}], MATRIX)
    assert tensor == {"name": "X", "datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]}


@pytest.mark.parametrize(
    "rows",
    [
        {"age": 1, "sex": 2, "wage": 3},
        [[1, 2, 3]],
        [1, 2, 3],
        Frame(sex=[2], wage=[3], age=[1]),
        pa.table({"sex": [2], "age": [1], "wage": [3]}),
        np.array([[1, 2, 3]]),
        np.array([1.0, 2.0, 3.0]),
    ],
)
def test_one_row_is_the_same_tensor_in_whatever_form_it_is_held(rows: object) -> None:
    (tensor,) = tensors(rows, MATRIX)
    assert tensor["shape"] == [1, 3]
    assert list(tensor["data"]) == [1, 2, 3]


def test_an_array_is_sent_in_the_datatype_of_the_endpoint() -> None:
    (tensor,) = tensors(np.array([[1, 2, 3]], dtype="int64"), MATRIX)
    assert tensor["data"].dtype == np.float32


def test_inputs_that_are_vectors_are_filled_by_name() -> None:
    age, job = tensors([{"job": "cook", "age": 30}, {"job": "poet", "age": 40}], VECTORS)
    assert age == {"name": "age", "datatype": "FP32", "shape": [2], "data": [30, 40]}
    assert job == {"name": "job", "datatype": "BYTES", "shape": [2, 1], "data": ["cook", "poet"]}


@pytest.mark.parametrize(
    ("rows", "field", "sentence"),
    [
        ({"age": 1, "sex": 2}, "wage", "missing"),
        ({"age": 1, "sex": 2, "wage": 3, "shoe": 4}, "shoe", "no such column"),
        ([{"age": 1, "sex": 2, "wage": 3}, {"age": 1, "sex": 2}], "rows[1].wage", "not in every row"),
        ([[1, 2]], "X", "3 columns, not 2"),
        ([[1, 2, 3], [1, 2]], "rows", "equally long"),
        (np.zeros((2, 4)), "X", "3 columns, not 4"),
        ([], "rows", "none"),
        ("age", "rows", "not str"),
        (7, "rows", "not int"),
    ],
)
def test_rows_that_do_not_fit_are_refused_before_they_are_sent(rows: object, field: str, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence.replace("[", r"\[")) as refused:
        tensors(rows, MATRIX)
    assert refused.value.field == field


def test_an_array_for_several_inputs_is_refused_with_their_names() -> None:
    with pytest.raises(Invalid, match="age, job"):
        tensors(np.zeros((2, 2)), VECTORS)
