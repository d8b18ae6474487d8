"""Inferences as the rows of a Parquet file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from contracts import ModelSchema
from services.kit.errors import Invalid
from services.kit.payloads import Payload, decisions, features


@dataclass(frozen=True)
class Inference:
    """One record of the log, and what it holds."""

    facts: Mapping[str, Any]
    correlation_id: str
    payload: Payload

    @property
    def id(self) -> str:
        return str(self.facts["inference_id"])


def table_of(schema: ModelSchema, inferences: Sequence[Inference]) -> pa.Table:
    """All rows of inferences of one version, in order, features as one struct. Raises Invalid."""
    payloads = [inference.payload for inference in inferences]
    columns, decided = features(schema, payloads), decisions(schema, payloads)
    rows = [int(inference.facts["rows"]) for inference in inferences]
    if sum(rows) != len(decided.prediction):
        raise Invalid("requests and responses have different numbers of rows", "rows")

    def repeated(name: str, kind: pa.DataType) -> pa.Array:
        return pa.array([i.facts[name] for i, n in zip(inferences, rows, strict=True) for _ in range(n)], kind)

    text = pa.string()
    struct = pa.StructArray.from_arrays([_array(v) for v in columns.values()], names=list(columns))
    return pa.table({
        "inference_id": repeated("inference_id", text),
        "row": pa.array([row for n in rows for row in range(n)], pa.int32()),
        "received_at": repeated("received_at", pa.timestamp("us", tz="UTC")),
        "latency_ms": repeated("latency_ms", pa.float64()),
        **{name: repeated(name, text) for name in
           ("unit", "use_case", "model", "variant", "mode", "application", "entity", "request_id")},
        "features": struct,
        "prediction": _array(decided.prediction),
        "score": _array(decided.score) if decided.score is not None else pa.nulls(sum(rows), pa.float64()),
    })  # fmt: skip


def _array(values: Any) -> pa.Array:
    """Numbers as float64; a column with any text in it as text."""
    if values.dtype == object:
        return pa.array([None if v is None else str(v) for v in values], pa.string())
    return pa.array(values, pa.float64(), from_pandas=True)
