"""MLServer's way to serve an ONNX model: a runtime of one's own, in process, as its documentation has it."""

import os

import numpy as np
import onnxruntime as ort
from mlserver import MLModel  # pyright: ignore[reportMissingImports]
from mlserver.codecs import NumpyCodec  # pyright: ignore[reportMissingImports]
from mlserver.types import InferenceRequest, InferenceResponse  # pyright: ignore[reportMissingImports]

_NAMES = ("label", "probabilities")


class Onnx(MLModel):  # pyright: ignore[reportUntypedBaseClass]
    async def load(self) -> bool:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        matrix = NumpyCodec.decode_input(payload.inputs[0])
        found = self._session.run(_NAMES, {"X": matrix})
        outputs = [NumpyCodec.encode_output(name, np.asarray(v)) for name, v in zip(_NAMES, found, strict=True)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
