"""LightGBM in its own text format: trees and numbers, no code."""

import re

import lightgbm as lgb
import numpy as np

from . import Array, Boosted, unreadable

_OBJECTIVE = re.compile(r"^objective=(\w+)", re.MULTILINE)
_VERSION = re.compile(r"^version=(\w+)", re.MULTILINE)
_SEVERAL = ("multiclass", "multiclassova")


class LightGBMModel(Boosted):
    """A booster; its objective says what its numbers are."""

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
