"""What a record of the log refers to: opened in pieces that memory holds."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import Column, ModelSchema, TensorSpec
from services.kit import plain
from services.kit.errors import Invalid
from services.kit.logged import Logged
from services.kit.objects import Objects
from services.kit.payloads import Payload, Payloads, decisions, features
from services.kit.settings import Settings
from services.kit.stream import Record, TooMuch

PARQUET = "application/vnd.apache.parquet"
MATRIX = ModelSchema(
    inputs=(TensorSpec(name="X", datatype="FP32", shape=(-1, 2)),),
    outputs=(TensorSpec(name="label", datatype="INT64", shape=(-1,)),),
    columns=(Column(name="age", kind="numeric"), Column(name="hours", kind="numeric")),
    prediction="label",
)
TENSORS = MATRIX.model_copy(
    update={
        "columns": (),
        "inputs": tuple(TensorSpec(name=name, datatype="FP32", shape=(-1, 1)) for name in ("age", "hours")),
    }
)


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(Settings(home=tmp_path))


@pytest.fixture
def payloads(objects: Objects, tmp_path: Path) -> Payloads:
    return Payloads(objects, tmp_path / "run")


async def put(objects: Objects, table: pa.Table) -> str:
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=100)
    return await objects.put(file.getvalue())


def reference(digest: str, first: int, rows: int, kind: str = PARQUET) -> dict[str, Any]:
    return {"reference": {"digest": digest, "media_type": kind, "first_row": first, "rows": rows}}


def logged(rows: int, request: Any, response: Any) -> Logged:
    body = {"rows": rows, "request": request, "response": response}
    return Logged(Record(0, 0, None, orjson.dumps(body), ()), body, "w", 1, False)


async def chunk(objects: Objects, number: int, rows: int = 250) -> Logged:
    """A chunk of a batch, as the scorer logs it."""
    given = np.arange(1_000.0)
    sheet = {"age": given, "hours": -given, "note": [f"of {n}" for n in range(1_000)]}
    answers = pa.table({"row": np.arange(rows), "prediction": np.arange(rows) % 2, "score": np.full(rows, 0.5)})
    said = reference(await put(objects, pa.table(sheet)), number * rows, rows)
    return logged(rows, said, reference(await put(objects, answers), 0, rows))


@pytest.mark.parametrize("schema", [MATRIX, TENSORS])
async def test_a_chunk_gives_its_rows_of_the_models_columns(
    objects: Objects, payloads: Payloads, schema: ModelSchema
) -> None:
    found = await payloads.open(await chunk(objects, 2), schema)
    assert not isinstance(found.request, bytes | Mapping) and found.request.column_names == ["age", "hours"]
    columns = features(schema, [found])
    assert columns["age"].tolist() == list(range(500, 750)) and columns["hours"][0] == -500
    assert decisions(schema, [found]).prediction.tolist() == [n % 2 for n in range(250)]


TEXTS = ModelSchema(
    inputs=(
        TensorSpec(name="zone", datatype="BYTES", shape=(-1,)),
        TensorSpec(name="age", datatype="FP32", shape=(-1,)),
    ),
    outputs=MATRIX.outputs,
    columns=(Column(name="zone", kind="categorical"), Column(name="age")),
    prediction="label",
)


async def test_a_text_of_digits_stays_a_text(objects: Objects, payloads: Payloads) -> None:
    zone = {"name": "zone", "shape": [2], "datatype": "BYTES", "data": ["01", "1"]}
    age = {"name": "age", "shape": [2], "datatype": "FP32", "data": [1, None]}
    said = features(TEXTS, [Payload(2, {"inputs": [zone, age]}, {})])
    assert said["zone"].tolist() == ["01", "1"] and said["age"].dtype == np.float64
    only = TEXTS.model_copy(update={"columns": TEXTS.columns[:1], "inputs": TEXTS.inputs[:1]})
    matrix = {**zone, "shape": [2, 1]}
    assert features(only, [Payload(2, {"inputs": [matrix]}, {})])["zone"].tolist() == ["01", "1"]
    file = pa.table({"zone": pa.array([b"01", b"1"], pa.binary()), "age": [1.0, 2.0]})
    said = features(TEXTS, [await payloads.open(logged(2, reference(await put(objects, file), 0, 2), {}), TEXTS)])
    assert said["zone"].tolist() == ["01", "1"]


def test_bytes_that_the_log_has_as_base64_are_what_a_text_keeps_of_them() -> None:
    said = {"datatype": "BYTES", "shape": [2, 1], "parameters": {"content_type": "base64"}, "data": ["/wBh", "YWJj"]}
    only = TEXTS.model_copy(update={"columns": TEXTS.columns[:1], "inputs": TEXTS.inputs[:1],
                                    "outputs": (TensorSpec(name="label", datatype="BYTES", shape=(-1,)),)})  # fmt: skip
    payload = Payload(2, {"inputs": [said | {"name": "zone"}]}, {"outputs": [said | {"name": "label"}]})
    assert features(only, [payload])["zone"].tolist() == ["\ufffd\0a", "abc"]
    assert decisions(only, [payload]).prediction.tolist() == ["\ufffd\0a", "abc"]
    for data in (["/wB"] * 2, [None, "YWJj"], [7, 7]):
        with pytest.raises(Invalid, match="the tensor zone is no Base64"):
            features(only, [Payload(2, {"inputs": [said | {"name": "zone", "data": data}]}, {})])


async def test_without_a_schema_nothing_of_a_file_is_in_memory_but_how_many_rows_it_has(
    objects: Objects, payloads: Payloads
) -> None:
    found = await payloads.open(await chunk(objects, 2), None)
    assert (
        not isinstance(found.request, bytes | Mapping)
        and found.request.num_columns == 0
        and found.request.num_rows == 250
    )


async def test_a_batch_holds_as_much_as_memory_should_and_one_payload_whatever_it_is(
    objects: Objects, payloads: Payloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await payloads.open(await chunk(objects, 0), MATRIX)
    assert one.bytes > 250 * 4 * 8
    monkeypatch.setattr(Payloads, "AT_ONCE", 2 * one.bytes + 100)
    opening = payloads.begin()
    for number in (0, 1):
        await opening.open(await chunk(objects, number), MATRIX)
    with pytest.raises(TooMuch):
        await opening.open(await chunk(objects, 2), MATRIX)
    monkeypatch.setattr(Payloads, "AT_ONCE", 10)
    assert (await payloads.begin().open(await chunk(objects, 2), MATRIX)).rows == 250


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (lambda digest: reference(digest, 0, 99), "99 rows where the record says 250"),
        (lambda digest: reference(digest, -1, 250), "refers to"),
        (lambda digest: reference(digest, 900, 250), "has 100 rows"),
        (lambda digest: reference(digest, 0, 250, "application/json"), "JSON|unexpected character|surrogates"),
        (lambda _: None, "no request"),
    ],
)
async def test_what_refers_to_other_rows_is_refused(
    objects: Objects, payloads: Payloads, said: Any, reason: str
) -> None:
    whole = await chunk(objects, 0)
    wrong = logged(250, said(whole.body["request"]["reference"]["digest"]), whole.body["response"])
    with pytest.raises((Invalid, ValueError), match=reason):
        features(MATRIX, [await payloads.open(wrong, MATRIX)])


async def test_json_that_is_no_request_and_answers_without_a_prediction_are_refused(
    objects: Objects, payloads: Payloads
) -> None:
    listed = reference(await objects.put(b"[1]"), 0, 1, "application/json")
    with pytest.raises(Invalid, match="no V2"):
        await payloads.open(logged(1, listed, {}), MATRIX)
    with pytest.raises(Invalid, match="prediction"):
        decisions(MATRIX, [Payload(1, {}, pa.table({"other": [1]}))])


def test_a_decision_of_digits_stays_a_text() -> None:
    schema = MATRIX.model_copy(
        update={"outputs": (TensorSpec(name="label", datatype="BYTES", shape=(-1,)),), "score": "sure"}
    )
    outputs = [
        {"name": "label", "shape": [2], "datatype": "BYTES", "data": ["01", "1"]},
        {"name": "sure", "shape": [2, 2], "datatype": "FP32", "data": [0.25, 0.75, 0.5, 0.5]},
    ]
    said = decisions(schema, [Payload(2, {}, {"outputs": outputs})])
    assert said.prediction.tolist() == ["01", "1"]
    assert said.score is not None and said.score.tolist() == [0.75, 0.5]


@pytest.mark.parametrize("text", ["01067", "1e3", "1_000", " 5", "\u0661", "nan", "inf", "9007199254740993"])
def test_a_text_that_looks_like_a_number_stays_a_text(text: str) -> None:
    schema = ModelSchema(
        inputs=(TensorSpec(name="t", datatype="BYTES", shape=(-1, 1)),),
        outputs=(TensorSpec(name="label", datatype="BYTES", shape=(-1,)),),
        columns=(Column(name="t", kind="categorical"),), prediction="label",
    )  # fmt: skip
    request = {"inputs": [{"name": "t", "datatype": "BYTES", "shape": [1, 1], "data": [text]}]}
    assert features(schema, [Payload(1, request, {})])["t"].tolist() == [text]


_NUMBER = st.one_of(st.integers(-3, 3), st.floats(-2, 2), st.booleans(), st.none(), st.sampled_from(["1", "x"]))


@st.composite
def answered(draw: st.DrawFn) -> list[Payload]:
    """Answers as a foreign runtime may say them: flat or nested, short, without a score, in another order."""
    made: list[Payload] = []
    for _ in range(draw(st.integers(1, 4))):
        rows, width = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3]))
        value = draw(st.sampled_from([st.integers(0, 3), st.integers(0, 3), _NUMBER]))
        label = draw(st.lists(value, min_size=rows, max_size=rows))
        score = draw(st.lists(st.floats(0, 1), min_size=rows * width, max_size=rows * width))
        if draw(st.integers(0, 5)) == 0:
            score = [score[at : at + width] for at in range(0, len(score), width)]
        outputs: list[Any] = [{"name": "label", "data": label}, {"name": "score", "data": score}]
        outputs = draw(st.sampled_from([outputs, outputs, outputs, outputs[::-1], outputs[:1], [*outputs, 7]]))
        made.append(Payload(rows, {}, {"outputs": outputs}))
    return made


def opened(given: Payload, schema: ModelSchema) -> Payload:
    assert isinstance(given.request, dict) and isinstance(given.response, dict)
    return Payload.of(given.rows, given.request, given.response, 0, schema)


@given(answered(), st.booleans())
@settings(deadline=None, max_examples=400)
def test_plain_answers_are_those_that_their_documents_hold(made: list[Payload], scored: bool) -> None:
    schema = MATRIX.model_copy(update={"score": "score" if scored else None})
    slow, quick = (decisions(schema, each) for each in (made, [opened(each, schema) for each in made]))
    assert quick.prediction.dtype == slow.prediction.dtype
    assert repr(quick.prediction.tolist()) == repr(slow.prediction.tolist())
    assert (quick.score is None) == (slow.score is None)
    if quick.score is not None and slow.score is not None:
        assert np.array_equal(quick.score, slow.score, equal_nan=True)


@st.composite
def asked(draw: st.DrawFn) -> list[Payload]:
    """Requests as callers say them: a matrix of numbers, some with nulls, texts, rows in rows or another width."""
    made: list[Payload] = []
    for _ in range(draw(st.integers(1, 4))):
        rows, kind = draw(st.integers(0, 3)), draw(st.sampled_from(["FP32", "FP32", "FP32", "BYTES"]))
        value = draw(st.sampled_from([st.integers(-3, 3), st.floats(-2, 2), _NUMBER]))
        width = draw(st.sampled_from([2, 2, 2, 2, 3]))
        data = draw(st.lists(value, min_size=rows * width, max_size=rows * width))
        if draw(st.integers(0, 5)) == 0:
            data = [data[at : at + width] for at in range(0, len(data), width)]
        tensor = {"name": "X", "datatype": kind, "shape": draw(st.sampled_from([[rows, 2], [rows, 2], [-1]]))}
        inputs: Any = [tensor | {"data": data}]
        made.append(Payload(rows, {"inputs": draw(st.sampled_from([inputs, inputs, inputs, [7], None]))}, {}))
    return made


@given(asked())
@settings(deadline=None, max_examples=400)
def test_plain_requests_are_those_that_their_documents_hold(made: list[Payload]) -> None:
    def told(given: list[Payload]) -> str:
        try:
            return repr({name: (each.dtype, each.tolist()) for name, each in features(MATRIX, given).items()})
        except Invalid as refused:
            return str(refused)

    assert told([opened(each, MATRIX) for each in made]) == told(made)


@pytest.mark.parametrize("number", [1, 0.5, True, 2**63, -(2**63), 1e308, 5e-324])
def test_a_number_keeps_its_value(number: float) -> None:
    assert plain.joined([plain.packed([number, None], 2) or b""])[:1].tolist() == [float(number)]


def test_of_plain_payloads_no_document_is_kept() -> None:
    outputs = [{"name": "label", "data": [1, 0]}, {"name": "score", "data": [0.25, 0.75, 0.5, None]}]
    inputs = [{"name": "X", "datatype": "FP32", "shape": [2, 2], "data": [1, 2.5, None, 4]}]
    schema = MATRIX.model_copy(update={"score": "score"})
    found = Payload.of(2, {"inputs": inputs}, {"outputs": outputs}, 0, schema)
    assert isinstance(found.request, bytes) and isinstance(found.response, plain.PlainAnswer)
    said = decisions(schema, [found] * 3)
    assert said.prediction.tolist() == [1, 0] * 3
    assert said.score is not None and np.array_equal(said.score, [0.75, np.nan] * 3, equal_nan=True)
    assert np.array_equal(features(schema, [found])["age"], [1, np.nan], equal_nan=True)
