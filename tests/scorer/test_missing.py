"""A missing value is the same by every way in: missing where the schema allows it, else an error naming the column."""

import math
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fairlead
from contracts import Column, ModelSchema, TensorSpec
from fairlead.cli.files import rows as rows_of_file
from fairlead.rows import InputSpec, Signature, tensors
from services.kit.errors import Invalid
from services.scorer import mlflow
from services.scorer.batches import api, scoring
from services.scorer.batches.sheet import Sheet, columns_of, needed, refused_of, to_parquet
from services.scorer.tokenise import Tokeniser
from services.scorer.v2 import Codec

OUTPUTS = (TensorSpec(name="y", datatype="FP64", shape=(-1,)),)


def schema(kind: str, *, nullable: bool) -> ModelSchema:
    """Of the columns `a` and `b`, of which `b` may be missing or not."""
    columns = (Column(name="a"), Column(name="b", nullable=nullable))
    matrix = (TensorSpec(name="X", datatype="FP64", shape=(-1, 2)),)
    single = tuple(TensorSpec(name=name, datatype="FP64", shape=(-1, 1)) for name in "ab")
    return ModelSchema(inputs=matrix if kind == "matrix" else single, outputs=OUTPUTS, columns=columns, prediction="y")


def values(arrays: Mapping[str, np.ndarray[Any, Any]]) -> list[list[float]]:
    """The rows that the model sees."""
    return np.concatenate([array.reshape(len(array), -1) for array in arrays.values()], axis=1).tolist()


Told = list[list[float]] | str
"""What the model sees, or what the caller is told."""
Way = Callable[[ModelSchema, Codec, Path], Awaitable[Told]]


def v2(*inputs: Mapping[str, Any], tail: bytes = b"") -> Way:
    async def ask(_: ModelSchema, codec: Codec, folder: Path) -> Told:
        head = orjson.dumps({"inputs": inputs})
        request = codec.decode(head + tail, len(head) if tail else None)
        logged = orjson.loads(request.logged)["inputs"]
        assert {tensor["name"] for tensor in logged} == set(request.arrays)
        return values(request.arrays)

    return ask


def tensor(name: str, data: Any, shape: list[int], **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": "FP64", "shape": shape} | ({"data": data} if data is not None else {}) | more


def binary(matrix: bool, number: float) -> Way:
    """`a` is 1 and 3, `b` is 2 and the number: as one matrix, or each column by its name."""
    if matrix:
        one = tensor("X", None, [2, 2], parameters={"binary_data_size": 32})
        return v2(one, tail=struct.pack("<4d", 1, 2, 3, number))
    two = [tensor(name, None, [2, 1], parameters={"binary_data_size": 16}) for name in "ab"]
    return v2(*two, tail=struct.pack("<4d", 1, 3, 2, number))


def invocations(body: Any, form: mlflow.Form = "mlflow") -> Way:
    async def ask(schema: ModelSchema, codec: Codec, folder: Path) -> Told:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        return values(mlflow.decode(raw, form, codec, schema).arrays)

    return ask


def file(name: str, data: bytes | pa.Table) -> Way:
    async def ask(schema: ModelSchema, codec: Codec, folder: Path) -> Told:
        path = folder / "upload"
        if isinstance(data, bytes):
            path.write_bytes(data)
        else:
            pq.write_table(data, path)
        return await scored(schema, codec, path, name)

    return ask


async def scored(schema: ModelSchema, codec: Codec, path: Path, name: str) -> Told:
    """As a batch does it: a row's error is the answer where there is one."""
    sheet = Sheet(await to_parquet(path, name, "", schema))
    sheet.check(schema)
    ((_, batch),) = sheet.batches(schema, 100)
    assert refused_of(batch) == {}
    columns = columns_of(batch, needed(schema), 0)
    return values(scoring.arrays(columns, schema, codec))


def json_rows(*rows: dict[str, Any]) -> Way:
    async def ask(schema: ModelSchema, codec: Codec, folder: Path) -> Told:
        api.as_lines(list(rows), folder / "upload")
        return await scored(schema, codec, folder / "upload", "rows.jsonl")

    return ask


def client(rows: Any) -> Way:
    async def ask(schema: ModelSchema, codec: Codec, folder: Path) -> Told:
        inputs = tuple(InputSpec(s.name, s.datatype, s.shape) for s in schema.inputs)
        names = tuple(column.name for column in schema.columns)
        nullable = frozenset(column.name for column in schema.columns if column.nullable)
        sent = {"inputs": tensors(rows(folder) if callable(rows) else rows, Signature(inputs, names, nullable))}
        return values(codec.decode(orjson.dumps(sent, option=orjson.OPT_SERIALIZE_NUMPY)).arrays)

    return ask


def score_csv(text: str) -> Way:
    def read(folder: Path) -> Any:
        (folder / "rows.csv").write_text(text)
        return rows_of_file(str(folder / "rows.csv"))

    return client(read)


CSV_CELLS = {"empty": "", "NaN": "NaN", "nan": "nan", "NA": "NA", "null": "null"}
NAN, INF = math.nan, math.inf
TWO = {"a": [1.0, 3.0], "b": [2.0, None]}
MISSING: dict[str, Way] = {
    **{f"/invocations csv, {name}": invocations(f"a,b\n1,2\n3,{cell}\n".encode(), "mlflow-csv")
       for name, cell in CSV_CELLS.items()},
    **{f"batch csv, {name}": file("a.csv", f"a,b\n1,2\n3,{cell}\n".encode()) for name, cell in CSV_CELLS.items()},
    **{f"score csv, {name}": score_csv(f"a,b\n1,2\n3,{cell}\n") for name, cell in CSV_CELLS.items()},
    "/invocations split": invocations({"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, None]]}}),
    "/invocations records, null": invocations({"dataframe_records": [{"a": 1, "b": 2}, {"a": 3, "b": None}]}),
    "/invocations records, no key": invocations({"dataframe_records": [{"a": 1, "b": 2}, {"a": 3}]}),
    "batch jsonl, null": file("a.jsonl", b'{"a":1,"b":2}\n{"a":3,"b":null}\n'),
    "batch jsonl, no key": file("a.jsonl", b'{"a":1,"b":2}\n{"a":3}\n'),
    "batch jsonl, NaN": file("a.jsonl", b'{"a":1,"b":2}\n{"a":3,"b":NaN}\n'),
    "batch json, null": json_rows({"a": 1, "b": 2}, {"a": 3, "b": None}),
    "batch json, no key": json_rows({"a": 1, "b": 2}, {"a": 3}),
    "batch parquet, null": file("a.parquet", pa.table(TWO)),
    "batch parquet, NaN": file("a.parquet", pa.table({"a": [1.0, 3.0], "b": [2.0, NAN]})),
    "client, None": client([{"a": 1, "b": 2}, {"a": 3, "b": None}]),
    "client, NaN": client([{"a": 1, "b": 2}, {"a": 3, "b": NAN}]),
    "client, no key": client([{"a": 1, "b": 2}, {"a": 3}]),
    "client, table": client(pa.table(TWO)),
}  # fmt: skip
"""The second row's `b` is missing, whatever the model's inputs look like."""
ABSENT: dict[str, Way] = {
    "v2 json": v2(tensor("a", [1, 3], [2, 1])),
    "/invocations csv": invocations(b"a\n1\n3\n", "mlflow-csv"),
    "/invocations split": invocations({"dataframe_split": {"columns": ["a"], "data": [[1], [3]]}}),
    "/invocations records": invocations({"dataframe_records": [{"a": 1}, {"a": 3}]}),
    "/invocations inputs": invocations({"inputs": {"a": [1, 3]}}),
    "batch csv": file("a.csv", b"a\n1\n3\n"),
    "batch csv, empty": file("a.csv", b"a,b\n1,\n3,\n"),
    "batch jsonl": file("a.jsonl", b'{"a":1}\n{"a":3}\n'),
    "batch jsonl, null": file("a.jsonl", b'{"a":1,"b":null}\n{"a":3}\n'),
    "batch json": json_rows({"a": 1}, {"a": 3}),
    "batch parquet": file("a.parquet", pa.table({"a": [1.0, 3.0]})),
    "batch parquet, of no type": file("a.parquet", pa.table({"a": [1.0, 3.0], "b": pa.nulls(2)})),
    "score csv": score_csv("a\n1\n3\n"),
    "client": client([{"a": 1}, {"a": 3}]),
    "client, table": client(pa.table({"a": [1.0, 3.0]})),
}
"""`b` is not there at all."""
INFINITE: dict[str, Way] = {
    "/invocations csv": invocations(b"a,b\n1,2\n3,inf\n", "mlflow-csv"),
    "/invocations csv, too large": invocations(b"a,b\n1,2\n3,-1e999\n", "mlflow-csv"),
    "batch csv": file("a.csv", b"a,b\n1,2\n3,inf\n"),
    "batch csv, too large": file("a.csv", b"a,b\n1,2\n3,-1e999\n"),
    "batch jsonl": file("a.jsonl", b'{"a":1,"b":2}\n{"a":3,"b":Infinity}\n'),
    "batch jsonl, too large": file("a.jsonl", b'{"a":1,"b":2}\n{"a":3,"b":1e999}\n'),
    "batch json, too large": json_rows({"a": 1, "b": 2}, {"a": 3, "b": INF}),
    "batch parquet": file("a.parquet", pa.table({"a": [1.0, 3.0], "b": [2.0, INF]})),
    "score csv": score_csv("a,b\n1,2\n3,inf\n"),
    "score csv, too large": score_csv("a,b\n1,2\n3,-1e999\n"),
    "client": client([{"a": 1, "b": 2}, {"a": 3, "b": -INF}]),
    "client, array": client(np.array([[1, 2], [3, INF]])),
}
OF_MATRIX: dict[str, dict[str, Way]] = {
    "missing": {
        "v2 json": v2(tensor("X", [1, 2, 3, None], [2, 2])),
        "v2 json, named": v2(tensor("a", [1, 3], [2, 1]), tensor("b", [2, None], [2, 1])),
        "v2 binary": binary(True, NAN),
        "v2 binary, named": binary(False, NAN),
        "/invocations inputs": invocations({"inputs": [[1, 2], [3, None]]}),
        "client, array": client(np.array([[1, 2], [3, NAN]])),
        "client, lists": client([[1, 2], [3, None]]),
    },
    "infinite": {"v2 binary": binary(True, INF), "v2 binary, named": binary(False, INF)},
    "absent": {
        "v2 binary, named": v2(
            tensor("a", None, [2], parameters={"binary_data_size": 16}), tail=struct.pack("<2d", 1, 3)
        ),
    },
}
OF_TENSORS: dict[str, dict[str, Way]] = {
    "missing": {
        "v2 json": v2(tensor("a", [1, 3], [2, 1]), tensor("b", [2, None], [2, 1])),
        "v2 binary": binary(False, NAN),
        "/invocations inputs": invocations({"inputs": {"a": [[1], [3]], "b": [[2], [None]]}}),
    },
    "infinite": {"v2 binary": binary(False, INF)},
    "absent": {},
}
ALL = {"missing": MISSING, "absent": ABSENT, "infinite": INFINITE}
CASES = [
    (kind, what, name, way)
    for kind, own in (("matrix", OF_MATRIX), ("tensors", OF_TENSORS))
    for what, ways in ALL.items()
    for name, way in (ways | own[what]).items()
    if not (kind == "tensors" and name == "client, array")
]
SEEN = {"missing": [[1, 2], [3, NAN]], "absent": [[1, NAN], [3, NAN]]}


async def told(way: Way, schema: ModelSchema, folder: Path) -> Told:
    codec = Codec(schema, "credit", "3", "champion", Tokeniser(b"k" * 32).token)
    try:
        return await way(schema, codec, folder)
    except (Invalid, fairlead.Invalid) as error:
        return getattr(error, "message", "") or str(error)


@pytest.mark.parametrize("nullable", [True, False], ids=["nullable", "needed"])
@pytest.mark.parametrize(("kind", "what", "way"), [(k, w, way) for k, w, _, way in CASES],
                         ids=[f"{k}-{w}-{name}" for k, w, name, _ in CASES])  # fmt: skip
async def test_every_way_says_the_same(kind: str, what: str, way: Way, nullable: bool, tmp_path: Path) -> None:
    said = await told(way, schema(kind, nullable=nullable), tmp_path)
    if what in SEEN and nullable:
        assert not isinstance(said, str), said
        np.testing.assert_array_equal(np.array(said), np.array(SEEN[what]))
        return
    assert isinstance(said, str), said
    assert any(name in said for name in ("'b'", "b:")), said
    words = ["infinite", "beyond"] if what == "infinite" else ["missing", "not in every row"]
    assert any(word in said for word in words), said


@pytest.mark.parametrize("body", [b'{"inputs":[{"name":"a","datatype":"FP64","shape":[1],"data":[NaN]}]}',
                                  b'{"dataframe_records":[{"a":1,"b":-Infinity}]}'])  # fmt: skip
async def test_json_has_no_nan_and_the_answer_says_what_to_write(body: bytes, tmp_path: Path) -> None:
    said = await told(invocations(body), schema("matrix", nullable=True), tmp_path)
    assert "JSON has no NaN and no infinity: a missing value is null" in said
