"""A matrix whose columns are named holds what was said of them, in its own datatype, whichever way they come."""

import io
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts import Column, Datatype, ModelSchema, TensorSpec
from services.kit.errors import Invalid
from services.scorer import mlflow
from services.scorer.batches import scoring
from services.scorer.batches.sheet import Sheet, columns_of, needed
from services.scorer.tokenise import Tokeniser
from services.scorer.v2 import NUMPY, BadInput, Codec

TOKENS = Tokeniser(b"k" * 32)


def schema_of(datatype: Datatype, **more: Any) -> ModelSchema:
    return ModelSchema(
        inputs=(TensorSpec(name="X", datatype=datatype, shape=(-1, 2)),),
        outputs=(TensorSpec(name="y", datatype="FP32", shape=(-1,)),),
        columns=(Column(name="a", **more), Column(name="b")), prediction="y",
    )  # fmt: skip


def codec(schema: ModelSchema) -> Codec:
    return Codec(schema, "credit", "3", "champion", TOKENS.token)


def named(schema: ModelSchema, datatype: str, *columns: Sequence[Any]) -> np.ndarray:
    tensors = [
        {"name": name, "datatype": datatype, "shape": [len(values)], "data": values}
        for name, values in zip("ab", columns, strict=True)
    ]
    return codec(schema).decode(orjson.dumps({"inputs": tensors})).arrays["X"]


def records(schema: ModelSchema, *rows: Sequence[Any]) -> np.ndarray:
    body = orjson.dumps({"dataframe_records": [dict(zip("ab", row, strict=True)) for row in rows]})
    return mlflow.decode(body, "mlflow", codec(schema), schema).arrays["X"]


def comma_separated(schema: ModelSchema, *rows: Sequence[Any]) -> np.ndarray:
    lines = ["a,b", *(",".join(map(str, row)) for row in rows)]
    return mlflow.decode("\n".join(lines).encode(), "mlflow-csv", codec(schema), schema).arrays["X"]


def batch(schema: ModelSchema, **columns: Sequence[Any]) -> np.ndarray:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    sheet = Sheet(io.BytesIO(out.getvalue()))  # pyright: ignore[reportArgumentType]
    sheet.check(schema)
    ((_, chunk),) = sheet.batches(schema, 10)
    return scoring.arrays(columns_of(chunk, needed(schema), 0), schema, codec(schema))["X"]


LARGE = {"INT64": (2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)), "UINT64": (2**53 + 1, 2**63, 2**64 - 1, 0)}


@pytest.mark.parametrize("datatype", ["INT64", "UINT64"])
def test_large_whole_numbers_are_those_that_were_said(datatype: Datatype) -> None:
    schema, values = schema_of(datatype), LARGE[datatype]
    wanted = [[value, 1] for value in values]
    for told in (
        named(schema, datatype, values, [1] * 4), records(schema, *wanted), comma_separated(schema, *wanted),
    ):  # fmt: skip
        assert (told.dtype, told.tolist()) == (NUMPY[datatype], wanted)
    raws = [np.array(column, NUMPY[datatype]).tobytes() for column in (values, [1] * 4)]
    tensors = [
        {"name": name, "datatype": datatype, "shape": [4], "parameters": {"binary_data_size": 32}} for name in "ab"
    ]
    head = orjson.dumps({"inputs": tensors})
    assert codec(schema).decode(head + b"".join(raws), len(head)).arrays["X"].tolist() == wanted


@pytest.mark.parametrize(
    ("datatype", "stated", "value"),
    [
        ("INT64", "UINT64", 2**63), ("UINT64", "INT64", -1), ("INT8", "INT16", 128), ("INT64", "FP64", 0.5),
        ("INT64", "FP64", 2.0**53), ("UINT64", "FP64", 2.0**64), ("INT32", "FP32", 2.0**31), ("UINT8", "FP64", -1.0),
    ],
)  # fmt: skip
def test_a_number_that_the_matrix_does_not_hold_is_refused_by_its_column(
    datatype: Datatype, stated: str, value: Any
) -> None:
    with pytest.raises(BadInput, match=f"column 'b' holds a number that is no {datatype}"):
        named(schema_of(datatype), stated, [1], [value])


@pytest.mark.parametrize("value", [10**20 - 1, 2**64, -(2**63) - 1, -(10**19) + 1])
@pytest.mark.parametrize("datatype", ["INT64", "UINT64", "INT32"])
def test_a_whole_number_beyond_64_bits_is_refused_by_its_column(datatype: Datatype, value: int) -> None:
    for rows in ([(value, 1)], [(1, 1), (value, 1), (-1, 1)]):
        with pytest.raises(BadInput, match=f"column 'a' holds a number that is no {datatype}"):
            comma_separated(schema_of(datatype), *rows)


def test_whole_numbers_may_be_said_in_any_datatype_that_holds_them() -> None:
    assert named(schema_of("INT64"), "FP64", [1, 2.0**53 - 1], [3, -4]).tolist() == [[1, 3], [2**53 - 1, -4]]
    assert named(schema_of("UINT8"), "INT64", [1, 255], [0, 4]).tolist() == [[1, 0], [255, 4]]
    assert records(schema_of("INT64"), (1.0, 2)).tolist() == [[1, 2]]


def test_whole_numbers_have_no_missing_value() -> None:
    for ask in (lambda s: records(s, (None, 1), (1, 1)), lambda s: batch(s, a=[None, 1.0], b=[1.0, 1.0])):
        with pytest.raises(Invalid, match="column 'a' is missing"):
            ask(schema_of("INT64", nullable=True))


def test_a_batch_refuses_what_it_would_not_read_exactly() -> None:
    assert batch(schema_of("INT64"), a=[2**53 - 1], b=[1]).tolist() == [[2**53 - 1, 1]]
    for value in (2**53, 2**53 + 1, 2**63 - 1):
        with pytest.raises(Invalid, match="column 'a' holds a number that is no INT64"):
            batch(schema_of("INT64"), a=[value], b=[1])


TEXTS = schema_of("BYTES", kind="categorical")


def test_a_matrix_of_texts_takes_its_columns_by_name() -> None:
    wanted = [[b"x", b"p"], ["ü".encode(), b"1"]]
    for told in (
        named(TEXTS, "BYTES", ["x", "ü"], ["p", "1"]), records(TEXTS, ("x", "p"), ("ü", "1")),
        comma_separated(TEXTS, ("x", "p"), ("ü", "1")), batch(TEXTS, a=["x", "ü"], b=["p", "1"]),
    ):  # fmt: skip
        assert told.tolist() == wanted
    raw = struct.pack("<I", 1) + b"\xff"
    tensors = [{"name": n, "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}} for n in "ab"]
    head = orjson.dumps({"inputs": tensors})
    assert codec(TEXTS).decode(head + raw + raw, len(head)).arrays["X"].tolist() == [[b"\xff", b"\xff"]]


def test_a_matrix_of_texts_takes_nothing_else() -> None:
    with pytest.raises(BadInput, match="column 'a' has datatype 'FP64'; BYTES is needed"):
        named(TEXTS, "FP64", [1], [1])
    with pytest.raises(BadInput, match="column 'a', row 0 is not a text"):
        records(TEXTS, (1, "p"))
    with pytest.raises(BadInput, match=r"column 'a', row 0 is missing \(null\)"):
        records(TEXTS, (None, "p"))
    with pytest.raises(Invalid, match="the column 'a' is double; the model takes text"):
        batch(TEXTS, a=[1.0], b=["p"])
    with pytest.raises(Invalid, match="column 'b' is missing"):
        batch(TEXTS, a=["x"], b=[None])


def test_a_matrix_of_truths_takes_truths() -> None:
    schema = schema_of("BOOL")
    for told in (
        named(schema, "BOOL", [True], [False]), records(schema, (True, False)),
        comma_separated(schema, ("true", "False")), batch(schema, a=[1.0], b=[0.0]),
    ):  # fmt: skip
        assert (told.dtype, told.tolist()) == (np.bool_, [[True, False]])
    with pytest.raises(BadInput, match="column 'b', row 0 is not true or false"):
        records(schema, (True, 1))
    with pytest.raises(Invalid, match="column 'b' holds a number that is no BOOL"):
        batch(schema, a=[1.0], b=[2.0])


def test_a_sensitive_column_of_texts_is_logged_as_its_token() -> None:
    schema = schema_of("BYTES", kind="categorical", sensitive=True)
    body = {"dataframe_records": [{"a": "secret", "b": "plain"}]}
    logged = mlflow.decode(orjson.dumps(body), "mlflow", codec(schema), schema).logged
    assert orjson.loads(logged)["inputs"][0]["data"] == [TOKENS.token("a", "secret"), "plain"]
