"""A batch job as a value, its ids, and the table of its results."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid5

import numpy as np
import pyarrow as pa

from contracts import Format, ModelSchema

from ..runtimes import Arrays

State = Literal["queued", "running", "done", "failed", "cancelled"]

RESULT = pa.schema([
    pa.field("inference_id", pa.dictionary(pa.int32(), pa.string())),
    pa.field("row", pa.int32()),
    pa.field("input_row", pa.int64(), nullable=False),
    pa.field("prediction", pa.null()),
    pa.field("score", pa.float64()),
    pa.field("model_version", pa.int32(), nullable=False),
    pa.field("error", pa.string()),
])  # fmt: skip
"""`inference_id` and `row` name a decided row as outcomes do; `input_row` counts through the file from 0. In
the file the id is plain text; a chunk has one, which need not be copied for each row.

The type of `prediction` is the model's own."""


_CHUNK_VALUES = 2**20
_MOST_ROWS, _FEWER_ROWS, _LEAST_ROWS = 64_000, 4_000, 500


def chunk_rows(format: Format, columns: int) -> int:
    """Rows of a chunk: many, as each costs a few writes; fewer of models that take long or have many columns."""
    most = _MOST_ROWS if format == "onnx" else _FEWER_ROWS
    return max(_LEAST_ROWS, min(most, _CHUNK_VALUES // max(columns, 1)))


@dataclass(frozen=True)
class Job:
    """One uploaded file and how far it is."""

    id: UUID
    unit: str
    endpoint: str
    application: str
    state: State
    input_digest: str
    file_name: str
    rows_total: int
    rows_done: int
    rows_failed: int
    chunk_rows: int
    result_digest: str | None
    reason: str | None
    correlation_id: str
    traceparent: str
    created_at: datetime
    finished_at: datetime | None = None
    summary: str | None = None
    """As JSON."""
    output: str | None = None
    """Where to write the result besides, as JSON."""
    schedule: UUID | None = None
    """The schedule that made it."""
    host: str | None = None
    """The scorer host that alone has its input; None: any can have it."""
    version: int | None = None
    """Whom it asks; None: whoever is the champion when a chunk's turn comes."""

    @property
    def waits_for(self) -> str | None:
        """Whom alone this job can be done by, for a person; None where it is at its end or any host can do it."""
        if self.host is None or self.state not in ("queued", "running"):
            return None
        return f"only scorer host {self.host} can do it: the input has sensitive columns and is there alone"

    @property
    def writer(self) -> str:
        """Under which this job's records are numbered: a number is its chunk's, from 1."""
        return f"batch.{self.id}"

    def inference_id(self, chunk: int) -> str:
        """The same at every attempt, so that a resumed job repeats nothing."""
        return str(uuid5(self.id, str(chunk)))


@dataclass(frozen=True)
class Chunk:
    """A chunk that was scored. It is reported only after its log record is in Kafka."""

    number: int
    rows: int
    failed: int
    result_digest: str
    record_digest: str | None
    """The log record, ready to be said (again); None where no row of the chunk could be scored."""
    logged: bool = False


@dataclass
class Scored:
    """The rows of one chunk after the model."""

    outputs: Arrays
    """Of the good rows, in order."""
    good: np.ndarray[Any, Any]
    """Positions of the good rows within the chunk."""
    errors: dict[int, str]
    """Why each other row was not scored."""


def result_table(
    schema: ModelSchema, scored: Scored, rows: int, first_row: int, inference_id: str, version: int
) -> pa.Table:
    """The chunk's part of the result file: one line per input row, scored or not."""
    prediction = _spread(scored.outputs.get(schema.prediction), scored.good, rows)
    score = _spread(scores(schema, scored.outputs), scored.good, rows, pa.float64())
    columns: Sequence[pa.Array] = [
        *_decided(scored, rows, inference_id), pa.array(np.arange(first_row, first_row + rows), pa.int64()),
        prediction, score, pa.array(np.full(rows, version), pa.int32()), _errors(scored, rows),
    ]  # fmt: skip
    place = RESULT.get_field_index("prediction")
    return pa.Table.from_arrays(columns, schema=RESULT.set(place, pa.field("prediction", prediction.type)))


def _decided(scored: Scored, rows: int, inference_id: str) -> tuple[pa.Array, pa.Array]:
    """The id and the row by which outcomes name each row; none where there was no decision."""
    refused = np.ones(rows, bool)
    refused[scored.good] = False
    ids = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32), mask=refused), [inference_id])
    return ids, pa.array((np.cumsum(~refused) - 1).astype(np.int32), mask=refused)


def _errors(scored: Scored, rows: int) -> pa.Array:
    if not scored.errors:
        return pa.nulls(rows, pa.string())
    return pa.array([scored.errors.get(i) for i in range(rows)], pa.string())


def scores(schema: ModelSchema, outputs: Arrays) -> np.ndarray[Any, Any] | None:
    """One number per row: of two classes the second's probability, of more the largest one."""
    values = outputs.get(schema.score) if schema.score else None
    if values is None:
        return None
    flat = values.reshape(len(values), -1).astype(np.float64)
    return flat[:, -1] if flat.shape[1] <= 2 else flat.max(axis=1)


def _spread(
    values: np.ndarray[Any, Any] | None, good: np.ndarray[Any, Any], rows: int, kind: pa.DataType | None = None
) -> pa.Array:
    """Values of the good rows at their places, null elsewhere."""
    if values is None:
        return pa.nulls(rows, kind or pa.float64())
    flat = values.reshape(len(values), -1)
    column = flat[:, 0] if flat.shape[1] == 1 else None
    texts = [_text(v) for v in column.tolist()] if column is not None and column.dtype == object else None
    plain = pa.array(texts if texts is not None else column if column is not None else flat.tolist())
    if len(good) == rows:
        return plain
    places = np.full(rows, -1)
    places[good] = np.arange(len(good))
    return plain.take(pa.array(places, mask=places < 0))


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
