"""Rows as people hold them (dicts, numpy arrays, data frames) into tensors of the Open Inference Protocol V2."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contracts import NUMPY_OF, number_in

from .errors import Invalid

_DTYPES: dict[str, str] = {name: code for name, code in NUMPY_OF.items() if name != "BYTES"} | {"FP16": "f4"}
"""By name alone: numpy itself comes with the caller's rows. FP16 stays wider here, so that the scorer refuses by name
what does not fit it; rounding would make it an infinity."""

_INFINITE = frozenset({math.inf, -math.inf})


@dataclass(frozen=True)
class InputSpec:
    """One input tensor of an endpoint, as its metadata tells it."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def width(self) -> int | None:
        """The columns of a matrix input; None for a vector or an unknown width."""
        return self.shape[1] if len(self.shape) == 2 and self.shape[1] > 0 else None


@dataclass(frozen=True)
class Signature:
    """What an endpoint takes: its input tensors, and the column names of its matrix where it has one."""

    inputs: tuple[InputSpec, ...]
    columns: tuple[str, ...] = ()
    nullable: frozenset[str] = frozenset()
    """The columns that rows may leave out: they are missing then, as they are where a row says None or NaN."""


class Cell(str):
    """A cell of CSV, which says a number or a text: what its column takes decides."""


def tensors(rows: Any, signature: Signature) -> list[dict[str, Any]]:
    """The V2 `inputs` for some rows.

    `rows` may be one dict, a sequence of dicts or of sequences, a numpy array [rows, columns] or a data
    frame (pandas, polars, pyarrow). Raises `Invalid` naming the column that is missing, too many or infinite.
    """
    if _is_array(rows):
        return [_from_array(rows, signature)]
    table = _columns_of(rows, signature.nullable)
    if table is None:
        return [_from_lists(list(rows), signature)]
    if len(signature.inputs) == 1 and len(signature.inputs[0].shape) == 2:
        return [_as_matrix(table, signature)]
    return _as_vectors(table, signature)


def have_names(rows: Any) -> bool:
    """Whether these rows name their columns, so that the endpoint's order of columns is needed."""
    if hasattr(rows, "columns") or hasattr(rows, "to_pydict") or isinstance(rows, Mapping):
        return True
    return isinstance(rows, Sequence) and bool(rows) and isinstance(rows[0], Mapping)


def _is_array(rows: Any) -> bool:
    return hasattr(rows, "__array__") and hasattr(rows, "ndim") and not hasattr(rows, "columns")


def _columns_of(rows: Any, nullable: frozenset[str]) -> dict[str, list[Any]] | None:
    """Rows with named columns as columns; None when the rows have no names."""
    if hasattr(rows, "to_pydict"):
        return dict(rows.to_pydict())
    if hasattr(rows, "columns") and hasattr(rows, "__getitem__"):
        return {str(name): list(rows[name]) for name in rows.columns}
    if isinstance(rows, Mapping):
        return _from_dicts([rows], nullable)
    if not isinstance(rows, Iterable) or isinstance(rows, str | bytes):
        raise Invalid(f"rows: expected dicts, an array or a data frame, not {type(rows).__name__}", field="rows")
    listed = list(rows)
    if not listed:
        raise Invalid("rows: there are none", field="rows")
    return _from_dicts(listed, nullable) if isinstance(listed[0], Mapping) else None


def _from_dicts(rows: Sequence[Mapping[str, Any]], nullable: frozenset[str]) -> dict[str, list[Any]]:
    some = [name for name in nullable if any(name in row for row in rows)]
    names = list(dict.fromkeys([*rows[0], *some]))
    for number, row in enumerate(rows):
        odd = (set(names) ^ set(row)) - nullable
        if odd:
            raise Invalid(
                f"rows[{number}]: column {min(odd)!r} is not in every row", field=f"rows[{number}].{min(odd)}"
            )
    return {name: [row.get(name) for row in rows] for name in names}


def _from_array(rows: Any, signature: Signature) -> dict[str, Any]:
    spec = _only(signature)
    array = rows.reshape(1, -1) if rows.ndim == 1 and spec.width else rows
    _check_width(int(array.shape[1]) if array.ndim == 2 else None, spec)
    if spec.datatype in _DTYPES:
        array = array.astype(_DTYPES[spec.datatype])
    return _tensor(spec, list(array.shape), array.reshape(-1), signature.columns)


def _from_lists(rows: list[Any], signature: Signature) -> dict[str, Any]:
    spec = _only(signature)
    if not isinstance(rows[0], Sequence):
        rows = [rows] if spec.width else [[value] for value in rows]
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise Invalid("rows: they are not all equally long", field="rows")
    _check_width(widths.pop(), spec)
    shape = [len(rows), len(rows[0])] if len(spec.shape) == 2 else [len(rows)]
    return _tensor(spec, shape, [value for row in rows for value in row], signature.columns)


def _as_matrix(table: Mapping[str, list[Any]], signature: Signature) -> dict[str, Any]:
    spec = signature.inputs[0]
    names = signature.columns or tuple(table)
    columns = list(_named(table, names, signature.nullable).values())
    _check_width(len(columns), spec)
    flat = [value for row in zip(*columns, strict=True) for value in row]
    return _tensor(spec, [len(columns[0]), len(columns)], flat, names)


def _as_vectors(table: Mapping[str, list[Any]], signature: Signature) -> list[dict[str, Any]]:
    table = _named(table, [spec.name for spec in signature.inputs], signature.nullable)
    return [
        _tensor(spec, [len(table[spec.name])] + [1] * (len(spec.shape) - 1), table[spec.name])
        for spec in signature.inputs
    ]


def _named(table: Mapping[str, list[Any]], wanted: Sequence[str], nullable: frozenset[str]) -> dict[str, list[Any]]:
    """The wanted columns in their order; a nullable one that is not there is missing in every row."""
    names, rows = set(wanted), len(next(iter(table.values()), ()))
    for missing in sorted(names - set(table) - nullable):
        raise Invalid(f"{missing}: this column is missing", field=missing)
    for extra in sorted(set(table) - names):
        raise Invalid(f"{extra}: the endpoint has no such column", field=extra)
    return {name: table[name] if name in table else [None] * rows for name in wanted}


def _check_width(width: int | None, spec: InputSpec) -> None:
    if spec.width is not None and width != spec.width:
        raise Invalid(f"{spec.name}: the endpoint takes {spec.width} columns, not {width}", field=spec.name)


def _only(signature: Signature) -> InputSpec:
    if len(signature.inputs) != 1:
        names = ", ".join(spec.name for spec in signature.inputs)
        raise Invalid(f"the endpoint takes several inputs ({names}): give rows with column names", field="rows")
    return signature.inputs[0]


def _tensor(spec: InputSpec, shape: list[int], data: Any, columns: Sequence[str] = ()) -> dict[str, Any]:
    if spec.datatype != "BYTES":
        if isinstance(data, list):
            data = [_read(value) if type(value) is Cell else value for value in data]
        _refuse_infinite(spec, data, columns)
    return {"name": spec.name, "datatype": spec.datatype, "shape": shape, "data": data}


def _read(cell: Cell) -> float | bool | str | None:
    """What does not say a number stays a text, for the scorer to refuse by its column."""
    try:
        return number_in(cell)
    except ValueError:
        return {"true": True, "false": False}.get(cell.strip().lower(), cell)


def _refuse_infinite(spec: InputSpec, data: Any, columns: Sequence[str]) -> None:
    """Infinity has no JSON: it would be sent as null, which is another value."""
    if not _has_infinite(data):
        return
    at = next(place for place, value in enumerate(data) if value in _INFINITE)
    row, place = divmod(at, len(columns) or 1)
    column = columns[place] if columns else spec.name
    raise Invalid(f"{column}: row {row} is infinite, or beyond {spec.datatype}", field=column)


def _has_infinite(data: Any) -> bool:
    if not isinstance(data, list):
        return bool((abs(data) == math.inf).any())
    try:
        return not _INFINITE.isdisjoint(data)
    except TypeError:  # a value that is no number at all: the scorer refuses it by its column
        return False
