"""How a snapshot is split into what a recipe learns from and what the models are asked about."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from services.retrainer.sandboxed.rows import splitter

from . import making


def split(at: Path, snapshot: bytes, columns: list[str], label: str, **tensor: Any) -> dict[str, Any]:
    (at / "snapshot.parquet").write_bytes(snapshot)
    job = {
        "snapshot": str(at / "snapshot.parquet"), "out": str(at), "label": label, "seed": "seed", "columns": columns,
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, len(columns)]} | tensor], "needed": 10, "share": 0.3,
    }  # fmt: skip
    return json.loads(splitter(json.dumps(job).encode())(b""))


def test_a_column_may_be_called_as_what_a_snapshot_says_about_a_row(tmp_path: Path) -> None:
    names = ["row", "inference_id", "label", "received_at"]
    columns = {name: [100.0 * place + n for n in range(200)] for place, name in enumerate(names)}
    told = split(tmp_path, making.frozen(columns, [float(n % 2) for n in range(200)]), names, "truth")
    assert told["recorded"] == told["labelled"] == told["trained"] + told["held_out"] == 200
    taught = pq.read_table(tmp_path / "train.parquet")
    assert taught.column_names == [*names, "truth"]
    held = np.load(tmp_path / "held.npz")["X"]
    seen = np.concatenate([np.column_stack([taught[name] for name in names]), held])
    assert np.array_equal(seen[np.argsort(seen[:, 0])], np.column_stack([columns[name] for name in names]))


def test_a_column_of_texts_and_numbers_is_one_of_texts(tmp_path: Path) -> None:
    cities: list[float | str | None] = ["Bern", 5.0, None, "Chur"] * 50
    truth: list[float | str | None] = ["yes", 1.0, "no", None] * 50
    told = split(tmp_path, making.frozen({"city": cities}, truth), ["city"], "truth", name="city", datatype="BYTES")
    assert (told["recorded"], told["labelled"]) == (200, 150)
    taught = pq.read_table(tmp_path / "train.parquet").to_pylist()
    assert {(row["city"], row["truth"]) for row in taught} == {("Bern", "yes"), ("5", "1"), (None, "no")}
