"""An ONNX model behind the sandbox's walls: one whose work no shape bounds (`onnx_graph.py`)."""

import numpy as np
import onnxruntime as ort

from . import Asked, Told, unreadable
from .wire import Array, Tensors


class OnnxSession:
    """A session of ONNX Runtime; it answers the outputs that it is asked for."""

    def __init__(self, data: bytes, asked: Asked) -> None:
        self._session = ort.InferenceSession(data, options(), providers=["CPUExecutionProvider"])
        self._outputs = [spec["name"] for spec in asked.outputs]
        self._texts = {each.name for each in self._session.get_inputs() if each.type == "tensor(string)"}
        missing = set(self._outputs) - {each.name for each in self._session.get_outputs()}
        if missing:
            raise ValueError(f"the model has no output {', '.join(sorted(missing))} that its schema names")
        self.told = Told(inputs=asked.inputs, outputs=asked.outputs)

    def predict(self, inputs: Tensors) -> Tensors:
        """All outputs by name. Raises what ONNX Runtime raises."""
        feed = {name: strings(each) if name in self._texts else each for name, each in inputs.items()}
        return dict(zip(self._outputs, map(np.asarray, self._session.run(self._outputs, feed)), strict=True))


def open_model(data: bytes, asked: Asked) -> OnnxSession:
    """Raises Unreadable."""
    try:
        return OnnxSession(data, asked)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's own errors have no common base but Exception
        raise unreadable(error) from None


def options() -> ort.SessionOptions:
    """One thread, and the bytes are ONNX whatever they begin like."""
    made = ort.SessionOptions()
    made.intra_op_num_threads = made.inter_op_num_threads = 1
    made.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    made.log_severity_level = 4
    made.add_session_config_entry("session.load_model_format", "ONNX")
    return made


def strings(values: Array) -> Array:
    """Texts as ONNX Runtime takes them. Raises UnicodeDecodeError."""
    made = values.copy()
    made.reshape(-1)[:] = [value.decode() for value in values.reshape(-1).tolist()]
    return made
