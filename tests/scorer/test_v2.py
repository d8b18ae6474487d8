"""Open Inference Protocol V2: every datatype both ways, and bad input refused with a sentence that names it."""

import math
import struct
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from contracts import Column, ModelSchema, TensorSpec
from services.scorer import mlflow
from services.scorer.tokenise import Tokeniser
from services.scorer.v2 import NUMPY, BadInput, Codec, document
from services.scorer.v2.errors import LIMIT

from .making import NUMBERS

TOKENS = Tokeniser(b"k" * 32)
NUMERIC = [name for name in NUMPY if name != "BYTES"]


def codec(schema: ModelSchema) -> Codec:
    return Codec(schema, "credit", "3", "champion", TOKENS.token)


def echo(datatype: Any, *columns: Column) -> Codec:
    return codec(
        ModelSchema(
            inputs=(TensorSpec(name="x", datatype=datatype, shape=(-1, 2)),),
            outputs=(TensorSpec(name="y", datatype=datatype, shape=(-1, 2)),),
            columns=columns,
            prediction="y",
        )
    )


NUMBERS_CODEC = codec(NUMBERS)


def numbers(data: Any, shape: Any = (1, 3), **more: Any) -> bytes:
    tensor = {"name": "X", "shape": shape, "datatype": "FP32", "data": data} | more
    return orjson.dumps({"inputs": [tensor]})


def refused(body: bytes, using: Codec = NUMBERS_CODEC, json_length: int | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        using.decode(body, json_length)
    assert len(caught.value.message) <= LIMIT
    return caught.value.message


def arrays_of(datatype: Any) -> st.SearchStrategy[Any]:
    dtype = NUMPY[datatype]
    finite: dict[str, Any] = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
    elements = nps.from_dtype(dtype, **finite)
    return nps.arrays(dtype, st.tuples(st.integers(1, 5), st.just(2)), elements=elements)


@pytest.mark.parametrize("datatype", NUMERIC)
@given(data=st.data(), nested=st.booleans())
def test_json_numbers_arrive_and_leave_as_they_are(datatype: Any, data: st.DataObject, nested: bool) -> None:
    values = data.draw(arrays_of(datatype))
    tensor = {"name": "x", "shape": list(values.shape), "datatype": datatype}
    body = orjson.dumps({"inputs": [tensor | {"data": values.tolist() if nested else values.ravel().tolist()}]})
    one = echo(datatype)
    request = one.decode(body)
    np.testing.assert_array_equal(request.arrays["x"], values)
    assert (request.rows, request.logged) == (len(values), body)
    answer = orjson.loads(one.encode(request, {"y": values}, "id").body)
    back = np.array(answer["outputs"][0]["data"], NUMPY[datatype]).reshape(answer["outputs"][0]["shape"])
    np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize("datatype", NUMERIC)
@given(data=st.data())
def test_binary_numbers_arrive_and_leave_as_they_are(datatype: Any, data: st.DataObject) -> None:
    values = data.draw(arrays_of(datatype))
    raw = values.tobytes()
    tensor = {"name": "x", "shape": list(values.shape), "datatype": datatype,
              "parameters": {"binary_data_size": len(raw)}}  # fmt: skip
    head = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    one = echo(datatype)
    request = one.decode(head + raw, len(head))
    np.testing.assert_array_equal(request.arrays["x"], values)
    encoded = one.encode(request, {"y": values}, "id")
    assert encoded.json_length is not None
    assert encoded.body[encoded.json_length :] == raw
    logged = orjson.loads(request.logged)["inputs"][0]
    np.testing.assert_array_equal(np.array(logged["data"], NUMPY[datatype]).reshape(logged["shape"]), values)
    assert "data" in orjson.loads(encoded.logged)["outputs"][0]


@given(st.lists(st.binary(max_size=20), min_size=2, max_size=2), st.booleans())
def test_bytes_travel_whatever_they_hold(values: list[bytes], binary_out: bool) -> None:
    raw = b"".join(struct.pack("<I", len(value)) + value for value in values)
    wanted = [{"name": "y", "parameters": {"binary_data": binary_out}}]
    tensor = {"name": "x", "shape": [1, 2], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    head = orjson.dumps({"inputs": [tensor], "outputs": wanted})
    one = echo("BYTES")
    request = one.decode(head + raw, len(head))
    assert request.arrays["x"].ravel().tolist() == values
    encoded = one.encode(request, {"y": request.arrays["x"]}, "id")
    if binary_out:
        assert encoded.body[encoded.json_length or 0 :] == raw
    said = orjson.loads(encoded.logged)["outputs"][0] | {"name": "x"}
    for logged in (request.logged, orjson.dumps({"inputs": [said]})):
        assert one.decode(logged).arrays["x"].ravel().tolist() == values


def test_base64_is_read_as_the_bytes_that_it_says() -> None:
    one, said = echo("BYTES"), {"parameters": {"content_type": "base64"}}
    tensor = {"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": ["/wBh", "YWJj"]} | said
    request = one.decode(orjson.dumps({"inputs": [tensor]}))
    assert request.arrays["x"].tolist() == [[b"\xff\0a", b"abc"]]
    assert one.decode(request.logged).arrays["x"].tolist() == [[b"\xff\0a", b"abc"]]
    raw = b"".join(struct.pack("<I", 4) + each for each in (b"/wBh", b"YWJj"))
    head = orjson.dumps({"inputs": [
        {"name": "x", "shape": [1, 2], "datatype": "BYTES",
         "parameters": {"content_type": "base64", "binary_data_size": len(raw)}},
    ]})  # fmt: skip
    assert one.decode(head + raw, len(head)).arrays["x"].tolist() == [[b"\xff\0a", b"abc"]]
    for data in (["/wBh", "ab"], ["/wBh", "a b="], ["/wBh", "ü"]):
        assert "'x', element 1 is no Base64" in refused(orjson.dumps({"inputs": [tensor | {"data": data}]}), one)


@pytest.mark.parametrize("content", ["np", "str", "pd", "datetime"])
def test_a_content_that_is_python_s_alone_changes_nothing(content: str) -> None:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": ["2026-01-02T03:04:05Z", "YWJj"]}
    body = orjson.dumps({"inputs": [tensor | {"parameters": {"content_type": content}}]})
    request = echo("BYTES").decode(body)
    assert request.arrays["x"].tolist() == [[b"2026-01-02T03:04:05Z", b"YWJj"]]
    assert request.logged == body


@pytest.mark.parametrize("content", ["hf_json", "pil_image", "BASE64", 7, ["base64"]])
def test_a_content_that_nobody_reads_here_is_refused_by_its_name(content: Any) -> None:
    told = refused(numbers([1, 2, 3], parameters={"content_type": content}))
    assert "`content_type`" in told and "is none of base64, datetime, np, pd, str" in told
    assert not isinstance(content, str) or repr(content) in told


def test_numbers_are_no_base64() -> None:
    assert "base64 is of BYTES, not FP32" in refused(numbers([1, 2, 3], parameters={"content_type": "base64"}))


@given(st.lists(st.text(max_size=20), min_size=2, max_size=2))
def test_texts_travel_as_json(values: list[str]) -> None:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": values}
    one = echo("BYTES")
    request = one.decode(orjson.dumps({"inputs": [tensor]}))
    assert [value.decode() for value in request.arrays["x"].ravel()] == values
    answer = orjson.loads(one.encode(request, {"y": request.arrays["x"]}, "id").body)
    assert answer["outputs"][0]["data"] == values


def test_the_answer_echoes_id_and_names_endpoint_version_and_decision() -> None:
    request = NUMBERS_CODEC.decode(orjson.dumps(orjson.loads(numbers([1, 2, 3])) | {"id": "a-1"}))
    outputs = {"label": np.array([1]), "probabilities": np.array([[0.25, 0.75]], np.float32)}
    answer = orjson.loads(NUMBERS_CODEC.encode(request, outputs, "the-decision").body)
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("a-1", "credit", "3")
    assert answer["parameters"]["inference_id"] == "the-decision"
    assert [output["name"] for output in answer["outputs"]] == ["label", "probabilities"]


def test_only_the_named_outputs_come_back_but_the_log_has_all() -> None:
    body = orjson.dumps(orjson.loads(numbers([1, 2, 3])) | {"outputs": [{"name": "probabilities"}]})
    request = NUMBERS_CODEC.decode(body)
    outputs = {"label": np.array([1]), "probabilities": np.array([[0.25, 0.75]], np.float32)}
    encoded = NUMBERS_CODEC.encode(request, outputs, "id")
    assert [output["name"] for output in orjson.loads(encoded.body)["outputs"]] == ["probabilities"]
    assert len(orjson.loads(encoded.logged)["outputs"]) == 2


def test_a_model_s_nan_is_null_in_json() -> None:
    outputs = {"label": np.array([1]), "probabilities": np.array([[math.nan, 1.0]], np.float32)}
    encoded = NUMBERS_CODEC.encode(NUMBERS_CODEC.decode(numbers([1, 2, 3])), outputs, "id")
    assert orjson.loads(encoded.body)["outputs"][1]["data"] == [None, 1.0]


BAD_BODIES = {
    b"": "JSON",
    b"{": "JSON",
    b"[]": "object",
    b"null": "object",
    b'{"inputs":[]}': "inputs",
    b'{"inputs":{}}': "inputs",
    b'{"inputs":[1]}': "inputs",
    b'{"inputs":[{}]}': "it takes X, age, income, debt",
    b'{"inputs":[{"name":"Z"}]}': "'Z'",
    numbers([1, 2]): "needs 3 values",
    numbers([1, 2, 3, 4]): "needs 3 values",
    numbers([1, 2, "7"]): "column 'debt', row 0 is a string",
    numbers([1, True, 3]): "column 'income', row 0 is a boolean",
    numbers([None, 2, 3]): "column 'age', row 0 is missing",
    numbers([1, 2, 1e39]): "column 'debt', row 0 holds a number beyond FP32",
    numbers([1, 2, 3, 4, 5, None], (2, 3)): "column 'debt', row 1 is missing",
    numbers([1, 2, 3] * 99 + [1, 2, "x"], (100, 3)): "column 'debt', row 99 is a string",
    numbers([1, 2, 3] * 99 + [1, False, 3], (100, 3)): "column 'income', row 99 is a boolean",
    numbers([1, 2, 3] * 99 + [1, 2, 1e39], (100, 3)): "column 'debt', row 99 holds a number beyond FP32",
    numbers([[1, 2, 3], [4, 5]], (2, 3)): "nested otherwise",
    numbers([[[1, 2, 3]]]): "nested otherwise",
    numbers([[1, 2, 3]], (1, 4)): "shape",
    numbers([], (0, 3)): "no rows",
    numbers([1, 2, 3], (-1, 3)): "shape",
    numbers([1, 2, 3], ("1", 3)): "shape",
    numbers([1, 2, 3], (True, 3)): "shape",
    numbers([1, 2, 3], 3): "shape",
    numbers([1, 2, 3], (10**18, 3)): "shape",
    numbers({"a": 1}): "data",
    numbers([1, 2, 3], datatype="INT64"): "FP32",
    numbers([1, 2, 3], datatype=7): "FP32",
    numbers([1, 2, 3], parameters=[]): "parameters",
    b'{"inputs":[{"name":"X","shape":[1,3],"datatype":"FP32","data":[1,2,NaN]}]}': "JSON",
    b'{"inputs":[{"name":"X","shape":[1,3],"datatype":"FP32","data":[1,2,1e400]}]}': "JSON",
    b'{"inputs":[{"name":"X","shape":[1,3],"datatype":"FP32","data":[1,2,3],"data":[4,5,6]}]}': "'data' is there twice",
    b'{"inputs":[{"name":"X","shape":[3],"datatype":"FP32","data":[1,2,3]}],"id":"a","id":"b"}': "'id' is there twice",
    b'{"id":"\xff"}': "JSON",
    b'{"id":"\\ud800"}': "JSON",
    b"[" * 100_000: "JSON",
    b'{"a":' * 900 + b"1" + b"}" * 900: "inputs",
}


@pytest.mark.parametrize("body", BAD_BODIES, ids=[repr(body[:60]) for body in BAD_BODIES])
def test_bad_bodies_are_refused_by_name(body: bytes) -> None:
    assert BAD_BODIES[body] in refused(body)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"id": 7}, "`id`"),
        ({"id": "x" * 2000}, "`id`"),
        ({"id": "a\0b"}, "`id`"),
        ({"parameters": 1}, "parameters"),
        ({"parameters": {"entity": 5}}, "entity"),
        ({"parameters": {"correlation_id": "a\nb"}}, "correlation_id"),
        ({"parameters": {"binary_data_output": 1}}, "binary_data_output"),
        ({"outputs": [{"name": "nothing"}]}, "nothing"),
        ({"outputs": [{"name": "label", "parameters": {"binary_data": "yes"}}]}, "binary_data"),
        ({"outputs": "label"}, "outputs"),
    ],
)
def test_bad_members_are_refused_by_name(more: dict[str, Any], says: str) -> None:
    assert says in refused(orjson.dumps(orjson.loads(numbers([1, 2, 3])) | more))


@pytest.mark.parametrize(
    ("datatype", "value", "says"),
    [
        ("INT8", 300, "beyond INT8"), ("UINT8", -1, "beyond UINT8"), ("INT64", 2**63, "beyond INT64"),
        ("INT32", 1.0, "decimal"), ("INT32", True, "boolean"), ("BOOL", 1, "integer"), ("BOOL", "true", "string"),
        ("BYTES", 1, "integer"), ("FP16", 70000, "beyond FP16"), ("FP64", "1", "string"), ("UINT64", 2**70, "decimal"),
    ],
)  # fmt: skip
def test_no_datatype_takes_another_s_values(datatype: Any, value: Any, says: str) -> None:
    good: Any = {"BOOL": True, "BYTES": "x"}.get(datatype, 1)
    literal = str(value) if type(value) is int else orjson.dumps(value).decode()  # orjson writes 64 bits only
    tensor = orjson.dumps({"name": "x", "shape": [1, 2], "datatype": datatype, "data": [good, "@"]}).decode()
    assert says in refused(('{"inputs":[' + tensor.replace('"@"', literal) + "]}").encode(), echo(datatype))


@pytest.mark.parametrize(
    ("size", "tail", "json_length", "says"),
    [
        (12, b"\0" * 11, None, "claims 12 bytes"), (12, b"\0" * 13, None, "no tensor claims"),
        (8, b"\0" * 8, None, "needs 12 bytes"), (-1, b"", None, "whole number"),
        ("12", b"\0" * 12, None, "whole number"),
        (12, b"\0" * 12, 10**6, "not within"), (12, b"\0" * 12, 0, "not within"), (12, b"\0" * 12, -1, "header"),
        (12, struct.pack("<3f", 1, math.nan, 2), None, "column 'income', row 0 is missing"),
        (12, struct.pack("<3f", 1, math.inf, 2), None, "column 'income', row 0 is infinite"),
    ],
)  # fmt: skip
def test_bad_binary_tensors_are_refused(size: Any, tail: bytes, json_length: int | None, says: str) -> None:
    tensor = {"name": "X", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    head = orjson.dumps({"inputs": [tensor]})
    length = len(head) if json_length is None else None if json_length == -1 else json_length
    assert says in refused(head + tail if length is not None else head, json_length=length)


@pytest.mark.parametrize(("datatype", "printed", "beyond"), [
    ("FP32", 3.4028235e38, 3.4028236e38), ("FP16", 65519.0, 65520.0),
])  # fmt: skip
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("rows", [1, 50])
def test_a_number_that_is_rounded_to_the_largest_is_taken(
    datatype: Any, printed: float, beyond: float, sign: int, rows: int
) -> None:
    def asking(value: float) -> bytes:
        tensor = {"name": "x", "shape": [rows, 2], "datatype": datatype, "data": [1, sign * value] * rows}
        return orjson.dumps({"inputs": [tensor]})

    largest = sign * np.finfo(NUMPY[datatype]).max
    assert echo(datatype).decode(asking(printed)).arrays["x"][-1].tolist() == [1, largest]
    assert f"beyond {datatype}" in refused(asking(beyond), echo(datatype))


def test_a_colon_in_a_text_is_no_duplicate_key() -> None:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": ['a":1,"a":2', "::"]}
    assert echo("BYTES").decode(orjson.dumps({"inputs": [tensor]})).rows == 1


def beside(member: str, rows: int = 30_000) -> bytes:
    """A large request with another member."""
    values = b",".join([b"1.5"] * (3 * rows))
    return b'{%b,"inputs":[{"name":"X","datatype":"FP32","shape":[%d,3],"data":[%b]}]}' % (
        member.encode(), rows, values,
    )  # fmt: skip


@pytest.mark.parametrize("member", [
    '"id":"a:b"', r'"id":"a\":b"', r'"id":"\\\\","parameters":{"\\\"::\\":1}',
    '"parameters":{"deep":{"deeper":[{"a":1}]}}',
    '"other":[[{"a":{}}],"x:"]',
])  # fmt: skip
def test_no_colon_of_a_large_request_makes_it_read_slowly(member: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing else runs meanwhile")

    monkeypatch.setattr(document.json, "loads", slow)
    assert NUMBERS_CODEC.decode(beside(member)).rows == 30_000


@pytest.mark.parametrize("member", [
    '"id":"a","id":"b"', r'"id":"a","\u0069d":"b"', '"parameters":{"a":{"b":1,"b":1}}', '"other":[{"a":1,"a":{"b":1}}]',
    '"id":"::","parameters":{"a":1,"a":1}',
])  # fmt: skip
def test_a_key_that_is_there_twice_is_refused_in_a_request_of_any_size(member: str) -> None:
    assert refused(beside(member)) == "a key of the body is there twice"
    assert refused(beside(member, 2)).endswith(" is there twice")
    assert "the key" in refused(beside(member, 2))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(
    JSON | st.builds(
        lambda d, s, t, p: {"inputs": [{"name": "X", "data": d, "shape": s, "datatype": t, "parameters": p}]},
        JSON, JSON, JSON | st.just("FP32"), JSON,
    )
)  # fmt: skip
def test_no_json_is_answered_with_anything_but_a_refusal(value: Any) -> None:
    try:
        NUMBERS_CODEC.decode(orjson.dumps(value))
    except BadInput as refusal:
        assert len(refusal.message) <= LIMIT


@given(st.dictionaries(st.text(), JSON, max_size=4), st.booleans())
def test_an_object_without_duplicates_is_taken_and_one_with_them_is_not(value: dict[str, Any], twice: bool) -> None:
    raw = orjson.dumps(value)
    if not twice:
        assert document.parse_object(raw) == value
    else:
        with pytest.raises(BadInput, match="twice"):
            document.parse_object(b'{"":{"a":%b,"a":1},%b' % (raw, orjson.dumps(value | {"end": 1})[1:]))


@given(st.binary(max_size=80), st.integers(-5, 90) | st.none())
def test_no_bytes_are_answered_with_anything_but_a_refusal(body: bytes, length: int | None) -> None:
    with pytest.raises(BadInput):
        NUMBERS_CODEC.decode(body, length)


# Columns


def named(**columns: Any) -> bytes:
    return orjson.dumps({
        "inputs": [
            {"name": name, "shape": [len(values)], "datatype": "FP64", "data": values}
            for name, values in columns.items()
        ]
    })  # fmt: skip


def test_a_row_may_come_as_named_columns_in_any_order() -> None:
    request = NUMBERS_CODEC.decode(named(debt=[3, 6], age=[1, 4], income=[2, 5]))
    np.testing.assert_array_equal(request.arrays["X"], np.array([[1, 2, 3], [4, 5, 6]], np.float32))
    logged = orjson.loads(request.logged)["inputs"]
    assert [(one["name"], one["shape"], one["data"]) for one in logged] == [("X", [2, 3], [1, 2, 3, 4, 5, 6])]


BINARY_COLUMNS = [name for name in NUMERIC if name != "BOOL"]


def columns_in_binary(*given: tuple[str, Any, list[int], bytes], more: bytes = b"") -> tuple[bytes, int]:
    """A body of named columns (name, datatype, shape, bytes), and how much of it is JSON."""
    head = orjson.dumps({
        "inputs": [
            {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(raw)}}
            for name, datatype, shape, raw in given
        ]
    })  # fmt: skip
    return head + b"".join(raw for *_, raw in given) + more, len(head)


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("datatype", BINARY_COLUMNS)
def test_named_columns_mean_the_same_in_binary(datatype: Any, flat: bool) -> None:
    columns = {name: np.array(values, NUMPY[datatype]) for name, values in
               {"debt": [3, 6], "age": [1, 4], "income": [2, 5]}.items()}  # fmt: skip
    shape = [2] if flat else [2, 1]
    body, length = columns_in_binary(*((n, datatype, shape, values.tobytes()) for n, values in columns.items()))
    request = NUMBERS_CODEC.decode(body, length)
    as_json = NUMBERS_CODEC.decode(named(debt=[3, 6], age=[1, 4], income=[2, 5]))
    np.testing.assert_array_equal(request.arrays["X"], as_json.arrays["X"])
    assert (request.rows, request.logged) == (2, as_json.logged)


def test_named_columns_may_be_binary_beside_json() -> None:
    inputs = [
        {"name": "income", "datatype": "INT8", "shape": [1], "data": [2]},
        {"name": "debt", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8}},
        {"name": "age", "datatype": "FP32", "shape": [1, 1], "parameters": {"binary_data_size": 4}},
    ]
    head = orjson.dumps({"inputs": inputs})
    request = NUMBERS_CODEC.decode(head + struct.pack("<df", 3, 1), len(head))
    assert request.arrays["X"].tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([("age", "FP32", [1], b"\0" * 4), ("income", "FP32", [1], b"\0" * 4)], "'debt' is missing"),
        ([("age", "FP32", [1], b"\0" * 3)], "needs 4 bytes"), ([("age", "FP32", [2], b"\0" * 4)], "needs 8 bytes"),
        ([("age", "BYTES", [1], b"\1\0\0\0x")], "'age' has datatype 'BYTES'; a number is needed"),
        ([("age", "BOOL", [1], b"\1")], "a number is needed"), ([("zip", "FP32", [1], b"\0" * 4)], "'zip'"),
        ([("age", "FP32", [1], b"\0" * 4)] * 2, "there twice"), ([("age", "FP32", [1, 2], b"\0" * 8)], "shape"),
        ([(name, "FP32", [1], b"\0\0\xc0\x7f") for name in ("age", "income", "debt")], "'age', row 0 is missing"),
        ([(name, "FP64", [1], struct.pack("<d", 1e300)) for name in ("age", "income", "debt")], "'age', row 0 is inf"),
    ],
)  # fmt: skip
def test_bad_binary_columns_are_refused_by_name(given: Any, says: str) -> None:
    body, length = columns_in_binary(*given)
    assert says in refused(body, json_length=length)


def test_bytes_that_no_named_column_claims_are_refused() -> None:
    columns = [(name, "FP32", [1], b"\0" * 4) for name in ("age", "income", "debt")]
    body, length = columns_in_binary(*columns, more=b"x")
    assert "1 bytes follow the JSON part that no tensor claims" in refused(body, json_length=length)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"age": [1], "income": [2]}, "column 'debt' is missing"),
        ({"age": [1], "income": [2], "debt": [3], "zip": [4]}, "column 'zip' is not one"),
        ({"age": [1], "income": [2, 3], "debt": [3]}, "rows"),
        ({"age": ["1"], "income": [2], "debt": [3]}, "column 'age', row 0 is a string"),
        ({"age": [None], "income": [2], "debt": [3]}, "column 'age', row 0 is missing"),
        ({"age": [1e300], "income": [2], "debt": [3]}, "column 'age', row 0 is infinite"),
    ],
)
def test_bad_columns_are_refused_by_name(columns: dict[str, Any], says: str) -> None:
    assert says in refused(named(**columns))


def test_a_nullable_column_may_be_missing_and_is_logged_as_null() -> None:
    one = echo("FP32", Column(name="a"), Column(name="b", nullable=True))
    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, None, 2, 3]}
    request = one.decode(orjson.dumps({"inputs": [tensor]}))
    assert np.isnan(request.arrays["x"][0, 1])
    tensor["data"] = [None, 1, 2, 3]
    assert "column 'a', row 0 is missing" in refused(orjson.dumps({"inputs": [tensor]}), one)
    raw = struct.pack("<4f", 1, math.nan, 2, 3)
    binary = {"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    head = orjson.dumps({"inputs": [binary]})
    assert orjson.loads(one.decode(head + raw, len(head)).logged)["inputs"][0]["data"] == [1.0, None, 2.0, 3.0]


SECRET = 987654.25


@pytest.mark.parametrize("way", ["matrix", "columns", "binary"])
def test_a_sensitive_column_leaves_as_a_token_only(way: str) -> None:
    one = echo("FP64", Column(name="a"), Column(name="b", sensitive=True))
    matrix = {"name": "x", "shape": [1, 2], "datatype": "FP64"}
    binary = orjson.dumps({"inputs": [matrix | {"parameters": {"binary_data_size": 16}}]})
    body, length = {
        "matrix": (orjson.dumps({"inputs": [matrix | {"data": [1, SECRET]}]}), None),
        "columns": (named(a=[1], b=[SECRET]), None),
        "binary": (binary + struct.pack("<2d", 1, SECRET), len(binary)),
    }[way]
    request = one.decode(body, length)
    assert request.arrays["x"][0, 1] == SECRET
    assert b"987654" not in request.logged
    assert orjson.loads(request.logged)["inputs"][0]["data"] == [1.0, TOKENS.token("b", SECRET)]


def test_beside_a_sensitive_column_the_log_keeps_no_parameter_of_the_callers_own() -> None:
    said = {"entity": "e-1", "correlation_id": "c-1", "iban": "CH93 0076", "note": {"b": 2.0}}
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1.0, 2.0]}
    body = orjson.dumps({"inputs": [tensor], "parameters": said})
    hidden = echo("FP64", Column(name="a"), Column(name="b", sensitive=True)).decode(body)
    assert orjson.loads(hidden.logged)["parameters"] == {"entity": "e-1", "correlation_id": "c-1"}
    assert (hidden.entity, hidden.correlation_id) == ("e-1", "c-1")
    open_to_all = echo("FP64", Column(name="a"), Column(name="b")).decode(body)
    assert orjson.loads(open_to_all.logged)["parameters"] == said


def test_a_sensitive_tensor_of_its_own_leaves_as_tokens() -> None:
    schema = ModelSchema(
        inputs=tuple(TensorSpec(name=name, datatype="BYTES", shape=(-1,)) for name in ("name", "city")),
        outputs=(TensorSpec(name="y", datatype="FP32", shape=(-1,)),),
        columns=(Column(name="name", kind="categorical", sensitive=True),),
        prediction="y",
    )
    tensors = [
        {"name": n, "shape": [1], "datatype": "BYTES", "data": [v]} for n, v in (("name", "Ada"), ("city", "Ulm"))
    ]
    logged = codec(schema).decode(orjson.dumps({"inputs": tensors})).logged
    assert b"Ada" not in logged
    assert b"Ulm" in logged


def test_a_sensitive_column_that_no_tensor_carries_does_not_serve() -> None:
    with pytest.raises(BadInput, match="'a' is sensitive"):
        codec(NUMBERS.model_copy(update={
            "inputs": (*NUMBERS.inputs, TensorSpec(name="second", datatype="FP32", shape=(-1,))),
            "columns": (Column(name="a", sensitive=True),),
        }))  # fmt: skip


def test_tokens_are_stable_keyed_and_per_column() -> None:
    assert TOKENS.token("a", 34) == TOKENS.token("a", 34.0)
    assert TOKENS.token("a", 34) != TOKENS.token("b", 34)
    assert Tokeniser(b"other" * 7).token("a", 34) != TOKENS.token("a", 34)
    assert TOKENS.token("a", math.nan) is None


_WHOLE = st.integers(-(2**63), 2**64 - 1)
_LARGE = st.sampled_from([2.0**53, -(2.0**63), 2.0**64, 1e20, -1e300]) | _WHOLE.map(float)


@given(one=st.floats(allow_nan=False) | _LARGE, other=st.floats(allow_nan=False) | _LARGE)
def test_every_number_has_a_token_and_equal_numbers_share_it(one: float, other: float) -> None:
    assert (TOKENS.token("a", one) == TOKENS.token("a", other)) == (one == other)


@given(whole=_WHOLE)
def test_a_whole_number_has_the_token_of_its_float(whole: int) -> None:
    assert (TOKENS.token("a", whole) == TOKENS.token("a", float(whole))) == (float(whole) == whole)


def test_a_large_number_in_a_sensitive_column_is_logged_as_a_token() -> None:
    columns = (Column(name="income", sensitive=True), Column(name="age"))
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1e20, 34.0]}
    assert b'"tok_' in echo("FP32", *columns).decode(orjson.dumps({"inputs": [tensor]})).logged


# MLflow's answers


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[b"a", b"b"], [b"c", b"d"]], [["a", "b"], ["c", "d"]]),
        ([b"a", "b"], ["a", "b"]),
        ([b"\xff", b"a"], ["/w==", "YQ=="]),
        ([[b"\xff"], [b"a"]], [["/w=="], ["YQ=="]]),
    ],
)
def test_texts_and_bytes_are_predictions_in_the_shape_that_the_model_gives_them(values: Any, said: Any) -> None:
    spec = TensorSpec(name="y", datatype="BYTES", shape=(-1, -1))
    schema = ModelSchema(inputs=(spec,), outputs=(spec,), prediction="y")
    made = np.array(values, object)
    assert orjson.loads(mlflow.encode({"y": made}, schema)) == {"predictions": said}


def whole(cell: str) -> Any:
    spec = TensorSpec(name="n", datatype="INT64", shape=(-1,))
    schema = ModelSchema(inputs=(spec,), outputs=(spec,), prediction="n")
    return mlflow.decode(f"n\n{cell}\n".encode(), "mlflow-csv", codec(schema), schema).arrays["n"].tolist()


@pytest.mark.parametrize(("cell", "number"), [("2", 2), ("2.0", 2), ("-3e1", -30)])
def test_a_whole_number_of_csv_is_an_integer_however_it_is_written(cell: str, number: int) -> None:
    assert whole(cell) == [number]


@pytest.mark.parametrize("cell", ["1.5", "1e300", "9007199254740992.0"])
def test_a_number_of_csv_that_is_no_exact_integer_is_refused(cell: str) -> None:
    with pytest.raises(BadInput, match="n"):
        whole(cell)


# The quick way

_VALUE = st.floats(allow_nan=False, allow_infinity=False, width=32) | st.integers(-(2**53), 2**53)
_ODD = _VALUE | st.none() | st.booleans() | st.text(max_size=2) | st.just(1e39) | st.just([1.0])


@given(
    data=st.lists(_VALUE, min_size=3, max_size=3)
    | st.lists(_ODD, max_size=7)
    | st.lists(_ODD, min_size=99, max_size=99),
    shape=st.sampled_from([[1, 3], [2, 3], [33, 3], [1, 4], [3], [True, 3], ["1", 3], [0, 3], [-1, 3], None]),
    more=st.fixed_dictionaries(
        {},
        optional={"id": st.none() | st.text(max_size=3) | st.just(5), "parameters": JSON, "outputs": JSON, "x": JSON},
    ),
    extra=st.fixed_dictionaries({}, optional={"parameters": JSON, "datatype": st.just("FP64"), "name": st.just("Y")}),
)
def test_the_quick_way_says_what_the_long_way_says(data: Any, shape: Any, more: Any, extra: Any) -> None:
    body = orjson.dumps({"inputs": [{"name": "X", "shape": shape, "datatype": "FP32", "data": data} | extra]} | more)
    long = codec(NUMBERS)
    long._quick = None

    def said(one: Codec) -> Any:
        try:
            read = one.decode(body)
        except BadInput as refusal:
            return refusal.message
        return (
            read.arrays["X"].tolist(),
            read.arrays["X"].dtype,
            read.rows,
            read.id,
            read.entity,
            read.logged,
            read.wanted,
        )

    assert said(NUMBERS_CODEC) == said(long)


@pytest.mark.parametrize("rows", [1, 10, 100])
def test_plain_requests_are_read_the_quick_way(rows: int) -> None:
    one = codec(NUMBERS)
    one._read = None  # pyright: ignore[reportAttributeAccessIssue]  # the long way would call it
    assert one.decode(numbers([1.5, 2, 3] * rows, (rows, 3))).rows == rows
