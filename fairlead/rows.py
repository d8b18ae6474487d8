"""Rows as people hold them (dicts, numpy arrays, data frames) into tensors of the Open Inference Protocol V2."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contracts import NUMPY_OF

from .errors import Invalid

_DTYPES: dict[str, str] = {name: code for name, code in NUMPY_OF.items() if name != "BYTES"} | {"FP16": "f4"}
"""By name alone: numpy itself comes with the caller's rows. FP16 stays wider here, so that the scorer refuses by name
what does not fit it; rounding would make it an infinity."""


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


def tensors(rows: Any, signature: Signature) -> list[dict[str, Any]]:
    """The V2 `inputs` for some rows.

    `rows` may be one dict, a sequence of dicts or of sequences, a numpy array [rows, columns] or a data
    frame (pandas, polars, pyarrow). Raises `Invalid` naming the column that is missing or too many.
    """
    if _is_array(rows):
        return [_from_array(rows, signature)]
    table = _columns_of(rows)
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


def _columns_of(rows: Any) -> dict[str, list[Any]] | None:
    """Rows with named columns as columns; None when the rows have no names."""
    if hasattr(rows, "to_pydict"):
        return dict(rows.to_pydict())
    if hasattr(rows, "columns") and hasattr(rows, "__getitem__"):
        return {str(name): list(rows[name]) for name in rows.columns}
    if isinstance(rows, Mapping):
        return _from_dicts([rows])
    if not isinstance(rows, Iterable) or isinstance(rows, str | bytes):
        raise Invalid(f"rows: expected dicts, an array or a data frame, not {type(rows).__name__}", field="rows")
    listed = list(rows)
    if not listed:
        raise Invalid("rows: there are none", field="rows")
    return _from_dicts(listed) if isinstance(listed[0], Mapping) else None


def _from_dicts(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = list(rows[0])
    for number, row in enumerate(rows):
        odd = set(names) ^ set(row)
        if odd:
            raise Invalid(
                f"rows[{number}]: column {min(odd)!r} is not in every row", field=f"rows[{number}].{min(odd)}"
            )
    return {name: [row[name] for row in rows] for name in names}


def _from_array(rows: Any, signature: Signature) -> dict[str, Any]:
    spec = _only(signature)
    array = rows.reshape(1, -1) if rows.ndim == 1 and spec.width else rows
    _check_width(int(array.shape[1]) if array.ndim == 2 else None, spec)
    if spec.datatype in _DTYPES:
        array = array.astype(_DTYPES[spec.datatype])
    return _tensor(spec, list(array.shape), array.reshape(-1))


def _from_lists(rows: list[Any], signature: Signature) -> dict[str, Any]:
    spec = _only(signature)
    if not isinstance(rows[0], Sequence):
        rows = [rows] if spec.width else [[value] for value in rows]
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise Invalid("rows: they are not all equally long", field="rows")
    _check_width(widths.pop(), spec)
    shape = [len(rows), len(rows[0])] if len(spec.shape) == 2 else [len(rows)]
    return _tensor(spec, shape, [value for row in rows for value in row])


def _as_matrix(table: Mapping[str, list[Any]], signature: Signature) -> dict[str, Any]:
    spec = signature.inputs[0]
    names = signature.columns or tuple(table)
    _check_names(table, names)
    columns = [table[name] for name in names]
    _check_width(len(columns), spec)
    flat = [value for row in zip(*columns, strict=True) for value in row]
    return _tensor(spec, [len(columns[0]), len(columns)], flat)


def _as_vectors(table: Mapping[str, list[Any]], signature: Signature) -> list[dict[str, Any]]:
    _check_names(table, [spec.name for spec in signature.inputs])
    return [
        _tensor(spec, [len(table[spec.name])] + [1] * (len(spec.shape) - 1), table[spec.name])
        for spec in signature.inputs
    ]


def _check_names(table: Mapping[str, list[Any]], wanted: Iterable[str]) -> None:
    names = set(wanted)
    for missing in sorted(names - set(table)):
        raise Invalid(f"{missing}: this column is missing", field=missing)
    for extra in sorted(set(table) - names):
        raise Invalid(f"{extra}: the endpoint has no such column", field=extra)


def _check_width(width: int | None, spec: InputSpec) -> None:
    if spec.width is not None and width != spec.width:
        raise Invalid(f"{spec.name}: the endpoint takes {spec.width} columns, not {width}", field=spec.name)


def _only(signature: Signature) -> InputSpec:
    if len(signature.inputs) != 1:
        names = ", ".join(spec.name for spec in signature.inputs)
        raise Invalid(f"the endpoint takes several inputs ({names}): give rows with column names", field="rows")
    return signature.inputs[0]


def _tensor(spec: InputSpec, shape: list[int], data: Any) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": shape, "data": data}
