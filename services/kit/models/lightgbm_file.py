"""LightGBM in its own text format: trees and numbers, no code."""

import re
from typing import Any

import lightgbm as lgb
import numpy as np

from . import Array, Boosted, unreadable
from .nodes import Nodes
from .wire import Tensors

_OBJECTIVE = re.compile(r"^objective=(\w+)", re.MULTILINE)
_VERSION = re.compile(r"^version=(\w+)", re.MULTILINE)
_SEVERAL = ("multiclass", "multiclassova")


class LightGBMModel(Boosted):
    """A booster; its objective says what its numbers are."""

    datatype = "FP64"

    def __init__(self, booster: lgb.Booster, objective: str, made_with: str) -> None:
        self._booster = booster
        self.made_with = made_with
        self.columns = booster.num_feature()
        names = tuple(booster.feature_name())
        self.names = None if names == tuple(f"Column_{number}" for number in range(self.columns)) else names
        self.classes = _classes(objective, booster.num_model_per_iteration())
        self.scores = self.classes is not None

    def said(self, matrix: Array) -> Array:
        return np.asarray(self._booster.predict(matrix, num_threads=1))

    def structure(self) -> Tensors | None:
        """Its trees; None where they ask for categories, or take nought as missing."""
        said = self._booster.dump_model()
        outputs = int(said["num_tree_per_iteration"])
        nodes = Nodes(outputs)
        try:
            for number, tree in enumerate(said["tree_info"]):
                nodes.root(_node(tree["tree_structure"], nodes, number % outputs))
        except _Other:
            return None
        return nodes.arrays([0.0] * outputs)


class _Other(Exception):
    """A node asks for something else than whether a value is at most so much."""


def _node(said: dict[str, Any], nodes: Nodes, output: int) -> int:
    if "leaf_value" in said:
        return nodes.leaf(float(said["leaf_value"]), output)
    if said["decision_type"] != "<=" or said["missing_type"] == "Zero":
        raise _Other
    left, right = (_node(said[f"{side}_child"], nodes, output) for side in ("left", "right"))
    missing_left = said["default_left"] if said["missing_type"] == "NaN" else said["threshold"] >= 0
    return nodes.split(said["split_feature"], said["threshold"], left, right, missing_left=bool(missing_left))


def open_model(data: bytes) -> LightGBMModel:
    """The booster that `save_model` wrote. Raises Unreadable."""
    try:
        text = data.decode()
        booster = lgb.Booster(model_str=text)
    except (lgb.basic.LightGBMError, ValueError, TypeError) as error:
        raise unreadable(error) from None
    head = text[: text.find("\nTree=0")]
    objective, version = _OBJECTIVE.search(head), _VERSION.search(head)
    made_with = f"lightgbm model {version[1]}" if version else "lightgbm"
    return LightGBMModel(booster, objective[1] if objective else "", made_with)


def _classes(objective: str, trees_each: int) -> Array | None:
    if objective in _SEVERAL:
        return np.arange(trees_each)
    return np.arange(2) if objective == "binary" else None
