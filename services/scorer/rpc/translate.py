"""Between V2's gRPC messages and V2's REST form with binary tensors, which holds the very same bytes."""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import orjson

from contracts import Datatype, TensorSpec

from ..v2 import NUMPY, BadInput
from ..v2.errors import called
from ..v2.tensors import from_binary
from .messages import message

_CONTENTS: dict[str, str] = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
_LENGTH = struct.Struct("<I")
_OWN = frozenset({"binary_data", "binary_data_output", "binary_data_size"})
"""Parameters that say what is on the wire: here that is not the caller's to say."""
_Infer, _Output = message("ModelInferResponse"), message("ModelInferResponse.InferOutputTensor")


def request(asked: Any) -> tuple[bytes, int]:
    """The body of a ModelInferRequest, and how many of its bytes are JSON. Raises BadInput."""
    raw = list(asked.raw_input_contents)
    if raw and len(raw) != len(asked.inputs):
        raise BadInput(f"{len(raw)} raw contents are there for {len(asked.inputs)} inputs", "raw_input_contents")
    pieces = raw or [_packed(each) for each in asked.inputs]
    said: dict[str, Any] = {
        "inputs": [_input(each, piece) for each, piece in zip(asked.inputs, pieces, strict=True)],
        "parameters": _parameters(asked.parameters) | {"binary_data_output": True},
    }
    if asked.id:
        said["id"] = asked.id
    if asked.outputs:
        said["outputs"] = [{"name": each.name, "parameters": {"binary_data": True}} for each in asked.outputs]
    head = orjson.dumps(said)
    return b"".join([head, *pieces]), len(head)


def response(body: bytes, json_length: int | None, *, typed: bool) -> Any:
    """A ModelInferResponse: with typed contents, or raw ones. The protocol has no mixture, so all are raw where one has
    no typed form (FP16)."""
    said = orjson.loads(body[:json_length] if json_length is not None else body)
    made = _Infer(model_name=said["model_name"], model_version=said.get("model_version", ""), id=said.get("id", ""))
    for name, value in said.get("parameters", {}).items():
        _set(made.parameters[name], value)
    pieces = list(_pieces(said["outputs"], body, json_length or 0))
    made.outputs.extend(_Output(name=o["name"], datatype=o["datatype"], shape=o["shape"]) for o in said["outputs"])
    if typed and all(output.datatype in _CONTENTS for output in made.outputs):
        for output, piece in zip(made.outputs, pieces, strict=True):
            spec = TensorSpec(name=output.name, datatype=output.datatype, shape=tuple(output.shape))
            values = from_binary(spec, spec.shape, piece).ravel().tolist()
            getattr(output.contents, _CONTENTS[output.datatype]).extend(values)
    else:
        made.raw_output_contents.extend(pieces)
    return made


def _pieces(outputs: Iterable[Mapping[str, Any]], body: bytes, at: int) -> Iterator[bytes]:
    """The bytes of each tensor, as the binary extension has them."""
    for each in outputs:
        size = each.get("parameters", {}).get("binary_data_size")
        if size is None:
            yield _bytes_of(each["datatype"], each["data"])
        else:
            yield body[at : at + size]
            at += size


def _input(tensor: Any, piece: bytes) -> dict[str, Any]:
    parameters = _parameters(tensor.parameters) | {"binary_data_size": len(piece)}
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape), "parameters": parameters}


def _packed(tensor: Any) -> bytes:
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        raise BadInput(
            f"tensor {called(tensor.name)}: {called(tensor.datatype)} goes as raw contents only", tensor.name
        )
    return _bytes_of(tensor.datatype, getattr(tensor.contents, field))


def _bytes_of(datatype: Datatype, values: Iterable[Any]) -> bytes:
    if datatype == "BYTES":
        texts = [each if isinstance(each, bytes) else str(each).encode() for each in values]
        return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    try:
        return np.array(list(values), NUMPY[datatype]).tobytes()
    except OverflowError:
        raise BadInput(f"a value is no {datatype}", "contents") from None


def _parameters(said: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: getattr(value, choice) for name, value in said.items() if (choice := value.WhichOneof(_CHOICE))}
    return {name: value for name, value in given.items() if name not in _OWN}


_CHOICE = "parameter_choice"


def _set(parameter: Any, value: object) -> None:
    for kind, set in _SETTERS.items():
        if type(value) is kind:
            set(parameter, value)
            return
    parameter.string_param = str(value)


_SETTERS: dict[type, Callable[[Any, Any], None]] = {
    bool: lambda parameter, value: setattr(parameter, "bool_param", value),
    int: lambda parameter, value: setattr(parameter, "int64_param", value),
    float: lambda parameter, value: setattr(parameter, "double_param", value),
}
