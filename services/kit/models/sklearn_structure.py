"""The trees and coefficients of plain scikit-learn estimators, in the form of `nodes.py`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from .nodes import linear, rounded
from .wire import Array, Tensors

_FORESTS = (RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier, ExtraTreesRegressor)
_BOOSTED = (GradientBoostingClassifier, GradientBoostingRegressor)
_HISTOGRAMS = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)


def structure(estimator: Any) -> Tensors | None:
    """None for pipelines and whatever else is neither trees nor linear."""
    if isinstance(estimator, DecisionTreeClassifier | DecisionTreeRegressor):
        return _averaged([estimator.tree_])
    if isinstance(estimator, _FORESTS):
        return _averaged([each.tree_ for each in estimator.estimators_])
    if isinstance(estimator, _BOOSTED):
        return _boosted(estimator)
    if isinstance(estimator, _HISTOGRAMS):
        return _histograms(estimator)
    if hasattr(estimator, "coef_") and hasattr(estimator, "intercept_") and not hasattr(estimator, "kernel"):
        return linear(estimator.coef_, estimator.intercept_)
    return None


def _averaged(trees: Sequence[Any]) -> Tensors | None:
    """Each tree adds its share of each class, or of the number."""
    if trees[0].value.shape[1] != 1:
        return None  # several targets
    outputs = trees[0].value.shape[2]
    values = [tree.value[:, 0, :] for tree in trees]
    shares = [each / (each.sum(axis=1, keepdims=True) if outputs > 1 else 1) / len(trees) for each in values]
    return _joined([_arrays(tree) for tree in trees], shares, np.zeros(outputs))


def _boosted(estimator: Any) -> Tensors:
    rounds, outputs = estimator.estimators_.shape
    base = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), np.float32))[0]
    trees = [(estimator.estimators_[each, output].tree_, output) for each in range(rounds) for output in range(outputs)]
    values = [_one_of(tree.value[:, 0, 0] * estimator.learning_rate, output, outputs) for tree, output in trees]
    return _joined([_arrays(tree) for tree, _ in trees], values, np.asarray(base, float))


def _histograms(estimator: Any) -> Tensors | None:
    outputs = len(estimator._predictors[0])
    nodes = [(tree.nodes, output) for round in estimator._predictors for output, tree in enumerate(round)]
    if any(each["is_categorical"].any() for each, _ in nodes):
        return None
    arrays = [
        {
            "left": np.where(each["is_leaf"], -1, each["left"].astype(int)),
            "right": np.where(each["is_leaf"], -1, each["right"].astype(int)),
            "column": each["feature_idx"].astype(int), "threshold": each["num_threshold"].astype(float),
            "missing_left": each["missing_go_to_left"].astype(bool),
        }
        for each, _ in nodes
    ]  # fmt: skip
    values = [_one_of(each["value"].astype(float), output, outputs) for each, output in nodes]
    return _joined(arrays, values, np.asarray(estimator._baseline_prediction, float).reshape(-1))


def _arrays(tree: Any) -> Tensors:
    to_left = getattr(tree, "missing_go_to_left", np.zeros(tree.node_count, bool))
    return {
        "left": tree.children_left, "right": tree.children_right, "column": tree.feature,
        "threshold": rounded(tree.threshold), "missing_left": to_left.astype(bool),
    }  # fmt: skip


def _one_of(values: Array, output: int, outputs: int) -> Array:
    wide = np.zeros((len(values), outputs))
    wide[:, output] = values
    return wide


def _joined(trees: Sequence[Tensors], values: Sequence[Array], base: Array) -> Tensors:
    """One after another, their places moved along."""
    starts = np.cumsum([0, *(len(tree["left"]) for tree in trees)])[:-1]
    leaves = [tree["left"] < 0 for tree in trees]
    return {
        "left": _moved(trees, "left", starts), "right": _moved(trees, "right", starts),
        "column": np.concatenate([np.where(leaf, 0, tree["column"]) for tree, leaf in zip(trees, leaves, strict=True)]),
        "threshold": np.concatenate([tree["threshold"] for tree in trees]),
        "missing_left": np.concatenate([tree["missing_left"] for tree in trees]),
        "values": np.concatenate([each * leaf[:, None] for each, leaf in zip(values, leaves, strict=True)]),
        "roots": starts, "base": base,
    }  # fmt: skip


def _moved(trees: Sequence[Tensors], side: str, starts: Array) -> Array:
    return np.concatenate([
        np.where(tree[side] < 0, -1, tree[side] + start) for tree, start in zip(trees, starts, strict=True)
    ])  # fmt: skip
