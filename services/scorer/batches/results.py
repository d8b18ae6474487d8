"""The result file: the chunks' parts one after the other, of which few are in memory at a time."""

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from .domain import RESULT

_GROUP_ROWS = 100_000
_WRITING: dict[str, Any] = {
    "use_dictionary": ["inference_id", "prediction", "model_version", "error"],
    "column_encoding": {"row": "DELTA_BINARY_PACKED", "input_row": "DELTA_BINARY_PACKED"},
}
"""What counts up is written as differences, what repeats as a dictionary: half the time and a third of the bytes."""
_IDS = "inference_id"


def part(table: pa.Table) -> bytes:
    """A chunk's part, as Parquet: read as a whole, and once or twice, so nothing is spent on finding rows in it."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_statistics=False, **_writing(table.schema))
    return sink.getvalue().to_pybytes()


def _writing(schema: pa.Schema) -> dict[str, Any]:
    names = set(schema.names)
    return {
        "store_schema": False,  # readers get text where we have a dictionary of one
        "use_dictionary": [name for name in _WRITING["use_dictionary"] if name in names],
        "column_encoding": {name: kind for name, kind in _WRITING["column_encoding"].items() if name in names},
    }


def unified(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """One schema for all parts; versions whose predictions differ in type meet in the wider one, or in text."""
    distinct = list(dict.fromkeys(schemas))
    types = {schema.field("prediction").type for schema in distinct} - {pa.null()}
    if len(types) > 1:
        wider = pa.string() if any(pa.types.is_string(t) for t in types) else pa.float64()
        distinct = [_with_prediction(schema, wider) for schema in distinct]
    return pa.unify_schemas(distinct, promote_options="permissive")


def _with_prediction(schema: pa.Schema, kind: pa.DataType) -> pa.Schema:
    return schema.set(schema.get_field_index("prediction"), pa.field("prediction", kind))


class ResultFile:
    """A Parquet file that is written part by part. Blocking: call it in a thread."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        place = schema.get_field_index(_IDS)
        self._schema = schema if place < 0 else schema.set(place, RESULT.field(_IDS))
        self._writer = pq.ParquetWriter(path, self._schema, **_writing(schema))
        self._waiting: list[pa.Table] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._write()
        self._writer.close()

    def add(self, data: bytes) -> pa.Table:
        """Append a chunk's part, as Parquet; answers its rows."""
        rows = pq.read_table(pa.BufferReader(data), read_dictionary=[_IDS])
        columns = [
            rows[f.name].cast(f.type) if f.name in rows.column_names else pa.nulls(rows.num_rows, f.type)
            for f in self._schema
        ]
        self._waiting.append(pa.Table.from_arrays(columns, schema=self._schema))
        if sum(table.num_rows for table in self._waiting) >= _GROUP_ROWS:
            self._write()
        return rows

    def _write(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting).unify_dictionaries())
        self._waiting = []
