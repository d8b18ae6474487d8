"""The uploaded file: rows in Parquet, checked against the model's columns, read in chunks."""

import asyncio
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts import ModelSchema, TensorSpec
from services.kit.errors import Invalid
from services.kit.models.feeding import matrix_of

from ..v2 import NUMPY
from ..v2.errors import called
from ..v2.matrix import whole
from . import arrow, texts
from .cells import REFUSED, Kind, Takes
from .texts import short

Columns = dict[str, np.ndarray[Any, Any]]

LARGEST_ROWS = 100_000_000
_LARGEST_PART = 1024**3
"""Bytes of one column of one row group, unpacked: so much of it may have to be in memory."""
_KINDS: dict[str, Kind] = {"BYTES": "text", "BOOL": "truth"}
_CALLED: dict[Kind, str] = {"number": "a number", "text": "text", "truth": "true or false"}
_NUMERIC = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
_FILLED = {b"fairlead:filled": b""}
"""Marks a column that is not in the file."""
_PARQUET = b"PAR1"
_UNREADABLE = (pa.ArrowException, OSError, ValueError, LookupError, MemoryError)
_TEXTS = {"text/csv": "csv", "application/x-ndjson": "jsonl", "application/jsonl": "jsonl"}


async def to_parquet(path: Path, file_name: str, media_type: str, schema: ModelSchema) -> Path:
    """The upload as Parquet, whatever it was. Raises Invalid where it is nothing that batches take, or where a column
    of the model's does not hold what the model takes."""
    magic = await asyncio.to_thread(_magic, path)
    if not magic:
        raise Invalid("the file is empty", "file")
    if magic.startswith(_PARQUET):
        return path
    if magic == arrow.FILE or magic.startswith(arrow.STREAM):
        return await arrow.to_parquet(path, needed(schema))
    kind = _TEXTS.get(media_type.partition(";")[0].strip().lower()) or Path(file_name).suffix.lower().lstrip(".")
    if kind in ("csv", "jsonl", "ndjson"):
        kind = "csv" if kind == "csv" else "jsonl"
        return await asyncio.to_thread(texts.to_parquet, path, kind, needed(schema), optional(schema))
    raise Invalid(f"the file {called(file_name)} is neither Parquet nor CSV nor JSON Lines nor Arrow", "file")


def _magic(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(arrow.FILE))


class Sheet:
    """A Parquet file and the columns of it that a model takes. Blocking: call it in a thread."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = pq.ParquetFile(path)
            self._types = {field.name: field.type for field in self._file.schema_arrow}
        except _UNREADABLE as error:
            raise Invalid(f"the file is not readable Parquet: {short(error)}", "file") from None
        self.rows = int(self._file.metadata.num_rows)

    def check(self, schema: ModelSchema) -> None:
        """Raise Invalid naming what the model needs and the file does not have."""
        if self.rows == 0:
            raise Invalid("the file has no rows", "file")
        if self.rows > LARGEST_ROWS:
            raise Invalid(f"the file has {self.rows} rows; a batch takes {LARGEST_ROWS}", "file")
        takes, may_miss = needed(schema), optional(schema)
        for name, kind in takes.items():
            if name not in self._types and name in may_miss and not takes.keys().isdisjoint(self._types):
                continue
            if name not in self._types:
                have = ", ".join(list(self._types)[:20])
                raise Invalid(f"the column {called(name)} is missing; the file has {have[:300]}", name[:80])
            if not _fits(self._types[name], kind):
                told = f"the column {called(name)} is {self._types[name]}; the model takes {_CALLED[kind]}"
                raise Invalid(told, name[:80])
            if self._file.schema_arrow.names.count(name) > 1:
                raise Invalid(f"the column {called(name)} is there twice", name[:80])
        self._refuse_large_parts(takes.keys())

    def _refuse_large_parts(self, names: Collection[str]) -> None:
        metadata = self._file.metadata
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            for part in (group.column(place) for place in range(group.num_columns)):
                if part.path_in_schema in names and part.total_uncompressed_size > _LARGEST_PART:
                    raise Invalid(
                        f"column {called(part.path_in_schema)} of row group {number} has more than {_LARGEST_PART} "
                        "bytes: write smaller row groups", part.path_in_schema[:80],
                    )  # fmt: skip

    def batches(self, schema: ModelSchema, size: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Chunks by number, with the columns that the model takes, and `REFUSED` where the file has it;
        an optional column that it does not have is there without values.

        Raises Invalid naming the column and the row from which on the file cannot be read.
        """
        names, number = [name for name in (*needed(schema), REFUSED) if name in self._types], -1
        try:
            for number, batch in enumerate(_even(self._file.iter_batches(batch_size=size, columns=names), size)):
                yield number, _filled(batch, schema)
        except _UNREADABLE as error:
            where = next((f"column {called(name)}" for name in names if not self._readable(name)), "the file")
            raise Invalid(f"{where} cannot be read from row {(number + 1) * size} on: {short(error)}") from None

    def _readable(self, name: str) -> bool:
        try:
            for batch in self._file.iter_batches(columns=[name]):
                batch.validate(full=True)
        except _UNREADABLE:
            return False
        return True


def needed(schema: ModelSchema) -> dict[str, Kind]:
    """Column names of the model, and what each takes."""
    if matrix := matrix_of(schema):
        return {column.name: _KINDS.get(matrix.datatype, "number") for column in schema.columns}
    return {spec.name: _KINDS.get(spec.datatype, "number") for spec in schema.inputs}


def optional(schema: ModelSchema) -> frozenset[str]:
    """The columns that a file need not have, as a request need not: where the schema allows a missing value."""
    nullable = {column.name for column in schema.columns if column.nullable}
    floats = [spec.name for spec in schema.inputs if spec.datatype.startswith("FP")]
    return frozenset(nullable & set(floats) if not matrix_of(schema) else nullable if floats else ())


def columns_of(batch: pa.RecordBatch, takes: Takes, first_row: int) -> Columns:
    """The columns as arrays; a missing number is NaN. Raises Invalid naming the column that cannot be read."""
    made: Columns = {}
    for name in batch.schema.names:
        if name not in takes:
            continue
        try:
            made[name] = _array(batch.column(name), text=takes[name] == "text")
        except _UNREADABLE as error:
            raise Invalid(f"column {called(name)} cannot be read from row {first_row} on: {short(error)}") from None
    return made


def refused_of(batch: pa.RecordBatch) -> dict[int, str]:
    """Why rows of a chunk are not to be asked, by their position."""
    if REFUSED not in batch.schema.names or batch.column(REFUSED).null_count == batch.num_rows:
        return {}
    return {row: str(why)[:300] for row, why in enumerate(batch.column(REFUSED).to_pylist()) if why is not None}


def asked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows of a chunk that a model is asked."""
    return batch.filter(batch.column(REFUSED).is_null()) if refused_of(batch) else batch


def parquet(table: pa.Table) -> bytes:
    """A table as a file in memory."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def tensor(spec: TensorSpec, values: np.ndarray[Any, Any], *, nullable: bool) -> np.ndarray[Any, Any]:
    """One column as an input tensor of one column. Raises Invalid where it does not fit its datatype, as a request's
    would not."""
    shape = (len(values), *(1 if size == -1 else size for size in spec.shape[1:]))
    if int(np.prod(shape)) != len(values):
        raise Invalid(f"tensor {called(spec.name)} is no single column: batches cannot fill it", spec.name)
    if spec.datatype == "BYTES":
        if any(value is None for value in values):
            raise Invalid(f"column {called(spec.name)} is missing", spec.name)
        return values.reshape(shape)
    if np.isnan(values).any() and not nullable:
        raise Invalid(f"column {called(spec.name)} is missing", spec.name)
    if np.isinf(values).any():
        raise Invalid(f"column {called(spec.name)} is infinite", spec.name)
    if NUMPY[spec.datatype].kind == "f":
        with np.errstate(over="ignore"):
            cast = values.astype(NUMPY[spec.datatype])
        wrong = np.isinf(cast)
    else:
        cast, wrong = whole(values, NUMPY[spec.datatype])
    if wrong.any():
        raise Invalid(f"column {called(spec.name)} holds a number that is no {spec.datatype}", spec.name)
    return cast.reshape(shape)


def _filled(batch: pa.RecordBatch, schema: ModelSchema) -> pa.RecordBatch:
    for name in sorted(optional(schema) - set(batch.schema.names)):
        batch = batch.append_column(
            pa.field(name, pa.float64(), metadata=_FILLED), pa.nulls(batch.num_rows, pa.float64())
        )
    return batch


def is_as_in_file(batch: pa.RecordBatch) -> bool:
    """Whether the file itself has all columns of a chunk."""
    return not any(field.metadata and _FILLED.keys() <= field.metadata.keys() for field in batch.schema)


def _even(batches: Iterator[pa.RecordBatch], size: int) -> Iterator[pa.RecordBatch]:
    """Chunks of exactly `size` rows (the last may be smaller), whatever row groups the file has."""
    kept: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        while rows + batch.num_rows >= size:
            take = size - rows
            yield _joined([*kept, batch.slice(0, take)])
            kept, rows, batch = [], 0, batch.slice(take)
        if batch.num_rows:
            kept.append(batch)
            rows += batch.num_rows
    if rows:
        yield _joined(kept)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _fits(has: pa.DataType, kind: Kind) -> bool:
    """Truths are the numbers 0 and 1, both ways."""
    if pa.types.is_dictionary(has):
        has = has.value_type
    if pa.types.is_null(has):
        return True
    if kind == "text":
        return pa.types.is_string(has) or pa.types.is_large_string(has) or pa.types.is_binary(has)
    return any(each(has) for each in _NUMERIC)


def _array(column: pa.Array, *, text: bool) -> np.ndarray[Any, Any]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if text:
        made = np.empty(len(column), object)
        made[:] = column.cast(pa.large_binary()).to_pylist()
        return made
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
