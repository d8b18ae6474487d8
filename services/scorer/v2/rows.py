"""Many plain one-row requests at once: what streams are made of, read and answered without an array for each.

Anything that is not plain (several rows, nulls, binary tensors, named columns, text, sensitive columns) is left to
the codec, which says the same of every request that both can read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from contracts import ModelSchema, TensorSpec

from .document import is_id, name_in
from .errors import BadInput
from .tensors import NUMPY, Array

_NUMBERS = frozenset({int, float})
_MEMBERS = frozenset({"inputs", "id", "parameters"})
_KEPT = frozenset({"entity", "correlation_id"})


@dataclass(slots=True)
class Row:
    """A plain request: one row of the matrix, and its small members."""

    data: list[float]
    id: str | None = None
    entity: str | None = None
    correlation_id: str | None = None
    bare: bool = True
    """It has none of these."""


class Rows:
    """Compiled from a schema whose one input is a matrix of floats; `of` answers None for others."""

    def __init__(
        self, matrix: TensorSpec, columns: int, outputs: Sequence[TensorSpec], said: Mapping[str, str]
    ) -> None:
        self.name = matrix.name
        self._columns = columns
        self._datatype = matrix.datatype
        self._dtype = NUMPY[matrix.datatype]
        self._bound = float(np.finfo(self._dtype).max)
        self._shape = [1, columns]
        self._head = orjson.dumps(said)[:-1]
        self._outputs = [
            (spec.name, orjson.dumps({"name": spec.name, "datatype": spec.datatype})[:-1] + b',"shape":')
            for spec in outputs
        ]

    @classmethod
    def of(cls, schema: ModelSchema, matrix_name: str | None, said: Mapping[str, str]) -> "Rows | None":
        """`said`: `model_name` and `model_version`, as responses bear them."""
        matrix = next((spec for spec in schema.inputs if spec.name == matrix_name), None)
        if matrix is None or matrix.datatype not in ("FP32", "FP64") or any(c.sensitive for c in schema.columns):
            return None
        if any(spec.datatype == "BYTES" or len(spec.shape) > 2 for spec in schema.outputs):
            return None
        return cls(matrix, len(schema.columns), schema.outputs, said)

    def read(self, raw: bytes) -> Row | None:
        """The row of a plain request; None where the codec must look, for whatever reason."""
        try:
            whole: Any = orjson.loads(raw)
            tensor = whole["inputs"][0]
            data = tensor["data"]
            if (
                len(tensor) != 4 or len(whole["inputs"]) != 1 or tensor["shape"] != self._shape
                or tensor["name"] != self.name or tensor["datatype"] != self._datatype
                or len(data) != self._columns or not _NUMBERS.issuperset(map(type, data))
            ):  # fmt: skip
                return None
            # As many colons as members: no key is there twice.
            if len(whole) == 1:
                return Row(data) if raw.count(b":") == 5 else None
            return self._with_members(raw, whole, data)
        except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError, BadInput):
            return None

    def _with_members(self, raw: bytes, whole: dict[str, Any], data: list[float]) -> Row | None:
        id, parameters = whole.get("id"), whole.get("parameters", {})
        plain = whole.keys() <= _MEMBERS and type(parameters) is dict and parameters.keys() <= _KEPT
        if not plain or not (id is None or is_id(id)):
            return None
        if raw.count(b":") != 4 + len(whole) + len(parameters):
            return None
        return Row(data, id, name_in(parameters, "entity"), name_in(parameters, "correlation_id"), bare=False)

    def matrix(self, rows: Sequence[Row]) -> tuple[Array, Array]:
        """The model's matrix, and which rows hold a number beyond its datatype."""
        wide = np.array([row.data for row in rows], np.float64)
        beyond: Array = np.asarray((np.abs(wide) > self._bound).any(axis=1))
        with np.errstate(over="ignore"):
            return wide.astype(self._dtype), beyond

    def answers(
        self, ids: Sequence[str], rows: Sequence[Row], outputs: Mapping[str, Array], variant: str
    ) -> list[bytes] | None:
        """One response for each row; None where the outputs are not one row for each."""
        pieces: list[list[bytes]] = []
        heads: list[bytes] = []
        for name, head in self._outputs:
            cut = _cut(outputs[name], len(rows))
            if cut is None:
                return None
            shape = orjson.dumps((1, *outputs[name].shape[1:]))
            heads.append(b'%b%b,"data":[' % (head, shape))
            pieces.append(cut)
        start = b',"parameters":{"variant":' + orjson.dumps(variant) + b',"inference_id":"'
        middle = b'"},"outputs":['
        template = b"]},".join(head + b"%b" for head in _escaped(heads)) + b"]}]}"
        return [
            b"".join((self._head, _id(row), start, id.encode(), middle, template % parts))
            for id, row, parts in zip(ids, rows, zip(*pieces, strict=True), strict=True)
        ]


def _id(row: Row) -> bytes:
    return b"" if row.id is None else b',"id":' + orjson.dumps(row.id)


def _escaped(heads: Sequence[bytes]) -> list[bytes]:
    return [head.replace(b"%", b"%%") for head in heads]


def _cut(values: Array, rows: int) -> list[bytes] | None:
    """The JSON of each row's values, out of one serialisation of all."""
    if values.ndim not in (1, 2) or len(values) != rows or values.dtype == object or values.size == 0:
        return None
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    text = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)
    return text[1:-1].split(b",") if values.ndim == 1 else text[2:-2].split(b"],[")
