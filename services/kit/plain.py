"""Requests and answers of numbers alone, kept as their bytes: their documents would take a multiple of that, and of the
time, for as long as the batch is in hand.

What is not plain (texts, columns by name, rows in rows) stays a document, of which the same is read in a slower way.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts import ModelSchema

Array = NDArray[Any]

_FP64 = 8


@dataclass(slots=True)
class PlainAnswer:
    """What a model said of some rows, as bytes of FP64."""

    prediction: bytes
    score: bytes
    """Row by row as many as the model gives, of none or one; empty where the schema names no score."""


def matrix(request: Mapping[str, Any], rows: int, columns: int) -> bytes | None:
    """A request that is one flat matrix of numbers, as its bytes, row by row."""
    inputs = request.get("inputs")
    if not columns or not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        return None
    tensor = inputs[0]
    if len(tensor.get("shape", ())) != 2 or is_text(tensor):
        return None
    return packed(tensor.get("data"), rows * columns)


def answer(response: Mapping[str, Any], rows: int, schema: ModelSchema) -> PlainAnswer | None:
    """A response whose outputs are flat lists of numbers."""
    outputs = response.get("outputs")
    if not isinstance(outputs, list) or not rows:
        return None
    prediction = scores = None
    for each in outputs:
        if isinstance(each, dict) and not is_text(each):
            name = each.get("name")
            prediction = each.get("data") if name == schema.prediction else prediction
            scores = each.get("data") if name == schema.score else scores
    told, score = packed(prediction, rows), _scores(scores, rows) if schema.score else b""
    return None if told is None or score is None else PlainAnswer(told, score)


def _scores(data: Any, rows: int) -> bytes | None:
    """As many for each row, one at least."""
    return packed(data, len(data)) if isinstance(data, list) and data and not len(data) % rows else None


def is_text(tensor: Mapping[str, Any]) -> bool:
    """Whether what it holds are texts, whatever they look like."""
    return tensor.get("datatype") == "BYTES"


def packed(data: Any, count: int) -> bytes | None:
    """So many numbers as bytes of FP64, null as NaN; None where these are not so many, or not flat numbers."""
    if not isinstance(data, list) or len(data) != count:
        return None
    try:
        return _doubles(count).pack(*data)
    except struct.error:  # a null, a text, a row
        pass
    try:
        made = np.array(data, np.float64)
    except (TypeError, ValueError):
        return None
    return made.tobytes() if made.ndim == 1 else None


@lru_cache(maxsize=256)
def _doubles(count: int) -> struct.Struct:
    return struct.Struct(f"{count}d")


def joined(parts: Sequence[bytes]) -> Array:
    """The numbers of all parts [numbers], FP64."""
    return np.frombuffer(bytearray().join(parts), np.float64)


def widths(answers: Sequence[PlainAnswer], rows: Sequence[int]) -> set[int]:
    """How many scores a row has, in each answer; empty of none."""
    return {len(each.score) // (_FP64 * count) for each, count in zip(answers, rows, strict=True)}
