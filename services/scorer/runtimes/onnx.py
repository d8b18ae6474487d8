"""ONNX models by ONNX Runtime, in process: the format runs no foreign code, and what a graph may take is looked at."""

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as state  # pyright: ignore[reportAttributeAccessIssue]

from contracts import ModelSchema
from services.kit.models.onnx_graph import unbounded
from services.kit.models.onnx_session import options, strings
from services.kit.telemetry import get_logger

from . import Arrays
from .errors import CannotLoad, ModelFailed, TookTooLong

log = get_logger(__name__)

_ERRORS = (state.InvalidArgument, state.Fail, state.RuntimeException, state.NotImplemented, state.EPFail, RuntimeError)
_LOADING = (*_ERRORS, state.InvalidGraph, state.InvalidProtobuf, state.NoSuchFile, state.NoModel)


class OnnxRuntime:
    """One session, one thread: more cores are used by more workers."""

    def __init__(self, model: bytes, schema: ModelSchema) -> None:
        # A path inside the bytes (external data) has no folder to start from and is refused by the runtime.
        try:
            self._session = ort.InferenceSession(model, options(), providers=["CPUExecutionProvider"])
        except _LOADING as error:
            raise CannotLoad(f"ONNX Runtime refuses the model: {str(error)[:300]}") from None
        self._run = ort.RunOptions()
        self._outputs = [spec.name for spec in schema.outputs]
        self._texts = [spec.name for spec in schema.inputs if spec.datatype == "BYTES"]
        missing = set(self._outputs) - {output.name for output in self._session.get_outputs()}
        if missing:
            raise CannotLoad(f"the model has no output {', '.join(sorted(missing))} that its schema names")

    def predict(self, inputs: Arrays) -> Arrays:
        for name in self._texts:
            inputs = inputs | {name: _strings(inputs[name])}
        try:
            answers = self._session.run(self._outputs, inputs, self._run)
        except _ERRORS as error:
            if self._run.terminate:
                raise TookTooLong("the model took too long over this input", "it was stopped at its deadline") from None
            name = type(error).__name__
            raise ModelFailed(f"the model does not take this input ({name})", f"{name} of ONNX Runtime") from None
        return {name: np.asarray(answer) for name, answer in zip(self._outputs, answers, strict=True)}

    def stop(self) -> None:
        self._run.terminate = True

    def resume(self) -> None:
        if self._run.terminate:
            self._run = ort.RunOptions()

    def close(self) -> None:
        """The session goes with its last reference."""


def opened(model: bytes, schema: ModelSchema) -> OnnxRuntime | None:
    """The model; None for one that needs the sandbox: what it takes is bounded by no shape. Raises CannotLoad."""
    if found := unbounded(model):
        log.info("an ONNX model is served in the sandbox: its inputs' values decide what it takes", operator=found)
        return None
    return OnnxRuntime(model, schema)


def _strings(values: np.ndarray) -> np.ndarray:
    try:
        return strings(values)
    except UnicodeDecodeError:
        raise ModelFailed("an element of a BYTES tensor is no UTF-8 text, which this model needs") from None
