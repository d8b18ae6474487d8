"""The sandbox's side of a model of one table: opens its file, then answers matrices with predictions.

The wire form, little-endian throughout. Both sides are here, and need numpy alone; what opens the file
(`services.kit.models`) is imported in the worker only.

    argument   "<format> <sha256> <path>", UTF-8
    request    "<4sBBHI": b"FLQ1", datatype of the matrix (FP32, FP64), 1 for class probabilities too or 0,
               columns, rows; then rows * columns values, row by row
    answer     "<4sBBHI": b"FLA1", datatype of the predictions (INT64, FP64, BOOL, BYTES), 0,
               classes (0: no probabilities), rows; then the predictions; then rows * classes FP32 probabilities
    BYTES      each value as its length (4 bytes) and its UTF-8 text

Whatever goes wrong in the model comes back as the sandbox's error.
"""

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from services.kit.models import TableModel, open_table

_HEADER = struct.Struct("<4sBBHI")
_REQUEST, _ANSWER = b"FLQ1", b"FLA1"
_FP32, _FP64, _INT64, _BOOL, _BYTES = range(1, 6)
_MATRIX = {_FP32: np.dtype("<f4"), _FP64: np.dtype("<f8")}
_PREDICTION = {_INT64: np.dtype("<i8"), _FP64: np.dtype("<f8"), _BOOL: np.dtype("?")}
_CODES = {"i": _INT64, "u": _INT64, "f": _FP64, "b": _BOOL}


class WireError(ValueError):
    """Bytes that are not in the form above."""


class Altered(ValueError):
    """The file's bytes are not those that were approved."""


def argument(format: str, path: str, digest: str) -> bytes:
    """What the sandbox's entry is told: the format, the file, and the sha256 (hexadecimal) that its bytes must have."""
    return f"{format} {digest} {path}".encode()


def table_model(argument: bytes) -> Callable[[bytes], bytes]:
    """The sandbox's entry: open the file. Raises Altered, UntrustedTypes, Unreadable."""
    format, digest, path = argument.decode().split(" ", 2)
    model = load(format, path, digest)

    def predict(payload: bytes) -> bytes:
        matrix, with_probabilities = read_request(payload)
        return answer(model.predict(matrix), model.probabilities(matrix) if with_probabilities else None)

    return predict


def load(format: str, path: str, digest: str) -> TableModel:
    """The model in a file. Raises Altered before anything is read of it, UntrustedTypes, Unreadable."""
    data = Path(path).read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise Altered("the model file was altered: its bytes are not those of the package that was approved")
    return open_table(format, data)


def request(matrix: np.ndarray, *, probabilities: bool) -> bytes:
    """Ask for the predictions of a matrix [rows, columns]."""
    code = _FP32 if matrix.dtype == np.float32 else _FP64
    rows, columns = matrix.shape
    return _HEADER.pack(_REQUEST, code, probabilities, columns, rows) + matrix.astype(_MATRIX[code]).tobytes()


def read_request(payload: bytes) -> tuple[np.ndarray, bool]:
    """The matrix, and whether probabilities are asked for. Raises WireError."""
    code, probabilities, columns, rows = _header(payload, _REQUEST, _MATRIX)
    dtype = _MATRIX[code]
    if len(payload) != _HEADER.size + rows * columns * dtype.itemsize:
        raise WireError(f"{len(payload)} bytes are not {rows} rows of {columns} columns")
    return np.frombuffer(payload, dtype, offset=_HEADER.size).reshape(rows, columns), bool(probabilities)


def answer(predictions: np.ndarray, probabilities: np.ndarray | None) -> bytes:
    """The bytes of predictions [rows] and of probabilities [rows, classes]."""
    predictions = predictions.reshape(-1)
    code = _CODES.get(predictions.dtype.kind, _BYTES)
    classes = 0 if probabilities is None else probabilities.shape[1]
    head = _HEADER.pack(_ANSWER, code, 0, classes, len(predictions))
    body = _texts(predictions) if code == _BYTES else predictions.astype(_PREDICTION[code]).tobytes()
    return head + body + (b"" if probabilities is None else np.asarray(probabilities, "<f4").tobytes())


def read_answer(payload: bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """Predictions [rows] (object array of bytes for texts) and probabilities [rows, classes], if any.

    Raises WireError: what comes out of a sandbox is not believed.
    """
    code, _, classes, rows = _header(payload, _ANSWER, {**_PREDICTION, _BYTES: None})
    if code == _BYTES:
        predictions, end = _read_texts(payload, rows)
    else:
        end = _HEADER.size + rows * _PREDICTION[code].itemsize
        predictions = np.frombuffer(payload[_HEADER.size : end], _PREDICTION[code])
    if len(predictions) != rows or len(payload) != end + rows * classes * 4:
        raise WireError(f"{len(payload)} bytes are not {rows} answers with {classes} classes")
    if not classes:
        return predictions, None
    return predictions, np.frombuffer(payload, "<f4", offset=end).reshape(rows, classes)


def _header(payload: bytes, magic: bytes, codes: dict[int, Any]) -> tuple[int, int, int, int]:
    if len(payload) < _HEADER.size:
        raise WireError("shorter than its header")
    said, code, flag, width, rows = _HEADER.unpack_from(payload)
    if said != magic or code not in codes or flag > 1:
        raise WireError("the header is not of this form")
    return code, flag, width, rows


def _texts(values: np.ndarray) -> bytes:
    texts = [value if isinstance(value, bytes) else str(value).encode() for value in values.tolist()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def _read_texts(payload: bytes, rows: int) -> tuple[np.ndarray, int]:
    if rows > len(payload) // 4:
        raise WireError(f"{len(payload)} bytes do not hold {rows} texts")
    texts, at = np.empty(rows, object), _HEADER.size
    for row in range(rows):
        if at + 4 > len(payload):
            raise WireError("the texts end early")
        (length,) = struct.unpack_from("<I", payload, at)
        texts[row] = payload[at + 4 : at + 4 + length]
        at += 4 + length
    return texts, at
