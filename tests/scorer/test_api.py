"""The scorer over HTTP: a real worker, a real model, real tokens; every answer is in the spool."""

import gzip
import http.client
import json
import os
import signal
import socket
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from contracts import Column, InferenceLogged, ModelSchema, TensorSpec
from services.kit.release import version
from services.scorer.logrecord import LogRecord
from services.scorer.packages import Packages

from .living import Worker, bearer, rows
from .making import NUMBERS, House, classifier, echo, package

MODEL = classifier()
OTHER = classifier(bias=1e6)
"""It never says yes: so it is seen which version answered."""


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    house = House(tmp_path_factory.mktemp("scorer") / "home", max_body_bytes=1024 * 1024)
    with Worker(house, FAIRLEAD_MAX_BODY_BYTES=str(1024 * 1024)) as one:
        texts = ModelSchema(
            inputs=(TensorSpec(name="x", datatype="BYTES", shape=(-1,)),),
            outputs=(TensorSpec(name="y", datatype="BYTES", shape=(-1,)),), prediction="y",
        )  # fmt: skip
        one.deploy(
            house.serving("credit", MODEL),
            house.serving("wealth", MODEL, unit="wealth"),
            house.serving("texts", echo("BYTES", ("n",)), texts),
        )
        yield one


@pytest.fixture(scope="module")
def token(worker: Worker) -> str:
    return worker.house.token()


def records(worker: Worker) -> list[InferenceLogged]:
    return [
        InferenceLogged.from_json(LogRecord.from_spool(payload).value("w", seq)) for seq, payload in worker.spooled()
    ]


def test_an_answer_carries_its_decision_and_is_in_the_spool_before_it_arrives(worker: Worker, token: str) -> None:
    answer = worker.infer("credit", rows([1, 2, 3], id="r-1", parameters={"entity": "customer-7"}), token)
    assert answer.status_code == 200
    body = answer.json()
    logged = records(worker)[-1]
    assert body["parameters"]["inference_id"] == answer.headers["fairlead-inference-id"] == logged.inference_id
    assert (body["id"], body["model_name"], body["model_version"]) == ("r-1", "credit", "1")
    assert (logged.request_id, logged.entity, logged.application) == ("r-1", "customer-7", "application")
    assert (logged.endpoint, logged.unit, logged.use_case, logged.mode) == ("credit", "retail", "loans", "rest")
    assert (logged.variant, logged.rows, logged.version) == ("champion", 1, 1)
    assert logged.request["inputs"][0]["data"] == [1, 2, 3]
    assert logged.response == body


def test_the_answer_is_the_model_s(worker: Worker, token: str) -> None:
    answer = worker.infer("credit", rows([1, 1, 1], [-1, -1, -1]), token).json()
    assert answer["outputs"][0]["data"] == [1, 0]


def test_binary_tensors_in_and_out(worker: Worker, token: str) -> None:
    values = np.array([[1, 1, 1], [-1, -1, -1]], "<f4")
    tensor = {"name": "X", "shape": [2, 3], "datatype": "FP32", "parameters": {"binary_data_size": values.nbytes}}
    head = orjson.dumps({"inputs": [tensor], "outputs": [{"name": "label", "parameters": {"binary_data": True}}]})
    answer = worker.infer(
        "credit", head + values.tobytes(), token, **{"Inference-Header-Content-Length": str(len(head))}
    )  # fmt: skip
    length = int(answer.headers["inference-header-content-length"])
    assert np.frombuffer(answer.content[length:], "<i8").tolist() == [1, 0]
    assert orjson.loads(answer.content[:length])["outputs"][0]["parameters"]["binary_data_size"] == 16
    assert records(worker)[-1].request["inputs"][0]["data"] == [1, 1, 1, -1, -1, -1]


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", lambda b: zlib.compress(b, wbits=-15))],
)
def test_compressed_bodies(worker: Worker, token: str, encoding: str, compress: Any) -> None:
    body = compress(orjson.dumps(rows(*[[1.0, 2.0, 3.0]] * 200)))
    headers = {"Content-Encoding": encoding, "Accept-Encoding": encoding}
    answer = worker.infer("credit", body, token, **headers)
    assert answer.headers["content-encoding"] == encoding
    assert len(answer.json()["outputs"][0]["data"]) == 200


def test_of_two_tokens_none_is_taken(worker: Worker, token: str) -> None:
    both = [("authorization", f"Bearer {token}")] * 2
    for method, path in (("GET", "/v2/models/credit"), ("POST", "/v2/models/credit/infer")):
        answer = httpx.request(method, worker.url + path, headers=both, content=b"{}")
        assert (answer.status_code, answer.json()) == (401, {"error": "send one Authorization header, not several"})


def test_texts(worker: Worker, token: str) -> None:
    tensor = {"name": "x", "shape": [2], "datatype": "BYTES", "data": ["grün", ""]}
    assert worker.infer("texts", {"inputs": [tensor]}, token).json()["outputs"][0]["data"] == ["grün", ""]


def test_metadata_and_health(worker: Worker, token: str) -> None:
    said = worker.get("/v2/models/credit", token).json()
    assert (said["name"], said["versions"]) == ("credit", ["1"])
    assert said["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 3]}]
    assert worker.get("/v2/models/credit/versions/1", token).json() == said
    assert "binary_tensor_data" in worker.get("/v2", token).json()["extensions"]
    for path in (
        "/livez",
        "/readyz",
        "/v2/health/live",
        "/v2/health/ready",
        "/metrics",
        "/openapi.json",
        "/asyncapi.json",
    ):
        assert worker.get(path).status_code == 200, path
    assert worker.get("/openapi.json").json()["info"]["version"] == version()
    for path in ("/v2/models/credit/ready", "/v2/models/credit/versions/1/ready"):
        assert worker.get(path, token).json()["ready"] is True


def test_the_index_shows_what_the_caller_s_units_may_see(worker: Worker, token: str) -> None:
    def names(token: str) -> set[str]:
        return {one["name"] for one in worker.post("/v2/repository/index", b"{}", token).json()}

    assert names(token) == {"credit", "texts"}
    assert names(worker.house.token("admin", ("*",))) == {"credit", "texts", "wealth"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/nothing/infer", 404), ("/v2/models/credit/versions/9/infer", 404),
        ("/v2/models/credit/versions/x/infer", 404), ("/v2/models/credit/else/1/infer", 404),
        ("/v2/models//infer", 404), ("/v2/models/wealth/infer", 404), ("/v2/nothing", 404),
        ("/v2/models/" + "x" * 3000 + "/infer", 404), ("/v2/models/..%2f..%2fetc/infer", 404),
        ("/invocations/nothing", 404), ("/invocations/wealth", 404), ("/v1/models/nothing:predict", 404),
        ("/v1/models/credit:explain", 404),
    ],
)  # fmt: skip
def test_wrong_paths_are_refused_in_the_protocol_s_shape(worker: Worker, token: str, path: str, status: int) -> None:
    body = {"instances": [[1, 2, 3]]} if path.startswith(("/invocations", "/v1")) else rows([1, 2, 3])
    answer = worker.post(path, body, token)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert len(answer.content) <= 2048


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v2/models/credit/infer", "POST"), ("GET", "/v2/models/credit/versions/1/infer", "POST"),
        ("DELETE", "/invocations/credit", "POST"), ("GET", "/v2/repository/index", "POST"),
        ("POST", "/v2/models/credit", "GET"), ("DELETE", "/v2/models/credit/versions/1/ready", "GET"),
        ("GET", "/v1/models/credit:predict", "POST"), ("DELETE", "/v1/models/credit", "GET"),
        ("POST", "/v2", "GET"), ("PATCH", "/v2/health/live", "GET, HEAD"), ("POST", "/livez", "GET, HEAD"),
        ("POST", "/openapi.json", "GET"),
    ],
)  # fmt: skip
def test_another_method_is_refused_with_those_that_are_taken(
    worker: Worker, token: str, method: str, path: str, allow: str
) -> None:
    answer = httpx.request(method, worker.url + path, headers=bearer(token))
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    assert allow in answer.json()["error" if path.startswith(("/v2", "/inv", "/v1")) else "detail"]


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 200), (b"{}", 200), (b'{"ready": true}', 200), (b"[", 400), (b'{"ready": 1}', 400)]
)
def test_the_index_takes_an_object_or_nothing(worker: Worker, token: str, body: bytes, status: int) -> None:
    assert worker.post("/v2/repository/index", body, token).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401), ({"Authorization": "Basic x"}, 401), ({"Authorization": "Bearer x"}, 401),
        ({"Authorization": "Bearer " + "x" * 5000}, 401), ({"Authorization": "Bearer ä".encode()}, 401),
    ],
)  # fmt: skip
def test_without_a_valid_token_nothing_is_said(worker: Worker, headers: dict[str, Any], status: int) -> None:
    answer = httpx.post(f"{worker.url}/v2/models/credit/infer", content=b"{}", headers=headers)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])


def test_a_role_that_may_not_score_is_refused(worker: Worker) -> None:
    token = worker.house.token("executive", ("*",))
    assert worker.infer("credit", rows([1, 2, 3]), token).status_code == 403


def test_bad_input_changes_nothing_and_is_never_a_5xx(worker: Worker, token: str) -> None:
    before = len(worker.spooled())
    bodies: list[tuple[bytes, dict[str, str], int]] = [
        (b"", {}, 400), (b"{}", {}, 400), (b"\xff\xfe", {}, 400), (b"[" * 500_000, {}, 400),
        (b"x", {"Content-Encoding": "gzip"}, 400), (b"x", {"Content-Encoding": "br"}, 415),
        (gzip.compress(b"0" * 50_000_000), {"Content-Encoding": "gzip"}, 413),
        (gzip.compress(b"{}")[:-6], {"Content-Encoding": "gzip"}, 400), (b"0" * 1_100_000, {}, 413),
        (b"{}", {"Inference-Header-Content-Length": "-1"}, 400), (b"{}", {"Inference-Header-Content-Length": "9"}, 400),
        (b"{}", {"Inference-Header-Content-Length": "1e9"}, 400),
        (orjson.dumps(rows([1, 2, 3], id="x" * 600_000)), {}, 400),
    ]  # fmt: skip
    for body, headers, status in bodies:
        answer = worker.infer("credit", body, token, **headers)
        assert (answer.status_code, list(answer.json())) == (status, ["error"]), body[:40]
        assert len(answer.content) <= 2048
    raw = b"\x01\x00\x00\x00\xff"
    tensor = {"name": "x", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}}
    head = orjson.dumps({"inputs": [tensor]})
    answer = worker.infer("texts", head + raw, token, **{"Inference-Header-Content-Length": str(len(head))})
    assert answer.status_code == 422
    assert len(worker.spooled()) == before


def test_a_chunked_body_has_the_same_bound(worker: Worker, token: str) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(40):
            yield b"0" * 65536

    answer = httpx.post(f"{worker.url}/v2/models/credit/infer", content=pieces(), headers=bearer(token))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["debt", "age", "income"], "data": [[1, 1, 1], [-1, -1, -1]]}},
        {"dataframe_records": [{"age": 1, "income": 1, "debt": 1}, {"age": -1, "income": -1, "debt": -1}]},
        {"instances": [[1, 1, 1], [-1, -1, -1]]}, {"inputs": [[1, 1, 1], [-1, -1, -1]]},
        {"inputs": {"age": [1, -1], "income": [1, -1], "debt": [1, -1]}}, {"inputs": {"X": [[1, 1, 1], [-1, -1, -1]]}},
        {"params": {}, "instances": [[1, 1, 1], [-1, -1, -1]]}, {"params": None, "inputs": [[1, 1, 1], [-1, -1, -1]]},
        {"dataframe_split": {"index": [7, 8], "columns": ["age", "income", "debt"], "data": [[1, 1, 1], [-1, -1, -1]]}},
    ],
    ids=lambda body: next(iter(body)),
)  # fmt: skip
def test_mlflow_s_protocol(worker: Worker, token: str, body: Any) -> None:
    answer = worker.post("/invocations/credit", body, token)
    assert answer.json() == {"predictions": [1, 0]}
    logged = records(worker)[-1]
    assert logged.inference_id == answer.headers["fairlead-inference-id"]
    assert logged.request["inputs"][0]["shape"] == [2, 3]
    assert logged.response["outputs"][0]["data"] == [1, 0]


def test_kserve_s_first_protocol(worker: Worker, token: str) -> None:
    answer = worker.post("/v1/models/credit:predict", {"instances": [[1, 1, 1], [-1, -1, -1]]}, token)
    assert answer.json() == {"predictions": [1, 0]} and answer.headers["fairlead-variant"] == "champion"
    assert records(worker)[-1].inference_id == answer.headers["fairlead-inference-id"]
    assert "credit" in worker.get("/v1/models", token).json()["models"]
    assert worker.get("/v1/models/credit", token).json() == {"name": "credit", "ready": True}
    refused = worker.post("/v1/models/credit:predict", {"instances": [["a", 1, 1]]}, token)
    assert refused.status_code == 400 and list(refused.json()) == ["error"]


def test_mlflow_s_callers_name_their_entity_and_hear_who_answered(worker: Worker, token: str) -> None:
    body = {"instances": [[1, 1, 1]]}
    answer = worker.post("/invocations/credit", body, token, **{"Fairlead-Entity": "customer-17"})
    assert (answer.headers["fairlead-model-version"], answer.headers["fairlead-variant"]) == ("1", "champion")
    assert records(worker)[-1].entity == "customer-17"
    refused = worker.post("/invocations/credit", body, token, **{"Fairlead-Entity": "x" * 300})
    assert refused.status_code == 400 and "Fairlead-Entity" in refused.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"debt,age,income\n1,1,1\n-1,-1,-1\n", b"\xef\xbb\xbfage,income,debt\r\n1,1,+1.0\r\n\r\n-1e0,-1,-1.",
        b'"age","income","debt"\n" 1","1","1"\n"-1","-1","-1"\n',
    ],
)  # fmt: skip
def test_mlflow_s_csv(worker: Worker, token: str, body: bytes) -> None:
    answer = worker.post("/invocations/credit", body, token, **{"Content-Type": "text/csv; charset=utf-8"})
    assert answer.json() == {"predictions": [1, 0]}
    assert records(worker)[-1].request["inputs"][0]["shape"] == [2, 3]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no line"), (b"age,income,debt\n", "no rows"), (b"age,income\n1,1\n", "'debt' is missing"),
        (b"age,income,debt\n1,,1\n", "'income', row 0 is missing"), (b"age,age,debt\n1,1,1\n", "twice"),
        (b"age,income,debt\n1,1,1\n1,1\n", "row 1"), (b"age,income,debt\n1,1_0,1\n", "'income'"),
        (b"age,income,debt\n1,nan,1\n", "'income'"), (b"age,income,debt\n1,inf,1\n", "'income'"),
        (b"age,income,debt\n1,1e999,1\n", "'income'"), (b"age,income,debt\n1,\xff,1\n", "UTF-8"),
        (b'age,income,debt\n1,"1,1\n', "cannot be read"), (b"age,income,debt\n1,\x00,1\n", "'income'"),
        (b"age,income,zip\n1,1,1\n", "'zip'"), (b"age,income,debt\n1," + b"9" * 399 + b",1\n", "'income'"),
        (b"age,income,debt\n1," + b"9" * 5000 + b",1\n", "'income'"),
    ],
)  # fmt: skip
def test_mlflow_s_bad_csv_is_refused_by_name(worker: Worker, token: str, body: bytes, says: str) -> None:
    answer = worker.post("/invocations/credit", body, token, **{"Content-Type": "text/csv"})
    assert answer.status_code == 400
    assert says in answer.json()["error"]


def test_mlflow_s_other_content_types_are_refused_by_name(worker: Worker, token: str) -> None:
    answer = worker.post("/invocations/credit", b"x", token, **{"Content-Type": "application/x-parquet"})
    assert answer.status_code == 400
    assert "application/x-parquet" in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"dataframe_records": [{"age": 1, "income": 1}]}, "'debt' is missing"),
        ({"dataframe_records": [{"age": "1", "income": 1, "debt": 1}]}, "'age'"),
        ({"dataframe_records": [{"age": 1, "income": 1, "debt": True}]}, "'debt'"),
        ({"dataframe_split": {"columns": ["age"], "data": [[1, 2]]}}, "row 0"), ({"instances": [[1, 2]]}, "shape"),
        ({"instances": [["1", 2, 3]]}, "'age'"), ({}, "exactly one"), ({"instances": [], "inputs": []}, "exactly one"),
        ({"dataframe_records": []}, "missing"), ({"inputs": {"zip": [1]}}, "'zip'"), ({"instances": None}, "shape"),
        ({"inputs": [[1, 2, 3]], "params": {"threshold": 0.9}}, "`params` ('threshold')"),
        ({"inputs": [[1, 2, 3]], "params": [0.9]}, "`params`"), ({"inputs": [[1, 2, 3]], "params": 0}, "`params`"),
        ({"inputs": [[1, 2, 3]], "nonsense": None}, "'nonsense'"), ({"instances": [[1, 2, 3]], "id": "7"}, "'id'"),
        ({"instances": [[1, 2, 3]], "signature_name": "serving_default"}, "'signature_name'"),
        ({"dataframe_split": {"columns": ["age", "income", "debt"], "data": [[1, 2, 3]], "rows": 1}}, "'rows'"),
    ],
)  # fmt: skip
def test_mlflow_s_bad_rows_are_refused_by_name(worker: Worker, token: str, body: Any, says: str) -> None:
    answer = worker.post("/invocations/credit", body, token)
    assert answer.status_code == 400
    assert says in answer.json()["error"]


def test_metrics_show_what_happened(worker: Worker, token: str) -> None:
    worker.infer("credit", rows([1, 2, 3]), token)
    page = worker.get("/metrics").text
    assert 'fairlead_scorer_inferences_total{endpoint="credit",version="1",process="worker-0"}' in page
    assert page.count("# TYPE fairlead_scorer_spooled_total ") == 1


def test_metrics_are_not_for_strangers_behind_a_proxy(worker: Worker, token: str) -> None:
    behind = {"X-Forwarded-For": "203.0.113.9"}
    assert httpx.get(f"{worker.url}/metrics", headers=behind).status_code == 401
    assert httpx.get(f"{worker.url}/metrics", headers=behind | bearer(token)).status_code == 200


# Hostile requests


def matrix(**more: Any) -> dict[str, Any]:
    """A request by named columns, which the log says anew; `more` is in the first tensor."""
    names = ("age", "income", "debt")
    tensors = [{"name": n, "shape": [1], "datatype": "FP32", "data": [1.0]} for n in names]
    return {"inputs": [tensors[0] | more, *tensors[1:]]}


def deep(levels: int) -> Any:
    return [] if levels == 0 else [deep(levels - 1)]


@pytest.mark.parametrize(
    "body",
    [
        matrix(name=[]), matrix(name={}), matrix(datatype=[]), matrix(datatype={"a": 1}), matrix(shape=[2**62]),
        matrix() | {"parameters": {"x": deep(300)}}, matrix(data="abc"),
        rows([1, 2, 3]) | {"parameters": {"binary_data_output": False, "x": deep(300)}},
        rows([1, 2, 3], outputs=[{"name": ["label"]}]), rows([1, 2, 3], outputs=[{"name": "label", "parameters": 5}]),
        rows([1, 2, 3]) | {"parameters": {"x": deep(300)}}, {"inputs": [[]]}, {"inputs": {"X": 1}}, [], None, "text",
        {"inputs": rows([1, 2, 3])["inputs"] * 2},
    ],
    ids=lambda body: str(body)[:50],
)  # fmt: skip
def test_no_json_makes_a_5xx(worker: Worker, token: str, body: Any) -> None:
    before = len(worker.spooled())
    answer = worker.infer("credit", json.dumps(body).encode(), token)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert len(worker.spooled()) == before


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs": {"x": 5}}', b'{"inputs": {"x": null}}', b'{"dataframe_records": [{"x": [1]}]}',
        b'{"instances": [{"y": 1}]}',
    ],
)  # fmt: skip
def test_no_mlflow_json_makes_a_5xx(worker: Worker, token: str, body: bytes) -> None:
    answer = worker.post("/invocations/texts", body, token)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_another_unit_s_endpoint_cannot_be_told_from_one_that_is_not_there(worker: Worker, token: str) -> None:
    paths = ("/v2/models/{}/infer", "/v2/models/{}/versions/1/infer", "/invocations/{}")
    for path in paths:
        foreign = worker.post(path.format("wealth"), rows([1, 2, 3]), token)
        unknown = worker.post(path.format("nobody"), rows([1, 2, 3]), token)
        assert foreign.status_code == unknown.status_code == 404
        assert foreign.text == unknown.text.replace("nobody", "wealth")
    for path in ("/v2/models/{}", "/v2/models/{}/ready", "/v2/models/{}/versions/1"):
        foreign, unknown = worker.get(path.format("wealth"), token), worker.get(path.format("nobody"), token)
        assert foreign.status_code == unknown.status_code == 404
        assert foreign.text == unknown.text.replace("nobody", "wealth")
    outsider = worker.house.token("executive", ("*",))
    assert {worker.infer(name, rows([1, 2, 3]), outsider).status_code for name in ("credit", "nobody")} == {403}


def test_what_v2_does_not_know_is_not_logged(worker: Worker, token: str) -> None:
    body = rows([1, 2, 3])
    body["inputs"][0]["x"] = deep(300)
    answer = httpx.post(
        f"{worker.url}/v2/models/credit/infer", content=json.dumps(body).encode(), headers=bearer(token)
    )  # fmt: skip
    assert answer.status_code == 200
    assert records(worker)[-1].request == rows([1, 2, 3])


def test_a_caller_s_reference_to_an_object_does_not_reach_the_log(worker: Worker, token: str) -> None:
    stolen = {"digest": "sha256:" + "0" * 64, "media_type": "application/json", "first_row": 0, "rows": 1}
    assert worker.infer("credit", rows([1, 2, 3], reference=stolen), token).status_code == 200
    logged = records(worker)[-1]
    assert set(logged.request) == {"inputs"} and logged.request["inputs"][0]["data"] == [1, 2, 3]


@pytest.mark.parametrize(
    "body",
    [
        b"".join(gzip.compress(part) for part in (b'{"inputs": ', orjson.dumps(rows([1, 2, 3])["inputs"]), b"}")),
        gzip.compress(b"") * 50 + gzip.compress(orjson.dumps(rows([1, 2, 3]))),
    ],
)
def test_a_gzip_body_may_have_several_members(worker: Worker, token: str, body: bytes) -> None:
    assert worker.infer("credit", body, token, **{"Content-Encoding": "gzip"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(orjson.dumps(rows([1, 2, 3]))) + b"garbage", "gzip", 400),
        (zlib.compress(orjson.dumps(rows([1, 2, 3]))) + b"garbage", "deflate", 400),
        (gzip.compress(b"{}") + gzip.compress(b"{}")[:-4], "gzip", 400), (b"", "gzip", 400),
        (gzip.compress(b"") * 45_000, "gzip", 400), (gzip.compress(b"0" * 400_000) * 100, "gzip", 413),
        (gzip.compress(b"{}"), "gzip, gzip", 400), (b"{}", "zstd, gzip", 415),
    ],
    ids=range(8),
)  # fmt: skip
def test_compressed_bodies_that_are_not_what_they_say(
    worker: Worker, token: str, body: bytes, encoding: str, status: int
) -> None:
    answer = worker.infer("credit", body, token, **{"Content-Encoding": encoding})
    assert (answer.status_code, list(answer.json())) == (status, ["error"])


@pytest.mark.parametrize(
    "target", ["/v1/batches/../../metrics", "/v1/batches/%2e%2e/%2e%2e/metrics", "/v1/batches/./x"]
)
def test_dot_segments_lead_nowhere(worker: Worker, token: str, target: str) -> None:
    """Written as they are: a client library would tidy them away."""
    host, port = worker.listening.getsockname()
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_connection((host, port)) as raw:
        worker.house.settings.batches_port_path.write_text(str(other.getsockname()[1]))
        head = f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        raw.sendall(head.encode())
        raw.settimeout(10)
        assert raw.recv(64).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    "lengths", ["Content-Length: 6\r\nTransfer-Encoding: chunked", "Content-Length: 6\r\nContent-Length: 5"]
)
def test_a_request_of_two_lengths_is_refused(worker: Worker, lengths: str) -> None:
    """A proxy that counted by the other one would take what follows for a request of its own."""
    with socket.create_connection(worker.listening.getsockname()) as raw:
        raw.sendall(f"POST /v2/models/credit/infer HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\n0\r\n\r\nX".encode())
        raw.settimeout(10)
        assert raw.recv(64).startswith(b"HTTP/1.1 400 ")


def test_a_worker_that_stops_says_so_before_it_closes_a_connection(tmp_path: Path) -> None:
    with Worker(House(tmp_path / "home")) as worker:
        host, port = worker.listening.getsockname()
        caller = http.client.HTTPConnection(host, port, timeout=10)
        os.kill(worker.pid, signal.SIGTERM)
        said = None
        while said != "close":  # one that is closed under a request raises
            caller.request("GET", "/livez")
            answer = caller.getresponse()
            assert (answer.status, answer.read()) == (200, b'{"live":true,"status":"live"}')
            said = answer.headers["connection"]
        caller.close()


# What is served


def test_versions_switch_under_load_without_a_failed_request(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    with Worker(house) as worker:
        one = house.variant("credit", house.keep(package(MODEL)), 1)
        two = house.variant("credit", house.keep(package(OTHER)), 2)
        worker.deploy(house.change("credit", one, revision=1))
        token, failed, answered, stop = house.token(), [], [], threading.Event()

        def load() -> None:
            with httpx.Client(headers=bearer(token)) as client:
                while not stop.is_set():
                    got = client.post(f"{worker.url}/v2/models/credit/infer", content=orjson.dumps(rows([1, 1, 1])))
                    body = got.json()
                    right = {"1": [1], "2": [0]}.get(body.get("model_version"))
                    (answered if got.status_code == 200 and body["outputs"][0]["data"] == right else failed).append(
                        body
                    )

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        for revision in range(2, 10):
            worker.deploy(house.change("credit", (one, two)[revision % 2], revision=revision))
        stop.set()
        for thread in threads:
            thread.join()
        assert failed == []
        assert {body["model_version"] for body in answered} == {"1", "2"}
        assert len(worker.spooled()) == len(answered)


def test_a_named_version_answers_beside_the_champion(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    with Worker(house) as worker:
        champion = house.variant("credit", house.keep(package(MODEL)), 1)
        second = house.variant("credit", house.keep(package(OTHER)), 2, weight=0.0)
        worker.deploy(house.change("credit", champion, second))
        token = house.token()
        answers = [
            worker.post(f"/v2/models/credit{version}/infer", rows([1, 1, 1]), token).json()
            for version in ("", "/versions/1", "/versions/2")
        ]
        assert [(a["model_version"], a["outputs"][0]["data"]) for a in answers] == [("1", [1]), ("1", [1]), ("2", [0])]


def test_bytes_that_no_grant_names_are_not_served(tmp_path: Path) -> None:
    house, stranger = House(tmp_path / "home"), House(tmp_path / "stranger")
    digest = house.keep(package(MODEL))
    good = house.variant("credit", digest)
    swapped = house.keep(package(OTHER))
    altered = house.keep(package(classifier(bias=0.5)))
    path = house.settings.run_folder / "packages" / f"{altered.removeprefix('sha256:')}.zip"
    path.write_bytes(package(OTHER))
    refusals = {
        "other-bytes": house.change(
            "other-bytes", house.variant("other-bytes", digest).model_copy(update={"digest": swapped})
        ),
        "other-endpoint": house.change("other-endpoint", good),
        "stranger-deployer": stranger.change("stranger-deployer", house.variant("stranger-deployer", digest)),
        "stranger-governor": house.change("stranger-governor", stranger.variant("stranger-governor", digest)),
        "altered-file": house.change("altered-file", house.variant("altered-file", altered)),
        "not-a-model": house.serving("not-a-model", b"not an ONNX file"),
        "not-there": house.change("not-there", house.variant("not-there", "sha256:" + "0" * 64)),
        "resigned": house.change("resigned", house.variant("resigned", digest)).model_copy(update={"unit": "wealth"}),
    }  # fmt: skip
    with Worker(house) as worker:
        worker.deploy(house.change("credit", good), *refusals.values())
        assert worker.infer("credit", rows([1, 1, 1]), house.token()).status_code == 200
        loaded = worker.loaded()
        for name in refusals:
            fetched = name in ("altered-file", "not-there")
            assert loaded[name]["state"] == ("loading" if fetched else "failed"), name
            assert loaded[name]["reason"], name
            answer = worker.infer(name, rows([1, 1, 1]), house.token("admin", ("*",)))
            assert answer.status_code == (503 if fetched else 404), name
        assert "altered" in loaded["altered-file"]["reason"]


def test_a_package_that_was_altered_is_fetched_again_and_failed_only_where_that_is_in_vain(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    with Worker(house) as worker:
        worker.deploy(house.serving("credit", MODEL))
        assert worker.infer("credit", rows([1, 1, 1]), house.token()).status_code == 200
        worker.stop()
        (path,) = (house.settings.run_folder / "packages").glob("*.zip")
        whole = path.read_bytes()
        path.write_bytes(package(OTHER))
        worker.start()
        worker.wait(lambda: worker.loaded()["credit"]["state"] == "loading")
        assert "altered" in worker.loaded()["credit"]["reason"]
        assert worker.infer("credit", rows([1, 1, 1]), house.token()).status_code == 503
        packages = Packages(house.settings.run_folder, 1 << 20)
        packages.lacks_in_vain(f"sha256:{path.stem}", "the stored object was altered")
        worker.wait(lambda: worker.loaded()["credit"]["state"] == "failed")
        assert "the stored object was altered" in worker.loaded()["credit"]["reason"]
        assert worker.infer("credit", rows([1, 1, 1]), house.token()).status_code == 404
        path.write_bytes(whole)
        worker.wait(lambda: worker.infer("credit", rows([1, 1, 1]), house.token()).status_code == 200)


def test_a_package_that_nothing_foresaw_fails_alone(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    hostile = {
        "nul": package(MODEL, "a\0b"), "long": package(MODEL, "x" * 5000), "dots": package(MODEL, ".."),
        "stamp": package(MODEL, created="2001-99-99"), "junk": b"PK" * 50,
        "cut": package(MODEL)[:200] + b"\xff" * 400 + package(MODEL)[600:],
    }  # fmt: skip
    with Worker(house) as worker:
        changes = [house.change(name, house.variant(name, house.keep(data))) for name, data in hostile.items()]
        worker.deploy(*changes, house.serving("credit", MODEL))
        assert worker.infer("credit", rows([1, 1, 1]), house.token()).status_code == 200
        loaded = worker.loaded()
        assert {name for name in ("dots", "junk", "cut") if loaded[name]["state"] != "failed"} == set()


def test_a_bad_new_version_leaves_the_old_one_serving(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    with Worker(house) as worker:
        worker.deploy(house.serving("credit", MODEL))
        worker.deploy(house.serving("credit", b"broken", version=2, revision=2))
        assert worker.infer("credit", rows([1, 1, 1]), house.token()).json()["model_version"] == "1"
        assert worker.loaded()["credit"]["state"] == "failed"


def test_a_removed_endpoint_is_gone(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    with Worker(house) as worker:
        worker.deploy(house.serving("credit", MODEL))
        worker.deploy(house.change("credit", revision=2, state="removed"))
        assert worker.loaded()["credit"]["state"] == "removed"
        assert worker.infer("credit", rows([1, 1, 1]), house.token()).status_code == 404


def test_planted_sensitive_values_are_in_no_file(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    columns = (Column(name="age"), Column(name="income", sensitive=True), Column(name="debt"))
    schema = NUMBERS.model_copy(update={"columns": columns})
    with Worker(house) as worker:
        worker.deploy(house.serving("credit", MODEL, schema))
        token = house.token()
        assert worker.infer("credit", rows([1, 48151623, 3]), token).status_code == 200
        assert worker.infer("credit", rows([1, 48151623, "x"]), token).status_code == 400  # pyright: ignore[reportArgumentType]
        assert len(worker.spooled()) == 1
        worker.stop()
        planted = [p for p in house.home.rglob("*") if p.is_file() and b"48151623" in p.read_bytes()]
        assert planted == []
