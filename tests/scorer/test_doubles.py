"""Rules, LightGBM and scikit-learn hear doubles as they were said, whichever way a row comes."""

import io
from collections.abc import Callable
from functools import cache
from typing import Any

import lightgbm as lgb
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skops.io
import xgboost as xgb
from sklearn.ensemble import HistGradientBoostingClassifier

from contracts import Column, ModelSchema, TensorSpec
from services.kit.models import Asked, Unreadable, open_table
from services.kit.models.tables import Table
from services.kit.models.wire import Tensors
from services.scorer import mlflow
from services.scorer.batches import scoring
from services.scorer.batches.sheet import Sheet, columns_of, needed
from services.scorer.v2 import BadInput, Codec
from services.scorer.v2.rows import Rows

from .making import NUMBERS

NAMES = ("dti", "amount")
SAID = [[0.43, 2.0**24 + 1], [float(np.float32(0.43)), 2.0**24 + 1], [0.43, 2.0**24]]
"""Only the first is granted. As FP32 all three are one row."""
RULES = b"""columns: [dti, amount]
rules: [{when: dti <= 0.43 && amount > 16777216.0, decide: 1}]
otherwise: 0
"""
X = np.array([[dti, amount] for dti in (SAID[0][0], SAID[1][0]) for amount in 2.0**24 + np.arange(-50, 52)])
Y = ((X[:, 0] <= 0.43) & (X[:, 1] > 2**24)).astype(int)


def lightgbm_bytes() -> bytes:
    wanted = {"objective": "binary", "min_data_in_leaf": 1, "min_data_in_bin": 1, "min_sum_hessian_in_leaf": 0,
              "verbose": -1, "num_threads": 1}  # fmt: skip
    return lgb.train(wanted, lgb.Dataset(X, Y), 20).model_to_string().encode()


def sklearn_bytes() -> bytes:
    out = io.BytesIO()
    skops.io.dump(HistGradientBoostingClassifier(min_samples_leaf=1, max_iter=20).fit(X, Y), out)
    return out.getvalue()


@cache
def opened(format: str) -> Table:
    data = {"rules": lambda: RULES, "lightgbm": lightgbm_bytes, "sklearn": sklearn_bytes}[format]()
    return Table(open_table(format, data), Asked(columns=NAMES))


def schema_of(table: Table) -> ModelSchema:
    return ModelSchema(
        inputs=tuple(TensorSpec(**each) for each in table.told.inputs),
        outputs=tuple(TensorSpec(**each) for each in table.told.outputs),
        columns=tuple(Column(name=name) for name in NAMES), prediction="label",
    )  # fmt: skip


def codec(schema: ModelSchema) -> Codec:
    return Codec(schema, "credit", "3", "champion", lambda _, __: "tok")


def tensor(data: list[Any], name: str = "X", datatype: str = "FP64", **more: Any) -> bytes:
    shape = [len(data), *([len(data[0])] if isinstance(data[0], list) else [])]
    flat = [value for row in data for value in row] if len(shape) == 2 else data
    return orjson.dumps({"name": name, "datatype": datatype, "shape": shape, "data": flat} | more)


def v2(*tensors: bytes) -> bytes:
    return b'{"inputs":[' + b",".join(tensors) + b"]}"


def binary(schema: ModelSchema) -> Tensors:
    raw = np.array(SAID).tobytes()
    said = {"name": "X", "datatype": "FP64", "shape": [3, 2], "parameters": {"binary_data_size": len(raw)}}
    head = orjson.dumps({"inputs": [said]})
    return codec(schema).decode(head + raw, len(head)).arrays


def named(schema: ModelSchema) -> Tensors:
    columns = [list(each) for each in zip(*SAID, strict=True)]
    return codec(schema).decode(v2(*(tensor(c, n) for n, c in zip(NAMES, columns, strict=True)))).arrays


def records(schema: ModelSchema) -> Tensors:
    body = orjson.dumps({"dataframe_records": [dict(zip(NAMES, row, strict=True)) for row in SAID]})
    return mlflow.decode(body, "mlflow", codec(schema), schema).arrays


def comma_separated(schema: ModelSchema) -> Tensors:
    lines = [",".join(NAMES), *(",".join(map(repr, row)) for row in SAID)]
    return mlflow.decode("\n".join(lines).encode(), "mlflow-csv", codec(schema), schema).arrays


def batch(schema: ModelSchema) -> Tensors:
    out = io.BytesIO()
    pq.write_table(pa.table(dict(zip(NAMES, map(list, zip(*SAID, strict=True)), strict=True))), out)
    ((_, chunk),) = Sheet(io.BytesIO(out.getvalue())).batches(schema, 10)  # pyright: ignore[reportArgumentType]
    return scoring.arrays(columns_of(chunk, needed(schema), 0), schema, codec(schema))


def stream(schema: ModelSchema) -> Tensors:
    rows = Rows.of(schema, "X", {})
    assert rows is not None
    read, wide = rows.read([v2(tensor([row])) for row in SAID])
    assert None not in read
    return {"X": rows.matrix(wide)[0]}


WAYS: dict[str, Callable[[ModelSchema], Tensors]] = {
    "matrix": lambda schema: codec(schema).decode(v2(tensor(SAID))).arrays, "binary": binary, "named": named,
    "records": records, "csv": comma_separated, "batch": batch, "stream": stream,
}  # fmt: skip


@pytest.mark.parametrize("format", ["rules", "lightgbm", "sklearn"])
@pytest.mark.parametrize("way", WAYS)
def test_a_number_that_single_precision_rounds_decides_as_it_was_said(format: str, way: str) -> None:
    table = opened(format)
    assert table.told.inputs == [{"name": "X", "datatype": "FP64", "shape": [-1, 2]}]
    assert table.predict(WAYS[way](schema_of(table)))["label"].tolist() == [1, 0, 0]


def test_a_version_that_was_registered_for_single_precision_answers_as_before() -> None:
    asked = Asked(columns=NAMES, inputs=[{"name": "X", "datatype": "FP32", "shape": [-1, 2]}], prediction="label")
    table = Table(open_table("rules", RULES), asked)
    assert table.told.inputs == asked.inputs
    assert table.predict(WAYS["records"](schema_of(table)))["label"].tolist() == [0, 0, 0]


def test_xgboost_rounds_by_itself_and_tells_what_it_takes() -> None:
    booster = xgb.train({"objective": "binary:logistic"}, xgb.DMatrix(X, Y), 2)
    table = Table(open_table("xgboost", bytes(booster.save_raw("ubj"))), Asked())
    assert table.told.inputs == [{"name": "X", "datatype": "FP32", "shape": [-1, 2]}]


def test_a_package_may_name_its_matrix_and_no_other_input() -> None:
    model = open_table("rules", RULES)
    told = {"name": "rows", "datatype": "FP32", "shape": [-1, 2]}
    assert Table(model, Asked(inputs=[told])).told.inputs == [told]
    for wrong in (
        [told | {"datatype": "INT64"}], [told | {"shape": [-1, 3]}], [told | {"shape": [-1]}], [told, told],
        [told | {"shape": [1, 2]}],
    ):  # fmt: skip
        with pytest.raises(Unreadable, match=r"inputs: the model takes one matrix \[-1, 2\] of FP64 or FP32"):
            Table(model, Asked(inputs=wrong))


DOUBLES = NUMBERS.model_copy(update={"inputs": (TensorSpec(name="X", datatype="FP64", shape=(-1, 3)),)})


def test_single_precision_is_taken_for_doubles_as_what_it_is() -> None:
    asked = codec(DOUBLES).decode(v2(tensor([[0.43, 1, 2]], datatype="FP32")))
    assert asked.arrays["X"].dtype == np.float64
    assert asked.arrays["X"].tolist() == [[float(np.float32(0.43)), 1, 2]]
    logged = orjson.loads(asked.logged)["inputs"][0]
    assert (logged["datatype"], logged["data"]) == ("FP64", [float(np.float32(0.43)), 1, 2])


def test_doubles_are_taken_for_single_precision_where_no_value_changes() -> None:
    asked = codec(NUMBERS).decode(v2(tensor([[0.5, 2**24, -1]])))
    assert (asked.arrays["X"].dtype, asked.arrays["X"].tolist()) == (np.float32, [[0.5, 2**24, -1]])
    assert orjson.loads(asked.logged)["inputs"][0]["datatype"] == "FP32"
    for value in (0.43, 2.0**24 + 1, 1e300):
        with pytest.raises(BadInput, match="'income', row 0 holds a number that FP32 does not hold exactly"):
            codec(NUMBERS).decode(v2(tensor([[1, value, 1]])))


@pytest.mark.parametrize("schema", [NUMBERS, DOUBLES])
def test_a_missing_or_infinite_value_is_what_it_is_in_either_width(schema: ModelSchema) -> None:
    other = {"FP32": "FP64", "FP64": "FP32"}[schema.inputs[0].datatype]
    nullable = schema.model_copy(update={"columns": tuple(Column(name=c.name, nullable=True) for c in schema.columns)})
    asked = codec(nullable).decode(v2(tensor([[None, 1, 1]], datatype=other)))
    assert np.isnan(asked.arrays["X"]).tolist() == [[True, False, False]]
    raw = np.array([[1, np.inf, 1]], {"FP32": "<f4", "FP64": "<f8"}[other]).tobytes()
    said = {"name": "X", "datatype": other, "shape": [1, 3], "parameters": {"binary_data_size": len(raw)}}
    head = orjson.dumps({"inputs": [said]})
    with pytest.raises(BadInput, match="'income', row 0 is infinite"):
        codec(schema).decode(head + raw, len(head))
