"""Named tensors as bytes, between a sandboxed model and whoever asks it. Little-endian throughout.

    "<4sI"      b"FLT1", how many tensors
    each        "<HBBQ": length of the name, place of the datatype in `DATATYPES`, rank, length of the data;
                the name (UTF-8); the dimensions ("<q" each); the data
    BYTES       each value as its length ("<I") and its bytes

A question that sets something of the model has that before its tensors: "<4sI": b"FLP1" and its length; JSON.

Both sides need numpy alone, of whatever version each has.
"""

import struct
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Tensors = dict[str, Array]

DATATYPES = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64")
"""The datatypes of the Open Inference Protocol V2, in the order of their places; after them BYTES."""
_BYTES = len(DATATYPES)
_TYPES = [np.dtype(f"<{code}") for code in ("?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")]
_PLACES = {kind.str[1:]: place for place, kind in enumerate(_TYPES)}
_MAGIC = b"FLT1"
_SET = b"FLP1"
_HEAD, _TENSOR, _LENGTH = struct.Struct("<4sI"), struct.Struct("<HBBQ"), struct.Struct("<I")
_MOST_TENSORS, _MOST_RANK = 20_000, 32


class WireError(ValueError):
    """Bytes that are not in the form above."""


def pack(tensors: Tensors) -> bytes:
    """The bytes of tensors. What V2 has no datatype for (texts, dates) goes as BYTES."""
    parts = [_HEAD.pack(_MAGIC, len(tensors))]
    for name, values in tensors.items():
        place, data = _coded(values)
        said = name.encode()
        parts += [_TENSOR.pack(len(said), place, values.ndim, len(data)), said]
        parts += [struct.pack(f"<{values.ndim}q", *values.shape), data]
    return b"".join(parts)


def unpack(payload: bytes) -> Tensors:
    """The tensors in some bytes; BYTES as objects. Raises WireError: what comes out of a sandbox is not believed."""
    if len(payload) < _HEAD.size:
        raise WireError("shorter than its head")
    magic, count = _HEAD.unpack_from(payload)
    if magic != _MAGIC or count > _MOST_TENSORS:
        raise WireError("the head is not of this form")
    tensors: Tensors = {}
    at = _HEAD.size
    for _ in range(count):
        name, values, at = _tensor(payload, at)
        tensors[name] = values
    if at != len(payload) or len(tensors) != count:
        raise WireError("bytes are left over, or a name is there twice")
    return tensors


def question(tensors: Tensors, params: bytes) -> bytes:
    """What a model is asked, and what is set of it for that: a JSON object, or nothing."""
    return b"".join((_HEAD.pack(_SET, len(params)), params, pack(tensors))) if params else pack(tensors)


def parted(payload: bytes) -> tuple[bytes, bytes]:
    """What a question sets, and its tensors."""
    if not payload.startswith(_SET):
        return b"", payload
    end = _HEAD.size + _HEAD.unpack_from(payload)[1]
    return payload[_HEAD.size : end], payload[end:]


def datatype(values: Array) -> str:
    """What V2 calls the datatype of an array."""
    place = _PLACES.get(values.dtype.str[1:], _BYTES)
    return "BYTES" if place == _BYTES else DATATYPES[place]


def _coded(values: Array) -> tuple[int, bytes]:
    place = _PLACES.get(values.dtype.str[1:], _BYTES)
    if place != _BYTES:
        return place, np.ascontiguousarray(values, _TYPES[place]).tobytes()
    texts = [each if isinstance(each, bytes) else str(each).encode() for each in values.reshape(-1).tolist()]
    return _BYTES, b"".join(_LENGTH.pack(len(text)) + text for text in texts)


def _tensor(payload: bytes, at: int) -> tuple[str, Array, int]:
    try:
        length, place, rank, size = _TENSOR.unpack_from(payload, at)
        at += _TENSOR.size
        name = payload[at : at + length].decode()
        shape = struct.unpack_from(f"<{min(rank, _MOST_RANK)}q", payload, at + length)
    except (struct.error, UnicodeDecodeError) as error:
        raise WireError(f"a tensor's head cannot be read: {error}") from None
    at += length + 8 * rank
    if place > _BYTES or rank > _MOST_RANK or at + size > len(payload) or any(each < 0 for each in shape):
        raise WireError(f"tensor {name[:100]!r} is not of this form")
    return name, _values(name, place, shape, payload[at : at + size]), at + size


def _values(name: str, place: int, shape: tuple[int, ...], data: bytes) -> Array:
    count = prod(shape)
    if place == _BYTES:
        return _texts(name, count, data).reshape(shape)
    if count * _TYPES[place].itemsize != len(data):
        raise WireError(f"tensor {name[:100]!r}: {len(data)} bytes are not of shape {list(shape)}")
    return np.frombuffer(data, _TYPES[place]).reshape(shape)


def _texts(name: str, count: int, data: bytes) -> Array:
    if count > len(data) // _LENGTH.size:
        raise WireError(f"tensor {name[:100]!r}: {len(data)} bytes do not hold {count} texts")
    texts, at = np.empty(count, object), 0
    for place in range(count):
        if at + _LENGTH.size > len(data):
            raise WireError(f"tensor {name[:100]!r}: the texts end early")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size + length
        texts[place] = data[at - length : at]
    if at != len(data):
        raise WireError(f"tensor {name[:100]!r}: the texts do not end where they should")
    return texts
