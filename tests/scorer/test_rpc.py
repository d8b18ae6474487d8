"""V2 over gRPC: Triton's own client, and what is refused."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
import pytest

from contracts import Datatype, ModelSchema, TensorSpec
from services.kit.environments import Environments, lock
from services.scorer.files import write_atomically
from services.scorer.rpc import translate
from services.scorer.rpc.messages import SERVICE, message
from services.scorer.settings import ScorerSettings
from services.scorer.spool import SegmentReader, segments
from services.scorer.v2 import NUMPY

from .living import HERE
from .making import NUMBERS, House, classifier, echo

pytestmark = pytest.mark.timeout(180)


def schema(datatype: Datatype, shape: tuple[int, ...]) -> ModelSchema:
    given, told = (TensorSpec(name=name, datatype=datatype, shape=shape) for name in "xy")
    return ModelSchema(inputs=(given,), outputs=(told,), prediction="y")


class Rpc:
    """The gRPC process of a host."""

    def __init__(self, house: House) -> None:
        self.house = house
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        environment = os.environ | {"FAIRLEAD_HOME": str(house.home), "FAIRLEAD_GRPC_PORT": str(self.port)}
        self.process = subprocess.Popen([sys.executable, "-m", "services.scorer.rpc"], cwd=HERE, env=environment)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        grpc.channel_ready_future(self.channel).result(30)

    def stop(self) -> None:
        self.channel.close()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0

    def call(self, name: str, token: str | None, /, within_s: float = 10, **fields: Any) -> Any:
        asked, answer = message(f"{name}Request"), message(f"{name}Response")
        stub = self.channel.unary_unary(f"/{SERVICE}/{name}", asked.SerializeToString, answer.FromString)
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        return stub(asked(**fields), metadata=metadata, timeout=within_s)

    def refused(self, name: str, token: str | None, /, **fields: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as told:
            self.call(name, token, **fields)
        return told.value.code(), told.value.details()  # pyright: ignore


@pytest.fixture(scope="module")
def rpc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rpc]:
    house = House(tmp_path_factory.mktemp("rpc") / "home")
    changes = [
        house.serving("credit", classifier()),
        house.serving("echo", echo("BYTES", ("n", 1)), schema("BYTES", (-1, 1))),
        house.serving("halves", echo("FP16", ("n", 2)), schema("FP16", (-1, 2))),
    ]
    gone = house.serving("gone", classifier())
    wanted = {change.endpoint: orjson.loads(change.to_json()) for change in [*changes, gone]}
    withdrawn = {"gone": [str(gone.variants[0].grant.statement.approval_id)]}
    state = {"caught_up": True, "endpoints": wanted, "floors": {}, "withdrawn": withdrawn}
    write_atomically(house.settings.desired_path, orjson.dumps(state))
    made = Rpc(house)
    yield made
    made.stop()


def tensor(values: np.ndarray, name: str = "X", datatype: str = "FP32") -> Any:
    return message("ModelInferRequest.InferInputTensor")(name=name, datatype=datatype, shape=values.shape)


def spooled(house: House) -> list[bytes]:
    found: list[bytes] = []
    for path in segments(house.settings.spool_folder / "1"):
        with SegmentReader(path) as reader:
            while (parsed := reader.read()).consumed:
                found += [entry.payload for entry in parsed.entries]
    return found


def test_triton_s_client_is_answered_and_each_answer_is_logged(rpc: Rpc, tmp_path: Path) -> None:
    async def install() -> Path:
        environments = Environments(tmp_path, most_bytes=10**9, most_bytes_all=10**10, timeout_s=120)
        return await environments.built(await lock(["tritonclient[grpc]==2.73.0"], timeout_s=60))

    packages = asyncio.run(install())
    before = len(spooled(rpc.house))
    script = str(HERE / "tests" / "scorer" / "triton_grpc.py")
    told = subprocess.run(
        [sys.executable, "-S", script, f"127.0.0.1:{rpc.port}", rpc.house.token()],
        env={"PYTHONPATH": str(packages)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    heard = json.loads(told.stdout)
    assert heard["live"] and heard["ready"]
    assert (heard["labels"], heard["shape"], heard["id"], heard["version"]) == ([1, 0], [2, 2], "mine", "1")
    assert (heard["echoed"], heard["by_name"]) == (["grün", "b"], [1, 0])
    assert heard["inputs"] == [{"name": "X", "datatype": "FP32", "shape": ["-1", "3"]}]
    assert heard["unknown"] == "StatusCode.NOT_FOUND there is no endpoint 'nowhere'"
    records = spooled(rpc.house)
    assert len(records) == before + 3 and any(heard["inference_id"].encode() in record for record in records)


def test_typed_contents_mean_the_same_as_raw_ones(rpc: Rpc) -> None:
    matrix, token = np.array([[1, 1, 1], [-1, -1, -1]], np.float32), rpc.house.token()
    typed = tensor(matrix)
    typed.contents.fp32_contents.extend(matrix.ravel().tolist())
    first = rpc.call("ModelInfer", token, model_name="credit", inputs=[typed])
    other = rpc.call("ModelInfer", token, model_name="credit", model_version="1", inputs=[tensor(matrix)],
                     raw_input_contents=[matrix.tobytes()])  # fmt: skip
    for answer in (first, other):
        assert labels(answer) == [1, 0]
        assert [output.name for output in answer.outputs] == [spec.name for spec in NUMBERS.outputs]
        assert answer.parameters["variant"].string_param == "champion"
    typed_scores = np.array(first.outputs[1].contents.fp32_contents, np.float32)
    assert typed_scores.tobytes() == other.raw_output_contents[1] and typed_scores.size == 4


def labels(answer: Any) -> list[int]:
    """Of the classifier, as they were said: typed or raw, never both."""
    typed = list(answer.outputs[0].contents.int64_contents)
    raw = [np.frombuffer(each, np.int64).tolist() for each in answer.raw_output_contents[:1]]
    (said,) = raw if raw else [typed]
    assert not (raw and typed)
    return said


def test_who_asks_typed_is_answered_typed_and_who_asks_raw_raw(rpc: Rpc) -> None:
    token = rpc.house.token()
    texts = [b"gr\xc3\xbcn", b"", b"b"]
    asked = tensor(np.empty((3, 1)), "x", "BYTES")
    asked.contents.bytes_contents.extend(texts)
    answer = rpc.call("ModelInfer", token, model_name="echo", inputs=[asked])
    assert list(answer.outputs[0].contents.bytes_contents) == texts
    assert not answer.raw_output_contents
    packed = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    raw = tensor(np.empty((3, 1)), "x", "BYTES")
    answer = rpc.call("ModelInfer", token, model_name="echo", inputs=[raw], raw_input_contents=[packed])
    assert list(answer.raw_output_contents) == [packed]
    assert not answer.outputs[0].contents.bytes_contents


@pytest.mark.parametrize(("datatype", "values", "field"), [
    ("BOOL", [True, False], "bool_contents"), ("INT8", [-1, 7], "int_contents"),
    ("UINT64", [2**63, 1], "uint64_contents"),
    ("FP64", [0.1, -2.0], "fp64_contents"), ("FP32", [0.5, 2.0], "fp32_contents"), ("UINT16", [1, 2], "uint_contents"),
])  # fmt: skip
def test_each_datatype_has_its_own_typed_contents(datatype: Datatype, values: list[Any], field: str) -> None:
    made = translate.response(*binary((datatype, values)), typed=True)
    assert list(getattr(made.outputs[0].contents, field)) == values
    assert not made.raw_output_contents


def test_where_one_has_no_typed_form_all_are_raw() -> None:
    made = translate.response(*binary(("FP64", [1.0]), ("FP16", [0.5])), typed=True)
    assert list(made.raw_output_contents) == [np.float64(1).tobytes(), np.float16(0.5).tobytes()]
    assert not made.outputs[0].contents.fp64_contents


def binary(*tensors: tuple[Datatype, list[Any]]) -> tuple[bytes, int]:
    """An answer as the binary extension has it, and the length of its JSON."""
    pieces = [np.array(values, NUMPY[datatype]).tobytes() for datatype, values in tensors]
    outputs = [
        {"name": "y", "datatype": datatype, "shape": [len(values)], "parameters": {"binary_data_size": len(piece)}}
        for (datatype, values), piece in zip(tensors, pieces, strict=True)
    ]
    head = orjson.dumps({"model_name": "m", "outputs": outputs})
    return b"".join([head, *pieces]), len(head)


def test_a_stranger_is_refused_before_anything_is_read(rpc: Rpc) -> None:
    asked = tensor(np.empty((1, 3)), datatype="COMPLEX")
    code, reason = rpc.refused("ModelInfer", None, model_name="credit", inputs=[asked])
    assert code == grpc.StatusCode.UNAUTHENTICATED, reason
    code, reason = rpc.refused("ModelInfer", rpc.house.token(), model_name="credit", inputs=[asked])
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "COMPLEX" in reason


def test_columns_may_go_by_name_typed_and_raw(rpc: Rpc) -> None:
    token = rpc.house.token()
    columns = [("debt", "FP64", np.array([1.0, -1.0])), ("age", "INT64", np.array([1, -1])),
               ("income", "FP32", np.array([1, -1], np.float32))]  # fmt: skip
    typed = [tensor(values, name, datatype) for name, datatype, values in columns]
    raw = [tensor(values, name, datatype) for name, datatype, values in columns]
    typed[0].contents.fp64_contents.extend([1.0, -1.0])
    typed[1].contents.int64_contents.extend([1, -1])
    typed[2].contents.fp32_contents.extend([1.0, -1.0])
    pieces = [values.tobytes() for _, _, values in columns]
    asks: list[dict[str, Any]] = [{"inputs": typed}, {"inputs": raw, "raw_input_contents": pieces}]
    for asked in asks:
        answer = rpc.call("ModelInfer", token, model_name="credit", **asked)
        assert labels(answer) == [1, 0]
    code, reason = rpc.refused("ModelInfer", token, model_name="credit", inputs=typed[1:])
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "column 'debt' is missing")


def test_halves_go_raw(rpc: Rpc) -> None:
    values, token = np.array([[0.5, 2]], np.float16), rpc.house.token()
    asked = tensor(values, "x", "FP16")
    answer = rpc.call("ModelInfer", token, model_name="halves", inputs=[asked], raw_input_contents=[values.tobytes()])
    assert answer.raw_output_contents[0] == values.tobytes()
    code, reason = rpc.refused("ModelInfer", token, model_name="halves", inputs=[asked])
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "tensor 'x': 'FP16' goes as raw contents only")


def test_servers_models_and_the_repository_tell_of_themselves(rpc: Rpc) -> None:
    token = rpc.house.token()
    assert rpc.call("ServerLive", None).live
    assert rpc.call("ServerMetadata", token).name == "fairlead"
    assert rpc.call("ModelReady", token, name="credit", version="1").ready
    assert rpc.call("ModelMetadata", token, name="credit").platform == "onnx_onnxv1"
    ready = {model.name for model in rpc.call("RepositoryIndex", token, ready=True).models}
    assert ready == {"credit", "echo", "halves"}


def test_what_would_not_answer_is_not_ready_and_the_repository_says_why(rpc: Rpc) -> None:
    token = rpc.house.token()
    assert not rpc.call("ModelReady", token, name="gone").ready
    (gone,) = [model for model in rpc.call("RepositoryIndex", token).models if model.name == "gone"]
    assert (gone.version, gone.state) == ("1", "UNAVAILABLE") and "withdrawn" in gone.reason
    assert rpc.refused("ModelReady", token, name="nothing")[0] == grpc.StatusCode.NOT_FOUND
    assert rpc.refused("ModelReady", None, name="gone")[0] == grpc.StatusCode.UNAUTHENTICATED


def test_what_is_refused_says_why_in_grpc_s_words(rpc: Rpc) -> None:
    matrix, token = np.array([[1, 1]], np.float32), rpc.house.token()
    asked = {"model_name": "credit", "inputs": [tensor(matrix)], "raw_input_contents": [matrix.tobytes()]}
    code, reason = rpc.refused("ModelInfer", token, **asked)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "[1, 2]" in reason
    assert rpc.refused("ModelInfer", None, **asked)[0] == grpc.StatusCode.UNAUTHENTICATED
    assert rpc.refused("ModelInfer", rpc.house.token("executive"), **asked)[0] == grpc.StatusCode.PERMISSION_DENIED
    assert rpc.refused("ModelInfer", token, **asked | {"model_version": "7"})[0] == grpc.StatusCode.NOT_FOUND
    assert rpc.refused("ModelInfer", token, **asked | {"model_name": "../x"})[0] == grpc.StatusCode.NOT_FOUND
    code, reason = rpc.refused("ModelInfer", token, **asked | {"raw_input_contents": [b"1", b"2"]})
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "2 raw contents are there for 1 inputs")
    code, reason = rpc.refused("ModelInfer", token, **asked | {"raw_input_contents": [b"123"]})
    assert code == grpc.StatusCode.INVALID_ARGUMENT


def test_it_ends_when_it_cannot_follow_the_desired_state_any_more(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    write_atomically(house.settings.desired_path, orjson.dumps({"caught_up": True, "endpoints": {}, "floors": {}}))
    made = Rpc(house)
    try:
        write_atomically(house.settings.desired_path, b"[]")
        assert made.process.wait(60) == 1, "the host starts another: this one would serve what was revoked"
    finally:
        made.channel.close()
        made.process.kill()
        made.process.wait()


def test_a_host_that_speaks_grpc_is_ready_when_that_process_is_too(tmp_path: Path) -> None:
    home = House(tmp_path / "home").home
    assert ScorerSettings(home=home, workers=2).slots == ["worker-0", "worker-1"]
    assert ScorerSettings(home=home, workers=1, grpc_port=9000).slots == ["worker-0", "rpc"]
