"""ONNX: one self-contained file, no external data anywhere, tensors in and out."""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError, Message

from contracts import Datatype, TensorSpec
from services.kit.errors import Invalid
from services.kit.models.wire import Array, Tensors

from . import Opened

DATATYPES: dict[str, Datatype] = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "float16": "FP16", "float": "FP32", "double": "FP64", "string": "BYTES",
}  # fmt: skip
KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_OWNED = ("ai.onnx.", "com.microsoft.", "com.ms.")
"""Domains, and all below them, whose operators are ONNX's or ONNX Runtime's to define."""


class OnnxModel:
    """A session of ONNX Runtime over one file."""

    def __init__(self, data: bytes) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        self.inputs = tuple(_spec(each) for each in self._session.get_inputs())
        self.outputs = tuple(_spec(each) for each in self._session.get_outputs())

    def predict(self, feed: Tensors) -> Tensors:
        """All outputs by name. Raises what ONNX Runtime raises."""
        names = [each.name for each in self.outputs]
        feed = {name: _strings(values) if values.dtype == object else values for name, values in feed.items()}
        return dict(zip(names, map(np.asarray, self._session.run(names, feed)), strict=True))


def _strings(values: Array) -> Array:
    """Texts as ONNX Runtime takes them: of bytes it would take what Python prints of them."""
    return np.array([each.decode() for each in values.reshape(-1).tolist()], object).reshape(values.shape)


def open_model(path: Path, prediction: str | None, score: str | None) -> Opened:
    """Parse, refuse what reaches outside the file, load. Raises Invalid."""
    data = path.read_bytes()
    try:
        proto = onnx.load_from_string(data)
        # Before the checker, which would look for the file beside it.
        if outside := next(_external(proto), None):
            raise Invalid(f"{path.name}: tensor {outside!r} is kept outside the file (external data)", "package")
        onnx.checker.check_model(proto)
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        raise Invalid(f"{path.name} is not a valid ONNX model: {_line(error)}", "package") from None
    if own := next((each for each in proto.functions if _is_owned(each.domain)), None):
        domain = own.domain or "ai.onnx"
        raise Invalid(f"{path.name} has a function {own.name[:80]!r} of its own in {domain!r}, where the runtime's "
                      "operators are: what it says is not what is run", "package")  # fmt: skip
    domains = {each.domain for each in proto.opset_import}
    if unknown := sorted(domains - KNOWN_DOMAINS - {function.domain for function in proto.functions}):
        raise Invalid(f"{path.name} needs operators of {unknown[0]!r}, which this installation lacks", "package")
    try:
        model = OnnxModel(data)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's own errors have no common base but Exception
        raise Invalid(f"{path.name} cannot be loaded: {_line(error)}", "package") from None
    names = [each.name for each in model.outputs]
    guessed = next((name for name in names[1:] if name in ("probabilities", "output_probability")), None)
    return Opened(
        model.inputs, model.outputs, prediction or names[0], score or (None if prediction else guessed), model,
        environment=_environment(proto),
    )  # fmt: skip


def _is_owned(domain: str) -> bool:
    return not domain or f"{domain}.".startswith(_OWNED)


def _external(message: Message) -> Iterator[str]:
    """Names of tensors with external data, wherever in the model they hide: subgraphs, sparse tensors, functions."""
    if isinstance(message, onnx.TensorProto):
        if message.data_location == onnx.TensorProto.EXTERNAL or message.external_data:
            yield message.name
        return
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for child in [value] if isinstance(value, Message) else value:
                yield from _external(child)


def _spec(argument: Any) -> TensorSpec:
    kind = str(argument.type)
    datatype = DATATYPES.get(kind.removeprefix("tensor(").removesuffix(")"))
    if not kind.startswith("tensor(") or datatype is None:
        hint = " (export it with zipmap off)" if "map" in kind else ""
        raise Invalid(f"{argument.name} is a {kind}: only tensors of V2 datatypes can be served{hint}", "package")
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in argument.shape)
    return TensorSpec(name=argument.name, datatype=datatype, shape=shape)


def _environment(proto: onnx.ModelProto) -> dict[str, Any]:
    return {
        "requirements": [f"onnxruntime=={version('onnxruntime')}"],
        "made_with": f"{proto.producer_name} {proto.producer_version}".strip()[:100],
        "ir_version": proto.ir_version,
        "operator_sets": {each.domain or "ai.onnx": each.version for each in proto.opset_import},
    }


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
