"""Files of text to Parquet, piece by piece: Arrow's readers, and cell by cell where those refuse the file.

The model's numbers are read as numbers, all else as text: no type is guessed from the first lines.
"""

import json as plain_json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.json as json
import pyarrow.parquet as pq

from contracts import MISSING_CELLS
from services.kit.errors import Invalid

from ..v2.errors import called
from . import cells
from .cells import Kind, Takes

_NUMBER = pa.float64()
_PIECE = 1024**2
_LONGEST_LINE = 16 * 1024**2
Blocks = tuple[pa.Schema, Iterable[pa.RecordBatch]]
Reader = Callable[[Path, Takes], Blocks]
_UNREADABLE = (pa.ArrowException, UnicodeDecodeError)


def to_parquet(path: Path, kind: str, takes: Takes, optional: Collection[str]) -> Path:
    """A file of `kind` csv or jsonl as Parquet, with the columns `takes`. Blocking.

    A cell that is not what its column takes has a reason in `cells.REFUSED`. Raises Invalid naming the row (from 0)
    from which on the file is none of its kind, or the column, not `optional`, that no line of JSON Lines has.
    """
    to = path.with_suffix(".parquet")
    fast, slow = (_csv, _csv_cells) if kind == "csv" else (_lines, _line_by_line)
    try:
        seen = _written(fast(path, takes), to)
    except _UNREADABLE:
        try:
            seen = _written(slow(path, takes), to)
        except _UNREADABLE as error:
            raise Invalid(f"the file is not valid {kind}: {short(error)}", "file") from None
    if kind != "csv" and takes.keys() - seen - set(optional):
        keys = _keys(path)  # a column that is there, with nothing that fits, is told of row by row
        if missing := [name for name in takes if name not in seen and name not in optional and name not in keys]:
            have = ", ".join(keys[:20])[:300] or "no keys"
            raise Invalid(f"the column {called(missing[0])} is missing; the file has {have}", missing[0][:80])
    return to


def short(error: Exception) -> str:
    """A library's own words, cut."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _written(blocks: Blocks, to: Path) -> set[str]:
    """The columns that have a value anywhere."""
    schema, batches = blocks
    texts = any(pa.types.is_string(kind) for kind in schema.types)
    seen: set[str] = set()
    with pq.ParquetWriter(to, schema) as writer:
        for batch in batches:
            if texts:
                batch.validate(full=True)  # Arrow's reader of JSON takes any bytes for text
            seen |= {n for n, c in zip(schema.names, batch.columns, strict=True) if c.null_count < len(c)}
            writer.write_batch(batch)
    return seen


# CSV


def _csv(path: Path, takes: Takes) -> Blocks:
    types = {name: _kind(takes.get(name), pa.bool_()) for name in _header(path)}
    reader = csv.open_csv(path, convert_options=_as(types))
    return reader.schema, reader


def _csv_cells(path: Path, takes: Takes) -> Blocks:
    """Cells as bytes first."""
    names = _header(path)
    schema = pa.schema([pa.field(name, _kind(takes.get(name))) for name in names] + [_REFUSED])
    return schema, _cells_of(path, takes, schema)


def _cells_of(path: Path, takes: Takes, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Raises Invalid for the first row that has not as many cells as the header."""
    wrong: list[csv.InvalidRow] = []
    parsing = csv.ParseOptions(newlines_in_values=True, invalid_row_handler=lambda row: wrong.append(row) or "error")
    kinds = _as(dict.fromkeys(schema.names, pa.binary()))
    try:
        for block in csv.open_csv(path, csv.ReadOptions(use_threads=False), parsing, kinds):
            yield cells.of_csv(block, takes, schema)
    except pa.ArrowInvalid:
        if not wrong:
            raise
        row = wrong[0].number - 2  # the reader's first is the header
        said = (
            f"row {row} has {wrong[0].actual_columns} cells; the first line names {wrong[0].expected_columns} columns"
        )
        raise Invalid(f"the file is not valid csv: {said}", "file") from None


def _header(path: Path) -> list[str]:
    parsing = csv.ParseOptions(newlines_in_values=True, invalid_row_handler=lambda _: "skip")
    with csv.open_csv(path, parse_options=parsing) as first:
        return first.schema.names


def _as(types: Mapping[str, pa.DataType]) -> csv.ConvertOptions:
    return csv.ConvertOptions(column_types=types, null_values=sorted(MISSING_CELLS))


def _kind(kind: Kind | None, truth: pa.DataType = _NUMBER) -> pa.DataType:
    """What no model takes is never looked into. `truth`: how those are read, which cell by cell may be numbers."""
    if kind is None:
        return pa.binary()
    return {"number": _NUMBER, "text": pa.string(), "truth": truth}[kind]


_REFUSED = pa.field(cells.REFUSED, pa.string())


# JSON Lines


def _lines(path: Path, takes: Takes) -> Blocks:
    """The model's columns and no others; a key that no line has is null."""
    schema = _fields(takes, pa.bool_())
    return schema, _one_a_line(json.open_json(path, parse_options=_taking(schema)), path)


def _one_a_line(blocks: Iterable[pa.RecordBatch], path: Path) -> Iterator[pa.RecordBatch]:
    """Arrow's reader ends a row with its object, wherever that is. Raises pa.ArrowInvalid."""
    rows = 0
    for block in blocks:
        rows += block.num_rows
        yield block
    with path.open("rb") as file:
        closed = Counter(map(_is_closed, filter(None, map(_stripped, file))))
    if closed != {True: rows}:
        raise pa.ArrowInvalid("not an object a line")


def _is_closed(line: bytes) -> bool:
    """Of as many lines as objects, all of them so, none has two and none has a part of one."""
    return line.startswith(b"{") and line.endswith(b"}")


def _fields(takes: Takes, truth: pa.DataType = _NUMBER) -> pa.Schema:
    return pa.schema([pa.field(name, _kind(kind, truth)) for name, kind in takes.items()])


def _taking(schema: pa.Schema) -> json.ParseOptions:
    return json.ParseOptions(schema, unexpected_field_behavior="ignore")


def _line_by_line(path: Path, takes: Takes) -> Blocks:
    plain = _fields(takes)
    return plain.append(_REFUSED), _pieces(path, takes, plain)


def _pieces(path: Path, takes: Takes, plain: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Arrow's reader again for each piece that it takes. Raises Invalid naming the first line that is no object."""
    first = 0
    with path.open("rb") as file:
        while read := file.readlines(_PIECE):
            lines = [line for line in map(_stripped, read) if line]
            try:
                block = _at_once(lines, plain)
            except _UNREADABLE:
                block = _one_by_one(lines, takes, plain.append(_REFUSED), first)
            first += block.num_rows
            yield block


def _stripped(line: bytes) -> bytes:
    return line.removeprefix(b"\xef\xbb\xbf").strip()


def _at_once(lines: list[bytes], plain: pa.Schema) -> pa.RecordBatch:
    """Raises pa.ArrowInvalid."""
    options = json.ReadOptions(use_threads=False, block_size=2 * _PIECE)
    read = json.read_json(pa.BufferReader(b"\n".join(lines)), options, _taking(plain)).combine_chunks()
    read.validate(full=True)
    if read.num_rows != len(lines) or not all(map(_is_closed, lines)):
        raise pa.ArrowInvalid("not an object a line")
    return pa.RecordBatch.from_arrays(
        [*(column.chunk(0) for column in read.columns), pa.nulls(read.num_rows, pa.string())],
        schema=plain.append(_REFUSED),
    )


def _one_by_one(lines: list[bytes], takes: Takes, schema: pa.Schema, first: int) -> pa.RecordBatch:
    if too_long := next((at for at, line in enumerate(lines) if len(line) > _LONGEST_LINE), None):
        raise Invalid(f"row {first + too_long} is longer than {_LONGEST_LINE} bytes", "file")
    try:
        return cells.of_lines(lines, takes, schema)
    except cells.NoObject as error:
        place, why = error.args
        raise Invalid(f"row {first + place} of the file is no row: {why}", "file") from None


def _keys(path: Path) -> list[str]:
    """What the first line has."""
    with path.open("rb") as file:
        line = next(filter(None, map(_stripped, file)), b"{}")
    try:
        return list(plain_json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return []
