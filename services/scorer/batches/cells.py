"""Cells that are not what their column takes: found one by one where Arrow's readers refuse a whole file for them.

A row with such a cell is there with a reason in the column `REFUSED`, and is never asked of a model.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from contracts import MISSING_CELLS, number_in

from ..v2.errors import called

Kind = Literal["number", "text", "truth"]
"""What a column takes; truths are the numbers 0 and 1, too."""
Takes = Mapping[str, Kind]
"""The model's columns."""
REFUSED = "fairlead:refused"
"""The name of the column that says why a row is not asked; null for all others."""
NO = {"number": "is not a number", "text": "is not a text", "truth": "is not true or false"}
_TRUTHS = {"true": 1.0, "false": 0.0}


class Reasons:
    """Why rows of a block are refused: of several cells the first."""

    def __init__(self, rows: int) -> None:
        self._rows: list[str | None] = [None] * rows

    def add(self, row: int, column: str, what: str) -> None:
        """A cell that is wrong."""
        self._rows[row] = self._rows[row] or f"column {called(column)} {what}"

    def column(self) -> pa.Array:
        """As the column `REFUSED`."""
        return pa.array(self._rows, pa.string())


def of_csv(block: pa.RecordBatch, takes: Takes, schema: pa.Schema) -> pa.RecordBatch:
    """A block of cells as bytes in the types of `schema`, the last of which is `REFUSED`."""
    reasons = Reasons(block.num_rows)
    columns = [
        cells if (kind := takes.get(name)) is None else _READERS[kind](cells, name, reasons)
        for name, cells in zip(block.schema.names, block.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays([*columns, reasons.column()], schema=schema)


def _numbers(cells: pa.Array, name: str, reasons: Reasons) -> pa.Array:
    """All at once, else one by one."""
    try:
        texts = pc.utf8_trim(cells.cast(pa.string()), " \t")  # pyright: ignore
        missing = pc.is_in(texts, value_set=pa.array(sorted(MISSING_CELLS)))  # pyright: ignore
        return pc.if_else(missing, pa.scalar(None, pa.string()), texts).cast(pa.float64())  # pyright: ignore
    except pa.ArrowInvalid:
        return _each(cells, pa.float64(), _csv_number, (name, NO["number"], reasons))


def _csv_number(cell: bytes) -> float | None:
    found = number_in(cell.decode())
    return None if found is None else float(found)


def _truths(cells: pa.Array, name: str, reasons: Reasons) -> pa.Array:
    return _each(cells, pa.float64(), _csv_truth, (name, NO["truth"], reasons))


def _csv_truth(cell: bytes) -> float | None:
    known = _TRUTHS.get(cell.decode().strip().lower())
    return _csv_number(cell) if known is None else known


def _texts(cells: pa.Array, name: str, reasons: Reasons) -> pa.Array:
    try:
        return cells.cast(pa.string())
    except pa.ArrowInvalid:
        return _each(cells, pa.string(), bytes.decode, (name, "is no text in UTF-8", reasons))


def _each(
    cells: pa.Array, kind: pa.DataType, read: Callable[[bytes], object], wrong: tuple[str, str, Reasons]
) -> pa.Array:
    name, what, reasons = wrong
    made: list[object] = []
    for row, cell in enumerate(cells.to_pylist()):
        try:
            made.append(read(cell))
        except ValueError:
            made.append(None)
            reasons.add(row, name, what)
    return pa.array(made, kind)


_READERS = {"number": _numbers, "text": _texts, "truth": _truths}


class NoObject(ValueError):
    """A line of JSON Lines that is no JSON object."""


def of_lines(lines: Sequence[bytes], takes: Takes, schema: pa.Schema) -> pa.RecordBatch:
    """Lines, none of them empty, as a block. Raises NoObject holding the line's position among them, and why."""
    reasons = Reasons(len(lines))
    rows = [_object(place, line, takes, reasons) for place, line in enumerate(lines)]
    columns = [
        pa.array([_value(row.get(name), kind, (place, name, reasons)) for place, row in enumerate(rows)],
                 pa.string() if kind == "text" else pa.float64())
        for name, kind in takes.items()
    ]  # fmt: skip
    return pa.RecordBatch.from_arrays([*columns, reasons.column()], schema=schema)


def _object(place: int, line: bytes, takes: Takes, reasons: Reasons) -> dict[str, Any]:
    twice: list[str] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            names = [name for name, _ in pairs]
            twice.extend(name for name in takes if names.count(name) > 1)
        return made

    try:
        row = json.loads(line, object_pairs_hook=once, parse_int=float)
    except (ValueError, RecursionError) as error:
        _no_object(place, error)
    if not isinstance(row, dict):
        raise NoObject(place, "it is no JSON object")
    if twice:
        reasons.add(place, twice[0], "is there twice")
    return row


def _no_object(place: int, error: Exception) -> NoReturn:
    match error:
        case json.JSONDecodeError():
            why = f"it is not valid JSON: {error.msg} (character {error.colno})"
        case UnicodeDecodeError():
            why = "it is no text in UTF-8"
        case _:
            why = "the JSON is nested too deep"
    raise NoObject(place, why) from None


def _value(value: object, kind: Kind, wrong: tuple[int, str, Reasons]) -> float | str | None:
    place, name, reasons = wrong
    match value:
        case None:
            return None
        case str() if kind == "text":
            if value.isascii() or _encodes(value):
                return value
            reasons.add(place, name, "is no text in UTF-8")
        case float() if kind != "text":
            return value
        case bool() if kind == "truth":
            return float(value)
        case _:
            reasons.add(place, name, NO[kind])
    return None


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
