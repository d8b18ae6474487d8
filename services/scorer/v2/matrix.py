"""The one input whose columns the schema names, put together of its columns in its own datatype."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from contracts import Column, Datatype, TensorSpec

from .errors import BadInput, called
from .reading import Reading
from .tensors import NUMPY, Array, Place

_NUMERIC: dict[str, Datatype] = {name: name for name in NUMPY if name not in ("BOOL", "BYTES")}
_EXACT = 2.0**53


class Matrix:
    """Compiled from the tensor and the columns, which are as many as it is wide."""

    def __init__(self, spec: TensorSpec, columns: Sequence[Column]) -> None:
        self._datatype = spec.datatype
        self._dtype = NUMPY[spec.datatype]
        self._columns = columns
        self._by_name = {column.name: column for column in columns}
        self._taken = _NUMERIC if spec.datatype in _NUMERIC else {spec.datatype: spec.datatype}

    def assembled(self, tensors: Sequence[dict[str, Any]], reading: Reading, takes: str) -> Array:
        """Of a request that names its columns, one tensor of [rows] or [rows, 1] each. Raises BadInput; `takes`: what
        the model does."""
        given: dict[str, Array] = {}
        for one in tensors:
            name = one.get("name")
            column = self._by_name.get(name) if isinstance(name, str) else None
            if column is None:
                raise BadInput(f"column {called(name)} is not one of this model: {takes}", "inputs")
            values = self._column(column, one, reading)
            if column.name in given:
                raise BadInput(f"column {called(name)} is there twice", column.name)
            given[column.name] = values
        reading.end()
        return self.of(given)

    def of(self, given: Mapping[str, Array]) -> Array:
        """Of named columns of equal length; a float that is not there is NaN. Raises BadInput naming the column."""
        rows = max(map(len, given.values()), default=0)
        made = np.full((rows, len(self._columns)), np.nan if self._dtype.kind == "f" else 0, self._dtype)
        for position, column in enumerate(self._columns):
            values = given.get(column.name)
            if values is None and not (column.nullable and self._dtype.kind == "f"):
                raise BadInput(f"column {called(column.name)} is missing", column.name)
            if values is not None and len(values) != rows:
                raise BadInput(f"column {called(column.name)} has {len(values)} rows, others {rows}", column.name)
            if values is not None:
                made[:, position] = self._fitting(column.name, values)
        return made

    def _fitting(self, name: str, values: Array) -> Array:
        if self._dtype.kind == "f":
            with np.errstate(over="ignore"):
                return values.astype(self._dtype)
        if self._dtype.kind == "O":
            missing = any(value is None for value in values.tolist())
            made, wrong = values, np.zeros(0, bool)
        else:
            missing = values.dtype.kind == "f" and bool(np.isnan(values).any())
            made, wrong = whole(values, self._dtype)
        if missing:
            raise BadInput(f"column {called(name)} is missing", name)
        if wrong.any():
            raise BadInput(f"column {called(name)} holds a number that is no {self._datatype}", name)
        return made

    def _column(self, column: Column, one: dict[str, Any], reading: Reading) -> Array:
        """[rows]"""
        datatype, shape = one.get("datatype"), one.get("shape")
        kind = self._taken.get(datatype) if isinstance(datatype, str) else None
        if kind is None:
            wanted = "a number" if self._taken is _NUMERIC else self._datatype
            raise BadInput(f"column {called(column.name)} has datatype {called(datatype)}; {wanted} is needed",
                           column.name)  # fmt: skip
        spec = _column_spec(column.name, kind, 2 if type(shape) is list and len(shape) == 2 else 1)
        nulls = column.nullable and kind.startswith("FP")
        return reading.values(spec, one, Place(spec, [column.name]), nulls=nulls).reshape(-1)


def whole(values: Array, dtype: "np.dtype[Any]") -> tuple[Array, Array]:
    """Numbers in a datatype without fractions, and which of them it does not hold. A float from 2^53 on stands for its
    neighbours, too: as 64 bits it is none of them."""
    with np.errstate(over="ignore", invalid="ignore"):
        made = values.astype(dtype)
    if values.dtype.kind in "iu" and dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        return made, (values < bounds.min) | (values > bounds.max)
    wrong = made != values
    if values.dtype.kind == "f" and dtype.itemsize == 8:
        wrong |= np.abs(values) >= _EXACT
    return made, wrong


@lru_cache(4096)
def _column_spec(name: str, datatype: Datatype, rank: int) -> TensorSpec:
    """Of a column that is sent by its name; made once, since checking it takes longer than reading a row."""
    return TensorSpec(name=name, datatype=datatype, shape=(-1, 1)[:rank])
