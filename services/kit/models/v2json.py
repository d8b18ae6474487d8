"""Tensors as the Open Inference Protocol V2 writes them in JSON, for models that are asked so: programs and servers.

What they answer is not believed: it is read by the tensors that the model declared. A missing number is null.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, cast

import numpy as np
import orjson

from contracts import NUMPY_OF

from .wire import Array, Tensors, WireError

Declared = Sequence[Mapping[str, Any]]
"""Tensors by `name`, `datatype` and `shape`; -1 is the row dimension."""

_TAKEN = {"b": "b", "u": "iu", "i": "iu", "f": "fiu", "O": "O"}
"""By the kind of a declared datatype: the kinds that numpy may read its values as."""


class Refused(ValueError):
    """The model answered that it does not take this; in its own words."""


class OutOfStep(WireError):
    """The answer is to another request: from here on, whose is which?"""


def request(id: str, inputs: Tensors, declared: Declared, outputs: Declared) -> bytes:
    """A V2 request in one line. Raises WireError for BYTES that are no text."""
    said = [
        {"name": spec["name"], "shape": inputs[spec["name"]].shape, "datatype": spec["datatype"],
         "data": flat(inputs[spec["name"]], spec["name"])}
        for spec in declared
    ]  # fmt: skip
    asked = {"id": id, "inputs": said, "outputs": [{"name": spec["name"]} for spec in outputs]}
    return orjson.dumps(asked, option=orjson.OPT_SERIALIZE_NUMPY)


def response(data: bytes, id: str | None, outputs: Declared, rows: int) -> Tensors:
    """The declared outputs out of a V2 response; `id`: the request's, where nothing else says whose answer it is.

    Raises Refused, OutOfStep, or WireError saying what is wrong.
    """
    said = document(data)
    if id is not None and said.get("id") != id:
        raise OutOfStep(f"its answer is to request {str(said.get('id'))[:50]!r}, not to {id!r}")
    if "error" in said:
        raise Refused(str(said["error"])[:300])
    found = said.get("outputs")
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise WireError("its answer has no list `outputs`")
    named = {str(each.get("name")): cast(dict[str, Any], each) for each in found}
    return {spec["name"]: _output(named.get(spec["name"]), spec, rows) for spec in outputs}


def blank(declared: Declared) -> Tensors:
    """One row of zeros."""
    return {
        spec["name"]: np.full([max(1, size) for size in spec["shape"]], b"" if spec["datatype"] == "BYTES" else 0)
        .astype(NUMPY_OF[spec["datatype"]])
        for spec in declared
    }  # fmt: skip


def value(data: bytes) -> Any:
    """What some JSON says. Raises WireError."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise WireError(f"its answer is no JSON ({error}): {data[:100]!r}") from None


def document(data: bytes) -> dict[str, Any]:
    """A JSON object. Raises WireError."""
    said = value(data)
    if not isinstance(said, dict):
        raise WireError(f"its answer is no JSON object: {data[:100]!r}")
    return said


def flat(values: Array, name: str) -> Any:
    """The elements in order, for orjson with numpy. Raises WireError for BYTES that are no text."""
    if values.dtype == object:
        try:
            return [each.decode() if isinstance(each, bytes) else str(each) for each in values.ravel().tolist()]
        except UnicodeDecodeError:
            raise WireError(f"an element of {name} is no UTF-8 text, which this model needs") from None
    # orjson writes no 16-bit floats; a view of another order would be written as it lies.
    return np.ascontiguousarray(values.ravel(), "f4" if values.dtype == np.float16 else None)


def tensor(data: Any, spec: Mapping[str, Any], rows: int, shape: Sequence[int] | None = None) -> Array:
    """The array of some JSON values, flat or nested, as declared; `shape`: as the answer says. Raises WireError."""
    values = _elements(data, spec)
    shape = tuple(shape or _shape(spec, rows, values.size))
    want = tuple(spec["shape"])
    fits = len(shape) == len(want) and all(known in (-1, size) for known, size in zip(want[1:], shape[1:], strict=True))
    if not fits or shape[0] != rows:
        raise WireError(f"output {spec['name']} has shape {list(shape)} for {rows} rows; declared is {list(want)}")
    if prod(shape) != values.size:
        raise WireError(f"output {spec['name']} has {values.size} values, shape {list(shape)} needs {prod(shape)}")
    return values.reshape(shape)


def _output(said: dict[str, Any] | None, spec: Mapping[str, Any], rows: int) -> Array:
    if said is None:
        raise WireError(f"its answer has no output {spec['name']}")
    if said.get("datatype", spec["datatype"]) != spec["datatype"]:
        raise WireError(f"output {spec['name']} is {str(said['datatype'])[:20]}, declared is {spec['datatype']}")
    shape = said.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 2**31 for size in shape):
        raise WireError(f"output {spec['name']} has no shape of whole numbers")
    return tensor(said.get("data"), spec, rows, shape)


def _shape(spec: Mapping[str, Any], rows: int, size: int) -> tuple[int, ...]:
    """The declared shape for these rows; one more open dimension takes what is left."""
    rest = tuple(spec["shape"])[1:]
    known = prod(each for each in rest if each != -1) * rows
    return (rows, *(size // known if each == -1 and known else each for each in rest))


def _elements(data: Any, spec: Mapping[str, Any]) -> Array:
    """One dimension, in the declared datatype."""
    name, datatype = spec["name"], spec["datatype"]
    if not isinstance(data, list):
        raise WireError(f"output {name} has no list of values")
    kind = np.dtype(NUMPY_OF[datatype])
    try:
        read = np.array(data, object if datatype == "BYTES" else None).ravel() if data else np.empty(0, kind)
        if read.dtype == object and kind.kind == "f":
            read = np.array([np.nan if each is None else each for each in read.tolist()])
    except (ValueError, OverflowError):
        raise WireError(f"output {name} is nested unevenly") from None
    if read.dtype.kind not in _TAKEN[kind.kind]:
        raise WireError(f"output {name} holds values that are no {datatype}")
    return _texts(read, name) if datatype == "BYTES" else _cast(read, kind, datatype, name)


def _texts(read: Array, name: str) -> Array:
    if not all(isinstance(each, str) for each in read.tolist()):
        raise WireError(f"output {name} holds values that are no texts")
    made = np.empty(read.size, object)
    made[:] = [each.encode() for each in read.tolist()]
    return made


def _cast(read: Array, kind: np.dtype[Any], datatype: str, name: str) -> Array:
    if kind.kind in "iu" and read.size:
        bounds = np.iinfo(kind)
        if int(read.min()) < bounds.min or int(read.max()) > bounds.max:
            raise WireError(f"output {name} holds a number beyond {datatype}")
    with np.errstate(over="ignore"):
        made = read.astype(kind)
    if kind.kind == "f" and bool(np.isinf(made).any()):
        raise WireError(f"output {name} holds a number beyond {datatype}")
    return made
