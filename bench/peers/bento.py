"""BentoML's way to serve an ONNX model: a service with one worker."""

import os
from typing import Any

import bentoml  # pyright: ignore[reportMissingImports]
import numpy as np
import onnxruntime as ort

_NAMES = ("label", "probabilities")


@bentoml.service(workers=1, traffic={"timeout": 10})  # pyright: ignore[reportUntypedClassDecorator]
class Bench:
    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])

    @bentoml.api(route="/infer")  # pyright: ignore[reportUntypedFunctionDecorator]
    async def infer(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        tensor = inputs[0]
        matrix = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
        found = [np.asarray(values) for values in self._session.run(_NAMES, {"X": matrix})]
        return {name: values.tolist() for name, values in zip(_NAMES, found, strict=True)}
