"""A recipe that learns one threshold: small, deterministic, real."""

from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper


def train(rows: Path, out: Path) -> dict[str, float]:
    table = pq.read_table(rows)
    assert table.column_names == ["size", "noise", "truth"], table.column_names
    size, truth = table["size"].to_numpy(), table["truth"].to_numpy()
    cuts = np.linspace(0, 1, 101)
    right = [float(((size > cut) == truth).mean()) for cut in cuts]
    best = int(np.argmax(right))
    (out / "model.onnx").write_bytes(model_of(float(cuts[best])))
    pq.write_table(table, out / "training.parquet")
    print("learned", cuts[best])
    return {"accuracy": right[best]}


def model_of(threshold: float) -> bytes:
    """ONNX: the label is 1 where the first column is above the threshold."""
    nodes = [
        helper.make_node("Gather", ["X", "first"], ["size"], axis=1),
        helper.make_node("Greater", ["size", "threshold"], ["above"]),
        helper.make_node("Cast", ["above"], ["column"], to=TensorProto.INT64),
        helper.make_node("Squeeze", ["column", "one"], ["label"]),
        helper.make_node("Cast", ["above"], ["p1"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["sure", "p1"], ["p0"]),
        helper.make_node("Concat", ["p0", "p1"], ["probabilities"], axis=1),
    ]
    constants = {"first": np.array([0]), "one": np.array([1]), "sure": np.array([[1]], np.float32)}
    constants["threshold"] = np.array([[threshold]], np.float32)
    graph = helper.make_graph(
        nodes,
        "threshold",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 2])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.ModelProto.SerializeToString(made, deterministic=True)
