"""Tensors on the wire: what each datatype looks like in JSON and in the binary extension."""

import base64
import struct
from array import array
from collections.abc import Sequence
from itertools import chain
from math import prod
from typing import Any

import numpy as np
import orjson

from contracts import NUMPY_OF, Datatype, TensorSpec

from .errors import BadInput, called

Array = np.ndarray[Any, Any]

NUMPY: dict[Datatype, np.dtype[Any]] = {
    name: np.dtype(np.dtype(code).newbyteorder("<").str) for name, code in NUMPY_OF.items()
}
"""Little-endian as the binary extension is; built from their names, so that numpy knows them as the machine's own."""
_FLOATS = frozenset({"FP16", "FP32", "FP64"})
_NUMBERS = frozenset({int, float})
_EXPECTED: dict[str, frozenset[type]] = {
    name: frozenset({bool}) if name == "BOOL" else frozenset({str}) if name == "BYTES" else frozenset({int})
    for name in NUMPY
} | dict.fromkeys(_FLOATS, _NUMBERS)


def _bound(datatype: Datatype) -> float:
    """The largest double that is rounded to a finite number of this datatype: FP32's largest is printed 3.4028235e38,
    which is more than it."""
    said = np.finfo(NUMPY[datatype])
    if datatype == "FP64":
        return float(said.max)
    half_a_step = 2.0 ** (said.maxexp - said.nmant - 2)
    return float(np.nextafter(float(said.max) + half_a_step, 0))


BOUNDS = {name: _bound(name) for name in ("FP16", "FP32", "FP64")}
_WORDS = {bool: "a boolean", str: "a string", int: "an integer", float: "a decimal number", type(None): "null"}
SHORT = 64
_LONGEST = 2**31 - 1
"""The largest dimension: beside one of 0, larger ones overflow."""
_LENGTH = struct.Struct("<I")


class Place:
    """Says where in a tensor something is wrong: the tensor, its column and row where it has them."""

    def __init__(self, spec: TensorSpec, columns: Sequence[str] = ()) -> None:
        self._name = spec.name
        self._columns = columns

    def at(self, position: int) -> str:
        if not self._columns:
            return f"tensor {called(self._name)}, element {position}"
        row, column = divmod(position, len(self._columns))
        return f"column {called(self._columns[column])}, row {row}"


def read_shape(spec: TensorSpec, shape: object) -> tuple[int, ...]:
    """The shape that a request states, checked against the model's."""
    name = called(spec.name)
    if type(shape) is not list or any(type(size) is not int or not 0 <= size <= _LONGEST for size in shape):
        raise BadInput(f"tensor {name}: `shape` must be a list of whole numbers from 0 to {_LONGEST}", spec.name)
    if len(shape) != len(spec.shape) or any(want not in (-1, got) for want, got in zip(spec.shape, shape, strict=True)):
        raise BadInput(f"tensor {name} has shape {str(shape)[:60]}, the model takes {list(spec.shape)}", spec.name)
    return tuple(shape)


def from_json(
    spec: TensorSpec, shape: tuple[int, ...], data: object, place: Place, *, nulls: bool, literals: bool
) -> Array:
    """An array of JSON data, flat or nested. `nulls`: they become NaN, and the caller checks where they may be.

    `literals`: the body holds `true` or `false` somewhere, so the quick way may not be taken.
    """
    flat = _flat(spec, shape, data)
    if len(flat) != prod(shape):
        raise BadInput(f"tensor {called(spec.name)}: shape {list(shape)} needs {prod(shape)} values, "
                       f"`data` has {len(flat)}", spec.name)  # fmt: skip
    if spec.datatype in _FLOATS:
        return _floats(spec, flat, place, nulls, literals).reshape(shape)
    _check_types(spec, flat, place, nulls=False)
    if spec.datatype == "BYTES":
        return _objects([value.encode() for value in flat]).reshape(shape)
    try:
        return np.array(flat, NUMPY[spec.datatype]).reshape(shape)
    except OverflowError:
        raise BadInput(f"tensor {called(spec.name)} holds a number beyond {spec.datatype}", spec.name) from None


def _flat(spec: TensorSpec, shape: tuple[int, ...], data: object) -> list[Any]:
    if type(data) is not list:
        raise BadInput(f"tensor {called(spec.name)} has no `data` list", spec.name)
    depth = 1
    while data and type(data[0]) is list:
        depth += 1
        if depth > len(shape) or set(map(type, data)) != {list} or set(map(len, data)) != {shape[depth - 1]}:
            raise BadInput(f"tensor {called(spec.name)}: `data` is nested otherwise than {list(shape)}", spec.name)
        data = list(chain.from_iterable(data))
    return data


def _floats(spec: TensorSpec, flat: list[Any], place: Place, nulls: bool, literals: bool) -> Array:
    dtype, bound = NUMPY[spec.datatype], BOUNDS[spec.datatype]
    if len(flat) > SHORT and not literals and (wide := doubles(flat)) is not None:
        if np.abs(wide).max() > bound:
            raise _beyond(spec, place, int(np.argmax(np.abs(wide))))
        return wide.astype(dtype)
    _check_types(spec, flat, place, nulls)
    present = flat if not nulls else [value for value in flat if value is not None]
    if present and (max(present) > bound or min(present) < -bound):
        raise _beyond(spec, place, next(i for i, v in enumerate(flat) if v is not None and abs(v) > bound))
    return np.array(flat, dtype)


def _beyond(spec: TensorSpec, place: Place, position: int) -> BadInput:
    return BadInput(f"{place.at(position)} holds a number beyond {spec.datatype}", spec.name)


def doubles(flat: list[Any]) -> Array | None:
    """The quick way for long lists: it refuses all but numbers and booleans; the caller knows there are none."""
    try:
        return np.frombuffer(array("d", flat), np.float64)
    except TypeError:
        return None


def _check_types(spec: TensorSpec, flat: list[Any], place: Place, nulls: bool) -> None:
    wrong = set(map(type, flat)) - _EXPECTED[spec.datatype]
    if nulls:
        wrong.discard(type(None))
    if wrong:
        position, value = next((i, v) for i, v in enumerate(flat) if type(v) in wrong)
        found = "missing (null)" if value is None else _WORDS.get(type(value), "not a value")
        raise BadInput(f"{place.at(position)} is {found}; {spec.datatype} is needed", spec.name)


def _objects(values: Sequence[Any]) -> Array:
    made = np.empty(len(values), object)
    made[:] = values
    return made


def from_binary(spec: TensorSpec, shape: tuple[int, ...], raw: bytes | memoryview) -> Array:
    """An array of the binary extension's bytes: little-endian, row-major; BYTES with a length before each element."""
    if spec.datatype == "BYTES":
        return _objects(_elements(spec, bytes(raw), prod(shape))).reshape(shape)
    dtype = NUMPY[spec.datatype]
    if len(raw) != prod(shape) * dtype.itemsize:
        raise BadInput(f"tensor {called(spec.name)}: shape {list(shape)} of {spec.datatype} needs "
                       f"{prod(shape) * dtype.itemsize} bytes, there are {len(raw)}", spec.name)  # fmt: skip
    if spec.datatype == "BOOL":
        truths = np.frombuffer(raw, np.uint8)
        if truths.size and truths.max() > 1:
            raise BadInput(f"tensor {called(spec.name)}: a BOOL byte is neither 0 nor 1", spec.name)
    return np.frombuffer(raw, dtype).reshape(shape)


def _elements(spec: TensorSpec, raw: bytes, count: int) -> list[bytes]:
    found: list[bytes] = []
    at = 0
    while at + 4 <= len(raw) and len(found) < count:
        (size,) = _LENGTH.unpack_from(raw, at)
        if at + 4 + size > len(raw):
            break
        found.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    if len(found) != count or at != len(raw):
        raise BadInput(f"tensor {called(spec.name)}: its bytes are not {count} BYTES elements", spec.name)
    return found


def to_json(values: Array) -> bytes:
    """`data` of an array, flat; NaN and infinities become null, since JSON has none."""
    if values.dtype == object:
        return orjson.dumps([_text(value) for value in values.ravel().tolist()])
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    return orjson.dumps(values.ravel(), option=orjson.OPT_SERIALIZE_NUMPY)


def textual(values: Array) -> bool:
    """Whether BYTES can be JSON strings as they are."""
    try:
        for value in values.ravel().tolist():
            if isinstance(value, bytes):
                value.decode()
    except UnicodeDecodeError:
        return False
    return True


def to_base64(values: Array) -> Array:
    """BYTES that are no text, as JSON can carry them."""
    return _objects([base64.b64encode(_octets(value)) for value in values.ravel().tolist()]).reshape(values.shape)


def to_binary(values: Array, datatype: Datatype) -> bytes:
    if datatype == "BYTES":
        octets = [_octets(value) for value in values.ravel().tolist()]
        return b"".join(chain.from_iterable((_LENGTH.pack(len(one)), one) for one in octets))
    return np.ascontiguousarray(values, NUMPY[datatype]).tobytes()


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _octets(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
