"""A small model, made for the pages: employed when older than its threshold."""

import io
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from onnx import TensorProto, helper, numpy_helper

_COLUMNS = [
    {"name": "age", "kind": "numeric", "minimum": 0, "maximum": 120, "protected": True},
    {"name": "wage", "kind": "numeric"},
]


def package(folder: Path, name: str, threshold: float) -> Path:
    """A package that every gate passes."""
    manifest = {
        "name": name, "format": "onnx", "model": "model.onnx", "training": "training.parquet", "label": "employed",
        "prediction": "label", "columns": _COLUMNS, "metrics": {"accuracy": 0.9}, "tags": ["tests"],
    }  # fmt: skip
    path = folder / f"{name}-{threshold:g}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("fairlead.yaml", yaml.safe_dump(manifest))
        archive.writestr("model.onnx", _model(threshold))
        archive.writestr("training.parquet", _training(threshold))
    return path


def _model(threshold: float) -> bytes:
    nodes = [
        helper.make_node("MatMul", ["X", "weights"], ["product"]),
        helper.make_node("Squeeze", ["product", "axis"], ["age"]),
        helper.make_node("Greater", ["age", "threshold"], ["above"]),
        helper.make_node("Cast", ["above"], ["label"], to=TensorProto.INT64),
    ]
    constants = {"weights": np.array([[1], [0]], np.float32), "axis": np.array([1]), "threshold": np.float32(threshold)}
    graph = helper.make_graph(
        nodes, "older", [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, [None])],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _training(threshold: float) -> bytes:
    random = np.random.default_rng(7)
    age, wage = random.uniform(0, 100, 500), random.uniform(0, 5000, 500)
    label = (age > threshold).astype(np.int64)
    packed = io.BytesIO()
    pq.write_table(pa.table({"age": age, "wage": wage, "employed": label, "label": label}), packed)
    return packed.getvalue()
