"""ONNX models by ONNX Runtime, in process: the format runs no foreign code."""

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as state  # pyright: ignore[reportAttributeAccessIssue]

from contracts import ModelSchema

from . import Arrays
from .errors import CannotLoad, ModelFailed

_ERRORS = (state.InvalidArgument, state.Fail, state.RuntimeException, state.NotImplemented, state.EPFail, RuntimeError)
_LOADING = (*_ERRORS, state.InvalidGraph, state.InvalidProtobuf, state.NoSuchFile, state.NoModel)


class OnnxRuntime:
    """One session, one thread: more cores are used by more workers."""

    def __init__(self, model: bytes, schema: ModelSchema) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4
        # A path inside the bytes (external data) has no folder to start from and is refused by the runtime.
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except _LOADING as error:
            raise CannotLoad(f"ONNX Runtime refuses the model: {str(error)[:300]}") from None
        self._outputs = [spec.name for spec in schema.outputs]
        self._texts = [spec.name for spec in schema.inputs if spec.datatype == "BYTES"]
        missing = set(self._outputs) - {output.name for output in self._session.get_outputs()}
        if missing:
            raise CannotLoad(f"the model has no output {', '.join(sorted(missing))} that its schema names")

    def predict(self, inputs: Arrays) -> Arrays:
        for name in self._texts:
            inputs = inputs | {name: _strings(inputs[name])}
        try:
            answers = self._session.run(self._outputs, inputs)
        except _ERRORS as error:
            name = type(error).__name__
            raise ModelFailed(f"the model does not take this input ({name})", f"{name} of ONNX Runtime") from None
        return {name: np.asarray(answer) for name, answer in zip(self._outputs, answers, strict=True)}

    def close(self) -> None:
        """The session goes with its last reference."""


def _strings(values: np.ndarray) -> np.ndarray:
    made = np.empty(values.shape, object)
    try:
        made.reshape(-1)[:] = [value.decode() for value in values.reshape(-1).tolist()]
    except UnicodeDecodeError:
        raise ModelFailed("an element of a BYTES tensor is no UTF-8 text, which this model needs") from None
    return made
