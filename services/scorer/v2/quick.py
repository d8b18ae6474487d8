"""The request that nearly everybody sends, read with few steps: JSON, one matrix of numbers, all outputs wanted.

Whatever is not plainly right is left to the codec, which finds the words for what is wrong and says the same of all
requests that both can read.
"""

from typing import Any

import numpy as np
import orjson

from contracts import TensorSpec

from .document import is_id, name_in
from .tensors import BOUNDS, NUMPY, SHORT, Array, doubles

_NUMBERS = frozenset({int, float})
_MEMBERS = frozenset({"inputs", "id", "parameters"})
_OTHERS = frozenset({"binary_data_output", "timeout"})
"""Parameters that the codec reads."""
_PLAIN = frozenset({str, int, float, bool, type(None)})

Read = tuple[Array, int, str | None, str | None, str | None]
"""The matrix, its rows, and the request's id, entity and correlation id."""


class Quick:
    """Compiled from the one input of a model: a matrix of floats without secrets."""

    def __init__(self, matrix: TensorSpec) -> None:
        self.name = matrix.name
        self._datatype = matrix.datatype
        self._dtype = NUMPY[matrix.datatype]
        self._bound = BOUNDS[matrix.datatype]
        self._width = matrix.shape[1]

    def read(self, raw: bytes) -> Read | None:
        """What a plain request says; None: the codec must look."""
        try:
            whole: Any = orjson.loads(raw)
            (tensor,) = whole["inputs"]
            rows, width = tensor["shape"]
            data = tensor["data"]
            count = len(data)
            if (
                len(tensor) != 4 or tensor["name"] != self.name or tensor["datatype"] != self._datatype
                or type(rows) is not int or type(width) is not int or width != self._width
                or type(data) is not list or count != rows * width or not count
            ):  # fmt: skip
                return None
        except (orjson.JSONDecodeError, LookupError, TypeError, ValueError):
            return None
        # As many colons as members: no key is there twice.
        if len(whole) == 1:
            id = entity = correlation_id = None
            colons = 5
        else:
            id, parameters = whole.get("id"), whole.get("parameters")
            if not whole.keys() <= _MEMBERS or not (id is None or is_id(id)):
                return None
            entity = correlation_id = None
            colons = 4 + len(whole)
            if parameters is not None:
                if type(parameters) is not dict or not _OTHERS.isdisjoint(parameters):
                    return None
                if not _PLAIN.issuperset(map(type, parameters.values())):
                    return None
                entity, correlation_id = name_in(parameters, "entity"), name_in(parameters, "correlation_id")
                colons += len(parameters)
        if raw.count(b":") != colons:
            return None
        values = self._numbers(raw, data, count)
        return None if values is None else (values.reshape(rows, width), rows, id, entity, correlation_id)

    def _numbers(self, raw: bytes, data: list[Any], count: int) -> Array | None:
        if count <= SHORT:
            if not _NUMBERS.issuperset(map(type, data)) or max(data) > self._bound or min(data) < -self._bound:
                return None
            return np.array(data, self._dtype)
        if b"true" in raw or b"false" in raw:
            return None
        wide = doubles(data)
        if wide is None or wide.max() > self._bound or wide.min() < -self._bound:
            return None
        return wide.astype(self._dtype)
