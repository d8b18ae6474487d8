"""The quick way for plain rows says what the codec says, of every request that both can read."""

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import ModelSchema, TensorSpec
from services.kit.errors import Refusal
from services.scorer.v2 import Codec, Request
from services.scorer.v2.rows import Rows
from tests.scorer.making import NUMBERS

SAID = {"model_name": "loans", "model_version": "3"}
CODEC = Codec(NUMBERS, "loans", "3", "champion", lambda column, value: "tok")


def quick_way() -> Rows:
    made = Rows.of(NUMBERS, CODEC.matrix_name, SAID)
    assert made is not None
    return made


ROWS = quick_way()

numbers = st.one_of(
    st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none(),
    st.text(max_size=3),
)  # fmt: skip
plain = st.fixed_dictionaries({
    "name": st.sampled_from(["X", "x"]), "datatype": st.sampled_from(["FP32", "FP64", "INT64"]),
    "shape": st.sampled_from([[1, 3], [3], [1, 4], [3, 1], [True, 3], [1.0, 3], [1, 3.0]]),
    "data": st.lists(numbers, min_size=2, max_size=4),
})  # fmt: skip
requests = st.fixed_dictionaries(
    {"inputs": st.lists(plain, min_size=1, max_size=2)},
    optional={
        "id": st.one_of(st.text(max_size=5), st.integers(), st.none()),
        "parameters": st.dictionaries(
            st.sampled_from(["entity", "correlation_id", "other"]), st.one_of(st.text(max_size=5), st.integers()),
            max_size=2,
        ),
        "outputs": st.just([]), "extra": st.just(1),
    },
)  # fmt: skip


def by_codec(raw: bytes) -> Request | None:
    try:
        return CODEC.decode(raw)
    except Refusal:
        return None


@settings(max_examples=400)
@given(requests)
def test_what_the_quick_way_reads_the_codec_reads_alike(body: dict[str, Any]) -> None:
    try:
        raw = json.dumps(body).encode()
        orjson.loads(raw)
    except (UnicodeEncodeError, orjson.JSONDecodeError):
        return
    [row], wide = quick_way().read([raw])
    if row is None:
        return
    matrix, beyond = ROWS.matrix(wide)
    request = by_codec(raw)
    if beyond[0]:
        assert request is None
        return
    assert request is not None
    assert np.array_equal(matrix, request.arrays["X"]) and matrix.dtype == request.arrays["X"].dtype
    assert (row.id, row.entity, row.correlation_id) == (request.id, request.entity, request.correlation_id)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"inputs":[{"name":"X","datatype":"FP32","shape":[1,3],"data":[1,2,3]}]}',
        b'{"id":"a","inputs":[{"name":"X","datatype":"FP32","shape":[1,3],"data":[1,2.5,3]}],"parameters":{"entity":"e"}}',
    ],
)
def test_plain_requests_take_the_quick_way(raw: bytes) -> None:
    [row], wide = quick_way().read([raw])
    assert row is not None and wide.tolist() == [[1, wide[0, 1], 3]]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"inputs":[{"name":"X","datatype":"FP32","shape":[1,3],"data":[1,2,3]}],"inputs":[]}',
        b'{"inputs":[{"name":"X","name":"X","datatype":"FP32","shape":[1,3],"data":[1,2,3]}]}',
        b'{"inputs":[{"name":"X","datatype":"FP32","shape":[1,3],"data":[1,2,true]}]}',
        b'{"inputs":[{"name":"X","datatype":"FP32","shape":[1,3],"data":{"0":1,"1":2,"2":3}}]}',
        b"[]", b"7", b"null", b"", b"{", b'{"inputs":{"0":{}}}', b'{"inputs":[7]}', b"\xff",
    ],
)  # fmt: skip
def test_anything_else_is_left_to_the_codec(raw: bytes) -> None:
    before = framed(b"1,2,3")
    rows, wide = quick_way().read([before, raw, before])
    assert [row is None for row in rows] == [False, True, False] and wide.tolist() == [[1, 2, 3], [1, 2, 3]]


def framed(inside: bytes) -> bytes:
    """A request as one producer writes them, with these numbers, or whatever it is."""
    return b'{ "inputs": [{"name":"X","datatype":"FP32","data": [' + inside + b'] , "shape":[1,3]}]}'


inside = st.one_of(
    st.lists(st.floats(allow_nan=False) | st.integers(), min_size=1, max_size=4).map(
        lambda numbers: json.dumps(numbers).encode()[1:-1]
    ),
    st.sampled_from([b"", b"1,2,null", b"1,2],[3", b"1,2,3],[1,2,3", b'1,2,"3"', b"1 2,3", b"01,2,3", b"1,2,",
                     b"1,2,true", b"1,2,3e", b"1,2,NaN", b"1e5,-2E-3,0.5", b" 1 ,\t2 ,\n3 ",
                     b"1,2,{}", b"1e400,2,3", b"+1,2,3"]),
)  # fmt: skip


@given(st.lists(st.one_of(inside.map(framed), requests.map(lambda body: orjson_or_empty(body))), max_size=12))
def test_many_requests_are_read_as_each_alone_whatever_stands_in_anothers_place(raws: list[bytes]) -> None:
    together = quick_way()
    assert together.read([framed(b"7,8,9")])[0] != [None]  # its frame is known from now on
    rows, wide = together.read(raws)
    alone = [quick_way().read([raw]) for raw in raws]
    assert rows == [row for [row], _ in alone]
    assert wide.tolist() == [numbers for _, each in alone for numbers in each.tolist()]


def test_numbers_of_several_short_requests_are_not_put_together() -> None:
    rows = quick_way()
    rows.read([framed(b"1,2,3")])
    assert rows.read([framed(b"1"), framed(b"2"), framed(b"3")])[0] == [None] * 3


def orjson_or_empty(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # a text that is no UTF-8
        return b""


def test_requests_in_one_frame_are_not_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, looked = quick_way(), list[bytes]()
    alone = Rows._one
    monkeypatch.setattr(Rows, "_one", lambda self, raw: looked.append(raw) or alone(self, raw))
    rows.read([framed(b"1,2,3")])
    rows.read([framed(b"%d,2,3" % n) for n in range(100)] + [framed(b"1,null,3")])
    assert looked == [framed(b"1,2,3"), framed(b"1,null,3")]
    rows.read([framed(b"1,2,3").replace(b"X", b"X ")] * 3 + [framed(b"1,2,3").replace(b" ", b"")])
    looked.clear()
    rows.read([framed(b"%d,2,3" % n).replace(b" ", b"") for n in range(100)])
    assert not looked


@given(
    st.lists(
        st.tuples(st.integers(-(2**63), 2**63 - 1), st.floats(width=32), st.floats(width=32)), min_size=1, max_size=20
    )
)
def test_quick_answers_are_the_codecs_answers(outputs: list[tuple[int, float, float]]) -> None:
    raw = b'{"id":"r1","inputs":[{"name":"X","datatype":"FP32","shape":[1,3],"data":[1,2,3]}]}'
    rows, _ = quick_way().read([raw for _ in outputs])
    labels = np.array([label for label, _, _ in outputs], np.int64)
    scores = np.array([scores for _, *scores in outputs], np.float32)
    ids = [f"00000000-0000-5000-8000-{i:012}" for i in range(len(outputs))]
    quick = ROWS.answers(ids, [row for row in rows if row], {"label": labels, "probabilities": scores}, "champion")
    request = CODEC.decode(raw)
    slow = [
        CODEC.encode(request, {"label": labels[i : i + 1], "probabilities": scores[i : i + 1]}, id).logged
        for i, id in enumerate(ids)
    ]
    assert quick == slow


def test_schemas_that_are_not_plain_have_no_quick_way() -> None:
    secret = tuple(c.model_copy(update={"sensitive": True}) for c in NUMBERS.columns)
    text = (TensorSpec(name="label", datatype="BYTES", shape=(-1,)),)
    assert Rows.of(NUMBERS.model_copy(update={"columns": secret}), "X", SAID) is None
    assert Rows.of(NUMBERS.model_copy(update={"outputs": text}), "X", SAID) is None
    assert Rows.of(NUMBERS.model_copy(update={"columns": ()}), None, SAID) is None
    assert isinstance(NUMBERS, ModelSchema)
