"""Where Parquet files lie, and those of decisions: one schema for all models, one row for each decided row."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .observed import OUTCOMES

Array = NDArray[Any]

SCHEMA = pa.schema([
    pa.field("inference_id", pa.string(), nullable=False),
    pa.field("row", pa.int32(), nullable=False),
    pa.field("model", pa.string(), nullable=False),
    pa.field("version", pa.int32(), nullable=False),
    pa.field("variant", pa.string(), nullable=False),
    pa.field("mode", pa.string(), nullable=False),
    pa.field("unit", pa.string(), nullable=False),
    pa.field("use_case", pa.string(), nullable=False),
    pa.field("application", pa.string(), nullable=False),
    pa.field("entity", pa.string()),
    pa.field("request_id", pa.string()),
    pa.field("correlation_id", pa.string()),
    pa.field("received_at", pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field("latency_ms", pa.float64(), nullable=False),
    pa.field("prediction", pa.float64()),
    pa.field("prediction_text", pa.string()),
    pa.field("score", pa.float64()),
    pa.field("features", pa.map_(pa.string(), pa.float64())),
    pa.field("texts", pa.map_(pa.string(), pa.string())),
    pa.field("unread", pa.string()),
    pa.field("shadow_of", pa.string()),
    pa.field("instead_of", pa.string()),
    pa.field("params", pa.string()),
])  # fmt: skip
"""`features` holds the numbers of a row by column, `texts` its texts and the tokens of sensitive columns; `unread` is
the whole payload as the log has it, in JSON, where it does not fit the model's schema: in row 0 of its inference;
`shadow_of` the inference that was answered, where this one is a shadow's; `instead_of` the variant that failed, where
this one answered in its place; `params` what the request set of the model, in JSON.
New columns are put at the end, and may be null: files of before them lack them.
Of an inference whose payload was not logged `features`, `texts` and `unread` are null, as are its decisions; so is a
prediction or score that is no finite number.
The endpoint is in the folder's name."""

Kind = Literal["inferences", "outcomes"]
"""Files of a kind lie below a folder of that name."""
SCHEMAS: dict[Kind, pa.Schema] = {"inferences": SCHEMA, "outcomes": OUTCOMES}


@dataclass(frozen=True)
class Head:
    """What all rows of one inference have in common."""

    inference_id: str
    endpoint: str
    unit: str
    use_case: str
    model: str
    version: int
    variant: str
    mode: str
    application: str
    entity: str | None
    request_id: str | None
    correlation_id: str | None
    received_at: datetime
    latency_ms: float
    rows: int
    shadow_of: str | None = None
    instead_of: str | None = None
    params: str | None = None


@dataclass(frozen=True)
class Place:
    """Where a file lies below the folder of its kind, and under which name its newest content waits for that place."""

    path: str
    pending: str | None = None
    kind: Kind = "inferences"


@dataclass(frozen=True)
class Body:
    """Features and decisions of all rows of some inferences; `unread` is one text for each inference instead."""

    features: Mapping[str, Array]
    prediction: Array | None
    score: Array | None
    unread: tuple[str, ...] | None = None


def folder(endpoint: str, at: datetime) -> str:
    """Hive's layout, which DuckDB, pandas and Spark read as it lies."""
    at = at.astimezone(UTC)
    return f"endpoint={endpoint}/date={at:%Y-%m-%d}/hour={at:%H}"


def file_name(partition: int, first: int, last: int) -> str:
    """After the first and the last offset in it: a batch that is repeated writes the same file."""
    return f"p{partition}-{first:015d}-{last:015d}.parquet"


def merged_name(names: Iterable[str]) -> str:
    """Of a file that takes the place of others, by their names: merging the same ones again gives the same name."""
    return f"m-{hashlib.sha256(chr(10).join(sorted(names)).encode()).hexdigest()[:20]}.parquet"


def conform(part: pa.Table, kind: Kind) -> pa.Table:
    """Rows of a file as they would be written now: columns that came later are null."""
    rows, schema = part.num_rows, SCHEMAS[kind]
    columns = [part[f.name] if f.name in part.column_names else pa.nulls(rows, f.type) for f in schema]
    return pa.table(columns, schema=schema)


def table(heads: Sequence[Head], body: Body) -> pa.Table:
    """Rows of inferences, in order."""
    counts = np.array([head.rows for head in heads])
    each = np.repeat(np.arange(len(heads)), counts)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    numbers = np.arange(len(each)) - starts
    columns: dict[str, Any] = {"row": pa.array(numbers, pa.int32())}
    for field in SCHEMA:
        if field.name in Head.__dataclass_fields__:
            columns[field.name] = pa.array([getattr(h, field.name) for h in heads], field.type).take(pa.array(each))
    rows = len(each)
    columns["prediction"], columns["prediction_text"] = _number_or_text(_finite(body.prediction), rows)
    columns["score"] = _numbers(_finite(body.score), rows)
    columns["features"], columns["texts"] = _maps(body.features, rows)
    unread = body.unread or (None,) * len(heads)
    columns["unread"] = pa.array(unread, pa.string()).take(pa.array(each, mask=numbers > 0))
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _finite(values: Array | None) -> Array | None:
    """With NaN in place of what is infinite, which no event can say."""
    if values is None or values.dtype == object:
        return values
    return np.where(np.isfinite(values), values, np.nan)


def _numbers(values: Array | None, rows: int) -> pa.Array:
    return pa.nulls(rows, pa.float64()) if values is None else pa.array(values, pa.float64(), from_pandas=True)


def _number_or_text(values: Array | None, rows: int) -> tuple[pa.Array, pa.Array]:
    if values is None or values.dtype != object:
        return _numbers(values, rows), pa.nulls(rows, pa.string())
    return _numbers_of(values), pa.array([v if isinstance(v, str) else None for v in values.tolist()], pa.string())


def _numbers_of(values: Array) -> pa.Array:
    numbers = [float(v) if isinstance(v, (int, float)) and v == v else None for v in values.tolist()]
    return pa.array(numbers, pa.float64())


def _maps(features: Mapping[str, Array], rows: int) -> tuple[pa.Array, pa.Array]:
    """A map of the numbers and one of the texts of each row."""
    texts = {name: values for name, values in features.items() if values.dtype == object}
    numbers = {name: _numbers_of(values) if name in texts else _numbers(values, rows)
               for name, values in features.items()}  # fmt: skip
    said = {
        name: pa.array([v if isinstance(v, str) else None for v in values.tolist()], pa.string())
        for name, values in texts.items()
    }
    return _map(numbers, rows, pa.float64()), _map(said, rows, pa.string())


def _map(columns: Mapping[str, pa.Array], rows: int, kind: pa.DataType) -> pa.Array:
    if not columns:
        return pa.nulls(rows, pa.map_(pa.string(), kind))
    width = len(columns)
    keys = pa.array(list(columns), pa.string()).take(pa.array(np.tile(np.arange(width), rows)))
    # Columns lie one after the other; the map wants row after row.
    items = pa.concat_arrays(list(columns.values())).take(
        pa.array(np.arange(width * rows).reshape(width, rows).T.ravel())
    )
    return pa.MapArray.from_arrays(pa.array(np.arange(0, width * rows + 1, width), pa.int32()), keys, items)
