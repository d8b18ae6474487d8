"""How the census model is made from rows; the package carries this file, the retrainer runs it in the sandbox."""

import json
import re
import zipfile
from io import BytesIO
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import skops.io
from onnx import ModelProto
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import roc_auc_score

COLUMNS = [
    "AGEP", "SCHL", "MAR", "RELP", "DIS", "ESP", "CIT", "MIG",
    "MIL", "ANC", "NATIVITY", "DEAR", "DEYE", "DREM", "SEX", "RAC1P",
]  # fmt: skip
LABEL, PREDICTION, SCORE = "employed", "label", "probabilities"
REFERENCE_ROWS = 20_000
SEED = 20_150_101


def train(rows: Path, out: Path) -> dict[str, float]:
    """Train on three quarters of the rows, measure on the rest; write the model (both formats) and the reference."""
    matrix, labels = read(rows)
    learned, held = split(len(labels))
    model = GradientBoostingClassifier(
        n_estimators=100, max_depth=4, subsample=0.5, max_features=6, random_state=SEED
    ).fit(matrix[learned], labels[learned])
    (out / "model.onnx").write_bytes(as_onnx(model))
    (out / "model.skops").write_bytes(as_skops(model))
    # The reference is made of rows that the model has not seen: its own rows would flatter its scores,
    # and the first live rows would look like drift.
    kept = held[:REFERENCE_ROWS]
    predicted, score = np.asarray(model.predict(matrix[kept])), model.predict_proba(matrix[kept])[:, 1]
    write_reference(out / "training.parquet", matrix[kept], labels[kept], predicted, score)
    score_all = model.predict_proba(matrix[held])[:, 1]
    return {
        "accuracy": round(float(model.score(matrix[held], labels[held])), 4),
        "roc_auc": round(float(roc_auc_score(labels[held], score_all)), 4),
    }


def read(rows: Path) -> tuple[np.ndarray, np.ndarray]:
    """The matrix [rows, 16] and the labels of all labelled rows."""
    table = pq.read_table(rows, columns=[*COLUMNS, LABEL])
    table = table.filter(table[LABEL].is_valid())
    matrix = np.column_stack([table[name].to_numpy().astype(np.float32) for name in COLUMNS])
    return matrix, table[LABEL].to_numpy().astype(np.int64)


def split(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices to learn from and to hold out, the same for the same number of rows."""
    order = np.random.default_rng(SEED).permutation(count)
    return order[count // 4 :], order[: count // 4]


def as_onnx(model: GradientBoostingClassifier) -> bytes:
    """ONNX with input X [-1, 16] and outputs label [-1], probabilities [-1, 2]."""
    made = to_onnx(
        model,
        np.zeros((1, len(COLUMNS)), np.float32),
        name="census-employment",
        options={id(model): {"zipmap": False}},
        target_opset=17,
    )
    exported = cast(ModelProto, made)  # what else its signature names, it answers to other options
    # skl2onnx collects the operator sets in a Python set, whose order differs between processes.
    opsets = sorted(exported.opset_import, key=lambda opset: opset.domain)
    del exported.opset_import[:]
    exported.opset_import.extend(opsets)
    return exported.SerializeToString(deterministic=True)


def as_skops(model: GradientBoostingClassifier) -> bytes:
    """Skops bytes that depend on the model alone: skops writes memory addresses and the time into its zip."""
    with zipfile.ZipFile(BytesIO(skops.io.dumps(model))) as source:
        members = {name: source.read(name) for name in source.namelist()}
    schema = members.pop("schema.json").decode()
    places: dict[str, str] = {}
    for address in re.findall(r'"__id__": (\d+)|"(\d+)\.npy"', schema):
        places.setdefault(address[0] or address[1], str(len(places) + 1))
    schema = re.sub(
        r'("__id__": |")(\d+)(\.npy"|(?=[,\s}]))',
        lambda found: found[1] + places.get(found[2], found[2]) + found[3],
        schema,
    )
    renamed = {f"{places[name.removesuffix('.npy')]}.npy": data for name, data in members.items()}
    return write_zip({"schema.json": json.dumps(json.loads(schema), sort_keys=True).encode(), **renamed})


def write_zip(members: dict[str, bytes]) -> bytes:
    """A zip with sorted members and a fixed date: equal content gives equal bytes."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name), members[name], compress_type=zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def write_reference(
    path: Path, matrix: np.ndarray, labels: np.ndarray, predicted: np.ndarray, score: np.ndarray
) -> None:
    """The reference rows: columns, label, and what the model says of them."""
    columns = {name: pa.array(matrix[:, index]) for index, name in enumerate(COLUMNS)}
    table = pa.table({**columns, LABEL: labels, PREDICTION: predicted, SCORE: score})
    pq.write_table(table, path, compression="zstd")
