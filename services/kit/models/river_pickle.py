"""River models, which learn from one row after another: a pickle, opened behind the walls.

They take rows by the names of their columns, and say nothing of these names themselves: the package does.
"""

import pickle
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from . import Array, Asked, Told, Unreadable
from .wire import Tensors

_TRUTHS = (False, True)
"""As keys they are 0 and 1, too."""


class RiverModel:
    """An estimator or pipeline with `predict_one`."""

    def __init__(self, estimator: Any, asked: Asked) -> None:
        self._estimator = estimator
        self._names = list(asked.columns)
        self._decision = asked.prediction or ("label" if hasattr(estimator, "predict_proba_one") else "value")
        self._score = asked.score
        self._classes = self._known() if asked.score else ()
        self.told = Told(
            inputs=[{"name": "X", "datatype": "FP64", "shape": [-1, len(self._names)]}], outputs=asked.outputs,
            prediction=self._decision, score=self._score, takes_missing=True, made_with=f"river {version('river')}",
        )  # fmt: skip

    def predict(self, inputs: Tensors) -> Tensors:
        """A decision for each row; with a score, the probabilities of the classes in their order. Raises ValueError for
        one of a class that the model did not name when it was opened."""
        (matrix,) = inputs.values()
        rows = [self._row(values) for values in matrix.tolist()]
        answer: Tensors = {self._decision: np.array([self._estimator.predict_one(row) for row in rows])}
        if self._score:
            answer[self._score] = self._probabilities(rows)
        return answer

    def _row(self, values: list[float]) -> dict[str, float]:
        """A value that is missing is left out, as river's estimators take it."""
        return {name: value for name, value in zip(self._names, values, strict=True) if value == value}

    def _probabilities(self, rows: list[dict[str, float]]) -> Array:
        said = [self._estimator.predict_proba_one(row) for row in rows]
        if strange := [name for each in said for name in each if name not in self._classes]:
            raise ValueError(f"it gives a probability of {strange[0]!r}, and named {self._classes} of a row of zeros")
        if self._classes == _TRUTHS:
            yes = np.array([each.get(True, 0.0) for each in said], np.float32)
            return np.stack([1 - yes, yes], axis=1)
        return np.array([[each.get(name, 0.0) for name in self._classes] for each in said], np.float32)

    def _known(self) -> tuple[Any, ...]:
        """The classes, as the model names them of a row of zeros. Raises Unreadable where they have no order."""
        said = self._estimator.predict_proba_one(dict.fromkeys(self._names, 0.0))
        if all(name in _TRUTHS for name in said):
            return _TRUTHS
        same = any(all(isinstance(name, kind) for name in said) for kind in (str, (int, np.integer)))
        if len(said) < 2 or not same:
            named = f"of a row of zeros the model names the classes {list(said)!r}"[:300]
            raise Unreadable(f"score: {named}: two or more are needed, all texts or all whole numbers")
        return tuple(sorted(said))


def open_model(folder: Path, file: str, asked: Asked) -> RiverModel:
    """The estimator in a pickle. Raises Unreadable for one that does not predict, or without the names of columns."""
    if not asked.columns:
        raise Unreadable("columns: a river model takes rows by name: name its columns in fairlead.yaml")
    with (folder / file).open("rb") as pickled:
        estimator = pickle.load(pickled)
    if not hasattr(estimator, "predict_one"):
        raise Unreadable(f"{type(estimator).__name__} has no predict_one")
    if asked.score and not hasattr(estimator, "predict_proba_one"):
        raise Unreadable("score: the model gives no class probabilities")
    return RiverModel(estimator, asked)
