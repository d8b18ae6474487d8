"""The uploaded file: rows in Parquet, checked against the model's columns, read in chunks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.json as json
import pyarrow.parquet as pq

from contracts import ModelSchema, TensorSpec
from services.kit.errors import Invalid

from ..v2 import NUMPY
from ..v2.errors import called

Columns = dict[str, np.ndarray[Any, Any]]

_PARQUET = b"PAR1"
_TEXTS = {"text/csv": "csv", "application/x-ndjson": "jsonl", "application/jsonl": "jsonl"}


def to_parquet(path: Path, file_name: str, media_type: str) -> Path:
    """The upload as Parquet, whatever it was. Raises Invalid where it is nothing that batches take."""
    with path.open("rb") as file:
        magic = file.read(4)
    if not magic:
        raise Invalid("the file is empty", "file")
    kind = _TEXTS.get(media_type.partition(";")[0].strip().lower()) or Path(file_name).suffix.lower().lstrip(".")
    if magic == _PARQUET:
        return path
    if kind in ("csv", "jsonl", "ndjson"):
        return _convert(path, kind)
    raise Invalid(f"the file {called(file_name)} is neither Parquet nor CSV nor JSON Lines", "file")


def _convert(path: Path, kind: str) -> Path:
    to = path.with_suffix(".parquet")
    try:
        table = csv.read_csv(path) if kind == "csv" else json.read_json(path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError) as error:
        raise Invalid(f"the file is not valid {kind}: {_short(error)}", "file") from None
    pq.write_table(table, to)
    return to


class Sheet:
    """A Parquet file and the columns of it that a model takes. Blocking: call it in a thread."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = pq.ParquetFile(path)
            self._types = {field.name: field.type for field in self._file.schema_arrow}
        except (pa.ArrowException, OSError) as error:
            raise Invalid(f"the file is not readable Parquet: {_short(error)}", "file") from None
        self.rows = int(self._file.metadata.num_rows)

    def check(self, schema: ModelSchema) -> None:
        """Raise Invalid naming what the model needs and the file does not have."""
        if self.rows == 0:
            raise Invalid("the file has no rows", "file")
        for name, text in needed(schema).items():
            if name not in self._types:
                have = ", ".join(list(self._types)[:20])
                raise Invalid(f"the column {called(name)} is missing; the file has {have[:300]}", name[:80])
            if not _fits(self._types[name], text):
                kind = "text" if text else "a number"
                raise Invalid(f"the column {called(name)} is {self._types[name]}; the model takes {kind}", name[:80])

    def chunks(self, schema: ModelSchema, size: int, first: int) -> Iterator[tuple[int, Columns]]:
        """Chunks by number from `first` on: the model's columns as arrays; a missing number is NaN."""
        takes = needed(schema)
        batches = self._file.iter_batches(batch_size=size, columns=[name for name in takes if name in self._types])
        for number, batch in enumerate(_even(batches, size)):
            if number >= first:
                yield number, {name: _array(batch.column(name), text) for name, text in takes.items()}


def needed(schema: ModelSchema) -> dict[str, bool]:
    """Column names of the model, and whether each is text. A nullable column may not be left out of a file."""
    if is_matrix(schema):
        return {column.name: False for column in schema.columns}
    return {spec.name: spec.datatype == "BYTES" for spec in schema.inputs}


def is_matrix(schema: ModelSchema) -> bool:
    """One input whose columns the schema names."""
    return len(schema.inputs) == 1 and len(schema.inputs[0].shape) == 2 and bool(schema.columns)


def tensor(spec: TensorSpec, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """One column as an input tensor of one column. Raises Invalid where it does not fit its datatype."""
    shape = (len(values), *(1 if size == -1 else size for size in spec.shape[1:]))
    if int(np.prod(shape)) != len(values):
        raise Invalid(f"tensor {called(spec.name)} is no single column: batches cannot fill it", spec.name)
    if spec.datatype == "BYTES":
        return values.reshape(shape)
    with np.errstate(over="ignore", invalid="ignore"):
        cast = values.astype(NUMPY[spec.datatype])
    wrong = ~np.isfinite(values) if cast.dtype.kind == "f" else cast != values
    if wrong.any():
        raise Invalid(f"column {called(spec.name)} holds a number that is no {spec.datatype}", spec.name)
    return cast.reshape(shape)


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


def _fits(kind: pa.DataType, text: bool) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if text:
        return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _array(column: pa.Array, text: bool) -> np.ndarray[Any, Any]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if text:
        made = np.empty(len(column), object)
        made[:] = [None if v is None else v.encode() if isinstance(v, str) else v for v in column.to_pylist()]
        return made
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:300]
