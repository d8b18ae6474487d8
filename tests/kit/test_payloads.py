"""What a record of the log refers to: opened in pieces that memory holds."""

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import Column, ModelSchema, TensorSpec
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
    assert not isinstance(found.request, Mapping) and found.request.column_names == ["age", "hours"]
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


async def test_without_a_schema_nothing_of_a_file_is_in_memory_but_how_many_rows_it_has(
    objects: Objects, payloads: Payloads
) -> None:
    found = await payloads.open(await chunk(objects, 2), None)
    assert not isinstance(found.request, Mapping) and found.request.num_columns == 0 and found.request.num_rows == 250


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


@given(answered(), st.booleans())
@settings(deadline=None, max_examples=400)
def test_answers_that_are_read_at_once_are_those_that_are_read_one_by_one(made: list[Payload], scored: bool) -> None:
    schema = MATRIX.model_copy(update={"score": "score" if scored else None})
    slow = decisions(schema, [replace(each, response=MappingProxyType(each.response)) for each in made])
    quick = decisions(schema, made)
    assert quick.prediction.dtype == slow.prediction.dtype
    assert repr(quick.prediction.tolist()) == repr(slow.prediction.tolist())
    assert (quick.score is None) == (slow.score is None)
    if quick.score is not None and slow.score is not None:
        assert np.array_equal(quick.score, slow.score, equal_nan=True)


def test_flat_answers_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.kit.payloads._decisions", lambda *_: pytest.fail("one by one"))
    outputs = [{"name": "label", "data": [1, 0]}, {"name": "score", "data": [0.25, 0.75, 0.5, 0.5]}]
    found = decisions(MATRIX.model_copy(update={"score": "score"}), [Payload(2, {}, {"outputs": outputs})] * 3)
    assert found.prediction.tolist() == [1, 0] * 3
    assert found.score is not None and found.score.tolist() == [0.75, 0.5] * 3
