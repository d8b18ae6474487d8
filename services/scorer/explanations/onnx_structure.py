"""The trees or coefficients in an ONNX model of one step, as the exporters of scikit-learn and its kin write it.

A model with steps before (scaling, encoding) is not read: its columns are not the model's.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper

from services.kit.models.wire import Array, Tensors

_TREES = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")
_LINEAR = ("LinearClassifier", "LinearRegressor")
_PASSING = ("Cast", "Identity")


def structure(data: bytes) -> Tensors | None:
    """Its numbers in the form of `structure.py`; None for a model of another kind."""
    model = onnx.load_from_string(data)
    steps = [node for node in model.graph.node if node.op_type in (*_TREES, *_LINEAR)]
    if len(steps) != 1 or not _takes_the_input(model, steps[0]):
        return None
    said = {each.name: helper.get_attribute_value(each) for each in steps[0].attribute}
    if steps[0].op_type in _LINEAR:
        return _linear(said)
    return _trees(said, "class" if steps[0].op_type == "TreeEnsembleClassifier" else "target")


def _takes_the_input(model: onnx.ModelProto, step: onnx.NodeProto) -> bool:
    made = {name: node for node in model.graph.node for name in node.output}
    name = step.input[0]
    while name in made:
        if made[name].op_type not in _PASSING:
            return False
        name = made[name].input[0]
    return [each.name for each in model.graph.input] == [name]


def _linear(said: Mapping[str, Any]) -> Tensors:
    base = np.asarray(said.get("intercepts", [0.0]), float)
    return {"coefficients": np.asarray(said["coefficients"], float).reshape(len(base), -1), "base": base}


def _trees(said: Mapping[str, Any], of: str) -> Tensors | None:
    modes = [mode.decode() for mode in said["nodes_modes"]]
    if {*modes} - {"LEAF", "BRANCH_LEQ", "BRANCH_LT"}:
        return None
    place = {key: n for n, key in enumerate(zip(said["nodes_treeids"], said["nodes_nodeids"], strict=True))}
    ids = list(place)
    leaf = np.array([mode == "LEAF" for mode in modes])
    children = {side: _children(said, name, ids, leaf, place) for side, name in (("left", "true"), ("right", "false"))}
    outputs = np.asarray(said[f"{of}_ids"], int)
    values = np.zeros((len(ids), int(outputs.max()) + 1))
    keys = zip(said[f"{of}_treeids"], said[f"{of}_nodeids"], strict=True)
    np.add.at(values, (np.array([place[key] for key in keys]), outputs), np.asarray(said[f"{of}_weights"], float))
    roots = {*range(len(ids))} - {*children["left"].tolist(), *children["right"].tolist()}
    threshold = np.asarray(said["nodes_values"], np.float32)
    below = np.array([mode == "BRANCH_LT" for mode in modes])
    threshold = np.where(below, np.nextafter(threshold, np.float32(-np.inf)), threshold)
    base = np.zeros(values.shape[1])
    base[: len(said.get("base_values", []))] = said.get("base_values", [])
    labels = said.get("classlabels_int64s") or said.get("classlabels_strings") or ()
    if len(labels) == 2 and values.shape[1] == 1:
        values, base = _two_sided(values, base, is_raw=said.get("post_transform", b"NONE") != b"NONE")
    return children | {
        "column": np.asarray(said["nodes_featureids"]), "threshold": threshold, "values": values, "base": base,
        "missing_left": np.asarray(said.get("nodes_missing_value_tracks_true") or np.zeros(len(ids)), bool),
        "roots": np.array(sorted(roots)),
    }  # fmt: skip


def _two_sided(values: Array, base: Array, *, is_raw: bool) -> tuple[Array, Array]:
    """Of two classes only the second one is said: the first has the rest, or, of raw scores, the opposite."""
    return np.concatenate([-values, values], axis=1), np.array([-base[0] if is_raw else 1 - base[0], base[0]])


def _children(
    said: Mapping[str, Any], name: str, ids: list[tuple[int, int]], leaf: Array, place: dict[tuple[int, int], int]
) -> Array:
    named = said[f"nodes_{name}nodeids"]
    return np.array([-1 if leaf[n] else place[ids[n][0], child] for n, child in enumerate(named)])
