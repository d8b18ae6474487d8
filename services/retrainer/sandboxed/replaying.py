"""Takes the rows of a snapshot that a replay is about: a model's inputs, what was answered, and the truth."""

import importlib
import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from .rows import either, inputs, missing, note_params, optional, plain, plain_table

_KEPT = (
    "inference_id", "received_at", "version", "prediction", "prediction_text", "score", "label", "label_text",
    "features", "texts",
)  # fmt: skip


def replayer(argument: bytes) -> Callable[[bytes], bytes]:
    """The sandbox's entry: the job as JSON in, `{"rows", "by_version"}` or `{"refused"}` out.

    Writes into `out`: `held.npz` (the model's inputs), `predictions.npy`, `scores.npy`, `labels.npy`, and maybe
    `params.json`.
    """
    job = json.loads(argument)
    return lambda _: json.dumps(_take(job, Path(job["out"]))).encode()


def _take(job: dict[str, Any], out: Path) -> dict[str, Any]:
    pq, pc = importlib.import_module("pyarrow.parquet"), importlib.import_module("pyarrow.compute")
    snapshot = pq.ParquetFile(job["snapshot"])
    if absent := missing(snapshot.schema_arrow, job["columns"], _KEPT):
        return {"refused": f"the recorded rows have no column {', '.join(absent)[:300]}"}
    table = _wanted(pc, snapshot, job)
    if not table.num_rows:
        return {"refused": "no recorded row was answered in that time by what it is to be compared with"}
    np.savez(out / "held.npz", allow_pickle=False, **inputs(_named(pc, table, job), job["inputs"], job["columns"]))
    said = either(pc, table["prediction"], table["prediction_text"])
    for name, column in (("predictions", said), ("scores", table["score"])):
        np.save(out / f"{name}.npy", plain(column), allow_pickle=False)
    note_params(table, out)
    np.save(out / "labels.npy", plain(either(pc, table["label"], table["label_text"])), allow_pickle=False)
    by_version = Counter(table["version"].to_pylist())
    return {"rows": table.num_rows, "by_version": {str(version): n for version, n in sorted(by_version.items())}}


def _named(pc: Any, table: Any, job: dict[str, Any]) -> Any:
    return plain_table(pc, table, job["columns"], "label")


def _wanted(pc: Any, snapshot: Any, job: dict[str, Any]) -> Any:
    """The newest rows that are asked for, a group at a time: those whose answer was understood."""
    pa = importlib.import_module("pyarrow")
    columns = [*_KEPT, *optional(snapshot)]
    parts: list[Any] = []
    rows = 0
    for number in reversed(range(snapshot.num_row_groups)):
        part = snapshot.read_row_group(number, columns=columns)
        kept = pc.or_(pc.is_valid(part["prediction"]), pc.is_valid(part["prediction_text"]))
        if job["until"]:
            until = pa.scalar(datetime.fromisoformat(job["until"]), part["received_at"].type)
            kept = pc.and_(kept, pc.less(part["received_at"], until))
        if job["against"]:
            kept = pc.and_(kept, pc.equal(part["version"], job["against"]))
        parts.insert(0, part.filter(kept))
        rows += parts[0].num_rows
        if rows >= job["most"]:
            break
    table = pa.concat_tables(parts) if parts else snapshot.schema_arrow.empty_table().select(columns)
    return table.slice(max(0, table.num_rows - job["most"]))
