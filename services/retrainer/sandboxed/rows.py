"""Splits a snapshot into the rows that teach and those that judge."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from services.retrainer.domain.jobs import too_few
from services.retrainer.domain.split import held_out

PRELOAD = ("pyarrow.parquet", "pyarrow.compute")

_LABEL = "label"
"""What the recorder calls the truth, whatever the model."""

_DTYPES = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip


def splitter(argument: bytes) -> Callable[[bytes], bytes]:
    """The sandbox's entry: the job as JSON in, `{"recorded", "labelled", "trained", "held_out"}` or `{"refused"}` out.

    Writes into `out`: `train.parquet` (columns and label, for the recipe), `held.npz` (the model's inputs, without
    their label) and `labels.npy` (the truth of those rows).
    """
    job = json.loads(argument)
    return lambda _: json.dumps(_split(job, Path(job["out"]))).encode()


def _split(job: dict[str, Any], out: Path) -> dict[str, Any]:
    pq, pc = importlib.import_module("pyarrow.parquet"), importlib.import_module("pyarrow.compute")
    table = pq.read_table(job["snapshot"])
    wanted = [*job["columns"], _LABEL, "inference_id"]
    if missing := [name for name in wanted if name not in table.column_names]:
        return {"refused": f"the snapshot has no column {', '.join(missing)[:300]}"}
    recorded = table.num_rows
    table = table.select(wanted).filter(pc.is_valid(table[_LABEL]))
    # The recipe knows the label by the name that its package gave it.
    table = table.rename_columns([job["label"] if name == _LABEL else name for name in wanted])
    counts = {"recorded": recorded, "labelled": table.num_rows}
    if refused := too_few(table.num_rows, recorded, job["needed"]):
        return counts | {"refused": refused}
    mask = held_out(table["inference_id"].to_pylist(), job["seed"], job["share"])
    teaching, judging = table.filter(~mask).drop_columns(["inference_id"]), table.filter(mask)
    if not teaching.num_rows or not judging.num_rows:
        return counts | {"refused": "the rows cannot be split: all of them fall on one side"}
    pq.write_table(teaching, out / "train.parquet", compression="zstd")
    np.savez(out / "held.npz", allow_pickle=False, **_inputs(judging, job["inputs"], job["columns"]))
    np.save(out / "labels.npy", _plain(judging[job["label"]]), allow_pickle=False)
    return counts | {"trained": teaching.num_rows, "held_out": judging.num_rows}


def _inputs(table: Any, inputs: list[dict[str, Any]], columns: list[str]) -> dict[str, np.ndarray]:
    """The tensors of a model: one matrix of all columns, or one tensor for each column."""
    if len(inputs) == 1 and len(inputs[0]["shape"]) == 2 and inputs[0]["name"] not in columns:
        matrix = np.column_stack([_plain(table[name]) for name in columns])
        return {inputs[0]["name"]: matrix.astype(_DTYPES[inputs[0]["datatype"]])}
    return {each["name"]: _tensor(table, each) for each in inputs}


def _tensor(table: Any, spec: dict[str, Any]) -> np.ndarray:
    values = _plain(table[spec["name"]])
    if spec["datatype"] != "BYTES":
        values = values.astype(_DTYPES[spec["datatype"]])
    return values.reshape(-1, 1) if len(spec["shape"]) == 2 else values


def _plain(column: Any) -> np.ndarray:
    """Numbers as FP64 (a missing one is not a number), anything else as text."""
    values = column.to_pylist()
    if all(value is None or isinstance(value, (bool, int, float)) for value in values):
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return np.array(["" if value is None else str(value) for value in values], np.str_)
