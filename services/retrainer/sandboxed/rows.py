"""Splits a snapshot into the rows that teach and those that judge."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from contracts import NUMPY_OF
from services.retrainer.domain.jobs import too_few
from services.retrainer.domain.split import held_out

_SNAPSHOT = ("inference_id", "label", "label_text", "features", "texts")
"""What of a snapshot is needed: the model's columns lie in the structures `features` (numbers) and `texts`."""


def splitter(argument: bytes) -> Callable[[bytes], bytes]:
    """The sandbox's entry: the job as JSON in, `{"recorded", "labelled", "trained", "held_out"}` or `{"refused"}` out.

    Writes into `out`: `train.parquet` (columns and label, for the recipe), `held.npz` (the model's inputs, without
    their label), `labels.npy` (the truth of those rows) and maybe `params.json`.
    """
    job = json.loads(argument)
    return lambda _: json.dumps(_split(job, Path(job["out"]))).encode()


def _split(job: dict[str, Any], out: Path) -> dict[str, Any]:
    pq, pc = importlib.import_module("pyarrow.parquet"), importlib.import_module("pyarrow.compute")
    snapshot = pq.ParquetFile(job["snapshot"])
    if absent := missing(snapshot.schema_arrow, job["columns"]):
        return {"refused": f"the snapshot has no column {', '.join(absent)[:300]}"}
    recorded = snapshot.metadata.num_rows
    table = _labelled(pc, snapshot)
    counts = {"recorded": recorded, "labelled": table.num_rows}
    if refused := too_few(table.num_rows, recorded, job["needed"]):
        return counts | {"refused": refused}
    mask = held_out(table["inference_id"].to_pylist(), job["seed"], job["share"])
    # The recipe knows the label by the name that its package gave it.
    rows = plain_table(pc, table, job["columns"], job["label"])
    teaching, judging = rows.filter(~mask), rows.filter(mask)
    if not teaching.num_rows or not judging.num_rows:
        return counts | {"refused": "the rows cannot be split: all of them fall on one side"}
    pq.write_table(teaching, out / "train.parquet", compression="zstd")
    np.savez(out / "held.npz", allow_pickle=False, **inputs(judging, job["inputs"], job["columns"]))
    np.save(out / "labels.npy", plain(judging[job["label"]]), allow_pickle=False)
    note_params(table.filter(mask), out)
    return counts | {"trained": teaching.num_rows, "held_out": judging.num_rows}


def missing(schema: Any, columns: list[str], needed: tuple[str, ...] = _SNAPSHOT) -> list[str]:
    """What the recorder keeps of each row, and the model's columns in it, as far as they are not there."""
    if absent := [name for name in needed if name not in schema.names]:
        return absent
    recorded = {field.name for field in schema.field("features").type}
    return [name for name in columns if name not in recorded]


def _labelled(pc: Any, snapshot: Any) -> Any:
    """The rows whose truth is known; a group of rows at a time, since most rows may have none."""
    pa = importlib.import_module("pyarrow")
    kept = [*_SNAPSHOT, *optional(snapshot)]
    groups = (snapshot.read_row_group(n, columns=kept) for n in range(snapshot.num_row_groups))
    known = [g.filter(pc.or_(pc.is_valid(g["label"]), pc.is_valid(g["label_text"]))) for g in groups]
    return pa.concat_tables([snapshot.schema_arrow.empty_table().select(kept), *known])


def optional(snapshot: Any) -> list[str]:
    """What of a snapshot is of use, and was not kept at first."""
    return [name for name in ("params",) if name in snapshot.schema_arrow.names]


def note_params(table: Any, out: Path) -> None:
    """Writes `params.json` where requests set something of the model: what, and which of it each row was asked with."""
    said = [each or "" for each in table["params"].to_pylist()] if "params" in table.column_names else []
    if any(said):
        places = {text: place for place, text in enumerate(dict.fromkeys(said))}
        (out / "params.json").write_text(json.dumps({"sets": list(places), "of": [places[text] for text in said]}))


def plain_table(pc: Any, table: Any, columns: list[str], label: str) -> Any:
    """The model's columns and the label, each as numbers or, where any of its values is a text, as texts."""
    pa = importlib.import_module("pyarrow")
    found = {
        name: either(pc, pc.struct_field(table["features"], name), pc.struct_field(table["texts"], name))
        for name in columns
    }
    return pa.table(found | {label: either(pc, table["label"], table["label_text"])})


def either(pc: Any, numbers: Any, texts: Any) -> Any:
    """Numbers, or texts where any value is one."""
    return numbers if texts.null_count == len(texts) else pc.coalesce(texts, pc.cast(numbers, "string"))


def inputs(table: Any, inputs: list[dict[str, Any]], columns: list[str]) -> dict[str, np.ndarray]:
    """The tensors of a model: one matrix of all columns, or one tensor for each column."""
    if len(inputs) == 1 and len(inputs[0]["shape"]) == 2 and inputs[0]["name"] not in columns:
        matrix = np.column_stack([plain(table[name]) for name in columns])
        return {inputs[0]["name"]: matrix.astype(NUMPY_OF[inputs[0]["datatype"]])}
    return {each["name"]: _tensor(table, each) for each in inputs}


def _tensor(table: Any, spec: dict[str, Any]) -> np.ndarray:
    values = plain(table[spec["name"]])
    if spec["datatype"] != "BYTES":
        values = values.astype(NUMPY_OF[spec["datatype"]])
    return values.reshape(-1, 1) if len(spec["shape"]) == 2 else values


def plain(column: Any) -> np.ndarray:
    """Numbers as FP64 (a missing one is not a number), anything else as text."""
    values = column.to_pylist()
    if all(value is None or isinstance(value, (bool, int, float)) for value in values):
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return np.array(["" if value is None else str(value) for value in values], np.str_)
