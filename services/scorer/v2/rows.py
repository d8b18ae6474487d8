"""Many plain one-row requests at once: what streams are made of, read and answered without an array for each.

Anything that is not plain (several rows, nulls, binary tensors, named columns, text, sensitive columns) is left to
the codec, which says the same of every request that both can read.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from contracts import ModelSchema, TensorSpec

from .document import is_id, name_in
from .errors import BadInput
from .tensors import NUMPY, Array

_INTEGERS = frozenset({int})
_NUMBERS = frozenset({int, float})
_MEMBERS = frozenset({"inputs", "id", "parameters"})
_KEPT = frozenset({"entity", "correlation_id"})
_BYTES = 64 * 1024
"""A longer request is none of many small ones: the codec reads it as well."""
_DATA = re.compile(rb'"data"\s*:\s*\[')
_IN_NUMBERS = b"0123456789+-.eE, \t\r\n"


@dataclass(slots=True)
class Row:
    """A plain request: one row of the matrix, and its small members."""

    id: str | None = None
    entity: str | None = None
    correlation_id: str | None = None
    bare: bool = True
    """It has none of these."""


_BARE = Row()


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands before and after the numbers of a bare request: with other numbers in it, it is a bare one, too."""

    before: bytes
    after: bytes

    @classmethod
    def of(cls, raw: bytes) -> "Frame | None":
        """Of a request that was read and found bare."""
        places = [place.end() for place in _DATA.finditer(raw)]
        return cls(raw[: places[0]], raw[raw.index(b"]", places[0]) :]) if len(places) == 1 else None

    def inside(self, raws: Sequence[bytes]) -> list[bytes | None]:
        """What stands between them in each request, numbers or not; None of one with another frame."""
        before, after, first, last = self.before, self.after, len(self.before), -len(self.after)
        return [
            raw[first:last] if raw.startswith(before) and raw.endswith(after) and len(raw) < _BYTES else None
            for raw in raws
        ]


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
        self._frame: Frame | None = None
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

    def read(self, raws: Sequence[bytes]) -> tuple[list[Row | None], Array]:
        """The plain ones of some requests, None where the codec must look, for whatever reason; and the numbers of the
        plain ones in their order, [plain, columns] FP64.

        A producer's requests differ in their numbers and in nothing else: all that stand in the frame of a request that
        was read before are read at once.
        """
        wide = np.empty((len(raws), self._columns), np.float64)
        asked: list[Row | None] = self._framed(raws, wide)
        bare: bytes | None = None
        for place, raw in enumerate(raws):
            if asked[place] is None and (one := self._one(raw)):
                asked[place], wide[place] = one
                bare = raw if one[0].bare else bare
        if bare is not None:
            self._frame = Frame.of(bare)
        return asked, wide[[row is not None for row in asked]]

    def _framed(self, raws: Sequence[bytes], wide: Array) -> list[Row | None]:
        """Those in the known frame, their numbers put into `wide`."""
        asked: list[Row | None] = [None] * len(raws)
        if self._frame is None:
            return asked
        inside = self._frame.inside(raws)
        # A null or a text among the numbers is found by its letters, so that it is looked at alone.
        places = [place for place, text in enumerate(inside) if text and not text.translate(None, _IN_NUMBERS)]
        try:
            said: Any = orjson.loads(b"[[" + b"],[".join([inside[place] or b"" for place in places]) + b"]]")
            numbers = np.array(said, np.float64)
        except ValueError:  # among them one that is no JSON, or has another count of numbers than the others
            return asked
        if numbers.shape != (len(places), self._columns):
            return asked
        wide[places] = numbers
        for place in places:
            asked[place] = _BARE
        return asked

    def _one(self, raw: bytes) -> tuple[Row, list[float]] | None:
        """A plain request and its numbers."""
        if len(raw) >= _BYTES:
            return None
        try:
            whole: Any = orjson.loads(raw)
            tensor = whole["inputs"][0]
            data = tensor["data"]
            if (
                len(tensor) != 4 or len(whole["inputs"]) != 1
                or tensor["shape"] != self._shape or not _INTEGERS.issuperset(map(type, tensor["shape"]))
                or tensor["name"] != self.name or tensor["datatype"] != self._datatype
                or len(data) != self._columns or not _NUMBERS.issuperset(map(type, data))
            ):  # fmt: skip
                return None
            # As many colons as members: no key is there twice.
            if len(whole) == 1:
                return (_BARE, data) if raw.count(b":") == 5 else None
            row = self._with_members(raw, whole)
            return row and (row, data)
        except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError, BadInput):
            return None

    def _with_members(self, raw: bytes, whole: dict[str, Any]) -> Row | None:
        id, parameters = whole.get("id"), whole.get("parameters", {})
        plain = whole.keys() <= _MEMBERS and type(parameters) is dict and parameters.keys() <= _KEPT
        if not plain or not (id is None or is_id(id)):
            return None
        if raw.count(b":") != 4 + len(whole) + len(parameters):
            return None
        return Row(id, name_in(parameters, "entity"), name_in(parameters, "correlation_id"), bare=False)

    def matrix(self, wide: Array) -> tuple[Array, Array]:
        """The model's matrix of such numbers, and which rows hold one beyond its datatype."""
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
