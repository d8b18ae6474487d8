"""XGBoost in its own format, JSON or UBJSON: trees and numbers, no code."""

import json
import re
from typing import Any

import numpy as np
import xgboost as xgb

from . import Array, Boosted, Unreadable, unreadable
from .nodes import Nodes, below
from .wire import Tensors

_WITHOUT_SCORES = ("binary:hinge", "binary:logitraw")
_WHERE = re.compile(r"^\[[\d:]+\] \S+:\d+: ")


class XGBoostModel(Boosted):
    """A booster; its objective says what its numbers are."""

    datatype = "FP32"

    def __init__(self, booster: xgb.Booster) -> None:
        config: dict[str, Any] = json.loads(booster.save_config())
        learner = config["learner"]
        parameters, objective = learner["learner_model_param"], str(learner["objective"]["name"])
        if int(parameters.get("num_target", 1)) > 1:
            raise Unreadable("the model answers several numbers for each row: one is taken")
        if objective == "multi:softmax":  # the same trees, with what they say of each class
            booster.set_param({"objective": "multi:softprob"})
        self._booster = booster
        self._types = booster.feature_types if "c" in (booster.feature_types or ()) else None
        self.made_with = "xgboost " + ".".join(map(str, config.get("version", [])))
        self.columns = booster.num_features() or -1
        self.names = tuple(booster.feature_names) if booster.feature_names else None
        self.classes = _classes(objective, int(parameters["num_class"]))
        self.scores = self.classes is not None and objective not in _WITHOUT_SCORES

    def said(self, matrix: Array) -> Array:
        if self.columns != -1 and matrix.shape[1] != self.columns:
            raise ValueError(f"the model takes {self.columns} features, not {matrix.shape[1]}")
        if self._types is None:
            return self._booster.inplace_predict(matrix, validate_features=False)
        rows = xgb.DMatrix(matrix, feature_types=self._types, enable_categorical=True)
        return self._booster.predict(rows, validate_features=False)

    def structure(self) -> Tensors | None:
        """Its trees; None where they ask for categories."""
        config: dict[str, Any] = json.loads(self._booster.save_config())
        learner = config["learner"]
        outputs = max(1, int(learner["learner_model_param"]["num_class"]))
        names = {name: place for place, name in enumerate(self._booster.feature_names or ())}
        nodes = Nodes(outputs)
        try:
            for number, tree in enumerate(self._booster.get_dump(dump_format="json")):
                nodes.root(_node(json.loads(tree), nodes, names, number % outputs))
        except _Categorical:
            return None
        return nodes.arrays(_base(learner, outputs))


class _Categorical(Exception):
    """A node asks for categories."""


def _node(said: dict[str, Any], nodes: Nodes, names: dict[str, int], output: int) -> int:
    if "leaf" in said:
        return nodes.leaf(float(said["leaf"]), output)
    if isinstance(said["split_condition"], list):
        raise _Categorical
    children = {child["nodeid"]: _node(child, nodes, names, output) for child in said["children"]}
    column = names[said["split"]] if said["split"] in names else int(said["split"][1:])
    return nodes.split(
        column, below(said["split_condition"]), children[said["yes"]], children[said["no"]],
        missing_left=said["missing"] == said["yes"],
    )  # fmt: skip


def _base(learner: dict[str, Any], outputs: int) -> list[float]:
    """What all trees start from; where the objective is logistic, it is said as a probability."""
    said = np.atleast_1d(json.loads(str(learner["learner_model_param"]["base_score"]))).astype(float)
    if learner["objective"]["name"] in ("binary:logistic", "reg:logistic"):
        said = np.log(said / (1 - said))
    return np.broadcast_to(said, outputs).tolist()


def open_model(data: bytes) -> XGBoostModel:
    """The booster that `save_model` wrote. Raises Unreadable."""
    try:
        booster = xgb.Booster({"nthread": 1})
        booster.load_model(bytearray(data))
        booster.set_param({"nthread": 1})
        return XGBoostModel(booster)
    except Unreadable:
        raise
    except xgb.core.XGBoostError as error:  # its words begin with a place in its source and end with a trace
        raise Unreadable(f"XGBoost: {_WHERE.sub('', str(error)).partition('Stack trace')[0].strip()[:300]}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise unreadable(error) from None


def _classes(objective: str, several: int) -> Array | None:
    if objective.startswith("multi:"):
        return np.arange(several)
    return np.arange(2) if objective.startswith("binary:") else None
