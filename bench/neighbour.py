"""Callers of an endpoint beside one whose model burns processor time in its sandbox: what they wait for, and alone."""

import asyncio
import io
import statistics
import subprocess
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import yaml
from onnx import TensorProto, helper, numpy_helper

from contracts import Column, ModelSchema, TensorSpec

from .bounds import verdict
from .load import wire
from .model import Model, bodies
from .paced import RATE, paced
from .rest import own_load, until_served
from .stage import SERVER_CORE, Stage, pin

ENDPOINT, HOSTILE = "bench-neighbour", "bench-hostile"
BOUND = 1.2
"""Times the p99 alone that the one beside it may be."""
_CALLERS = 2
"""Of the hostile model: one is in its sandbox, the next waits there."""
_CALL_S = 0.3
"""What one of these calls takes: far below the deadline, at which the sandbox would rest until it is started again."""


def measure(stage: Stage, model: Model, folder: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Latencies [ms] alone and beside the burning model, in turns, medians; the median ratio of their p99, and whether
    it is within `BOUND`. Worker and sandbox share one core: nothing but the kernel's scheduler is between them. Raises
    SystemExit where a request was refused or the model did not burn."""
    asked, hostile = bodies(256), _looping()
    url, other = (f"{stage.url}/v2/models/{name}/infer" for name in (ENDPOINT, HOSTILE))
    for name, one, at, body in ((ENDPOINT, model, url, asked[0]), (HOSTILE, hostile, other, _turns(1))):
        asyncio.run(stage.serve(name, one))
        until_served(at, stage.token, body)
    pin(stage.child("services.scorer.worker").pid, SERVER_CORE)
    requests, runs = wire(url, stage.token, asked), list[tuple[dict[str, float], dict[str, float]]]()
    paced(url, requests, 2)
    body, burned = _long(stage, other), 0.0
    for _ in range(rounds):
        alone, before = paced(url, requests, seconds), _burned(stage)
        with _asked(stage, folder, other, body):
            runs.append((alone, paced(url, requests, seconds)))
        burned += _burned(stage) - before
    if burned < 0.2 * rounds * seconds:
        raise SystemExit(f"the model burned {burned:.1f} s of {rounds * seconds:.0f}: this run measures nothing")
    alone, beside = (
        {key: statistics.median(run[key] for run in own) for key in own[0]} for own in zip(*runs, strict=True)
    )
    ratio = statistics.median(there["p99_ms"] / here["p99_ms"] for here, there in runs)
    return {"rate": RATE, "rounds": rounds, "alone": alone, "beside": beside, "burned_s": burned,
            **verdict(1.0, ratio, BOUND)}  # fmt: skip


def _burned(stage: Stage) -> float:
    """Seconds of processor time that the model used so far."""
    return stage.metric("fairlead_scorer_cpu_seconds_total", f'endpoint="{HOSTILE}"')


def _long(stage: Stage, url: str) -> bytes:
    """A request over which the model is busy for `_CALL_S`."""
    turns, began = 100_000, time.perf_counter()
    _ask(stage, url, _turns(turns))
    return _turns(round(turns * _CALL_S / (time.perf_counter() - began)))


@contextmanager
def _asked(stage: Stage, folder: Path, url: str, body: bytes) -> Iterator[None]:
    """The model is busy all the while, asked by a process of its own: a thread would take turns with the other load."""
    with subprocess.Popen(own_load(url, stage.token, [body], folder, _CALLERS, 3600)) as process:
        before = _burned(stage)
        try:
            while _burned(stage) == before:
                time.sleep(0.1)
            yield
        finally:
            process.kill()


def _ask(stage: Stage, url: str, body: bytes) -> None:
    httpx.post(url, content=body, headers={"Authorization": f"Bearer {stage.token}"}, timeout=60)


def _turns(count: int) -> bytes:
    tensor = {"name": "X", "shape": [1, 1], "datatype": "FP32", "data": [float(count)]}
    return orjson.dumps({"inputs": [tensor]})


def _looping() -> Model:
    """An ONNX model that goes round as often as its input says: shapes do not bound it, so it runs in the sandbox."""
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["on_too"]), helper.make_node("Add", ["sum", "one"], ["more"])], "body",
        [value("turn", TensorProto.INT64, []), value("on", TensorProto.BOOL, []), value("sum", TensorProto.FLOAT, [1])],
        [value("on_too", TensorProto.BOOL, []), value("more", TensorProto.FLOAT, [1])], [one],
    )  # fmt: skip
    given = {"true": np.array(True), "zero": np.zeros(1, np.float32)}
    graph = helper.make_graph(
        [helper.make_node("ReduceMax", ["X"], ["largest"], keepdims=0),
         helper.make_node("Cast", ["largest"], ["count"], to=TensorProto.INT64),
         helper.make_node("Loop", ["count", "true", "zero"], ["taken"], body=body),
         helper.make_node("Add", ["X", "taken"], ["y"])],
        "looping", [value("X", TensorProto.FLOAT, [None, 1])], [value("y", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(values, name) for name, values in given.items()],
    )  # fmt: skip
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    schema = ModelSchema(
        inputs=(TensorSpec(name="X", datatype="FP32", shape=(-1, 1)),),
        outputs=(TensorSpec(name="y", datatype="FP32", shape=(-1, 1)),),
        columns=(Column(name="turns"),), prediction="y",
    )  # fmt: skip
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("fairlead.yaml", yaml.safe_dump({"name": "looping", "format": "onnx", "model": "model.onnx"}))
        made.writestr("model.onnx", data)
    return Model(out.getvalue(), data, schema)
