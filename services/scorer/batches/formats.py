"""The result as its reader wants it: Parquet as it is kept, or turned into CSV, JSON Lines or an Arrow stream."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import orjson
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

ResultFormat = Literal["parquet", "csv", "jsonl", "arrow"]
FORMATS: tuple[ResultFormat, ...] = get_args(ResultFormat)
MEDIA_TYPES: dict[ResultFormat, str] = {
    "parquet": "application/vnd.apache.parquet", "csv": "text/csv", "jsonl": "application/x-ndjson",
    "arrow": "application/vnd.apache.arrow.stream",
}  # fmt: skip
_ROWS = 16_000


def pieces(path: Path, format: ResultFormat) -> Iterator[bytes]:
    """The file in pieces, a few rows of it in memory. Blocking."""
    if format == "parquet":
        with path.open("rb") as file:
            while piece := file.read(1024 * 1024):
                yield piece
        return
    opened = pq.ParquetFile(path)
    batches = opened.iter_batches(batch_size=_ROWS)
    if format == "jsonl":
        yield from map(_lines, batches)
    else:
        yield from _written(batches, opened.schema_arrow, format)


def write(path: Path, format: ResultFormat, to: Path) -> Path:
    """The same as a file; Parquet is the file itself."""
    if format == "parquet":
        return path
    with to.open("wb") as file:
        file.writelines(pieces(path, format))
    return to


def _lines(batch: pa.RecordBatch) -> bytes:
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in batch.to_pylist())


def _written(batches: Iterator[pa.RecordBatch], schema: pa.Schema, format: ResultFormat) -> Iterator[bytes]:
    sink = io.BytesIO()
    with (csv.CSVWriter if format == "csv" else pa.ipc.new_stream)(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    yield sink.getvalue()
