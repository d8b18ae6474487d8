"""A table model as tensors: one matrix in, decisions and perhaps class probabilities out."""

from typing import Any

import numpy as np

from . import Array, Asked, TableModel, Told, Unreadable
from .wire import Tensors

_FLOATS = ("FP32", "FP64")
_DATATYPES = {"i": "INT64", "u": "INT64", "b": "BOOL", "f": "FP64"}


class Table:
    """The tensors are called as whoever opens it asks for, else by what they are."""

    def __init__(self, model: TableModel, asked: Asked) -> None:
        if asked.score and not model.scores:
            raise Unreadable("score: the model gives no class probabilities")
        self._model = model
        self._decision = asked.prediction or ("value" if model.classes is None else "label")
        self._score = asked.score or ("probabilities" if model.scores and not asked.outputs else None)
        self.told = Told(
            inputs=self._inputs(asked), outputs=self._outputs(), prediction=self._decision, score=self._score,
            names=model.names, takes_missing=model.takes_missing, made_with=model.made_with,
        )  # fmt: skip

    def predict(self, inputs: Tensors) -> Tensors:
        """The decision, shape [rows]; class probabilities, [rows, classes], where they are asked for."""
        (matrix,) = inputs.values()
        if not self._score:
            return {self._decision: np.asarray(self._model.predict(matrix)).reshape(-1)}
        decided, shares = self._model.scored(matrix)
        return {self._decision: np.asarray(decided).reshape(-1), self._score: np.asarray(shares, np.float32)}

    def structure(self) -> Tensors:
        """Its trees or coefficients, as `nodes.py` says; nothing where the format has none, or the model."""
        told = getattr(self._model, "structure", None)
        return (told() if told else None) or {}

    def _inputs(self, asked: Asked) -> list[dict[str, Any]]:
        width = self._model.columns if self._model.columns > 0 else len(asked.columns) or -1
        if not asked.inputs:
            return [{"name": "X", "datatype": self._model.datatype, "shape": [-1, width]}]
        declared = asked.inputs[0]
        shape = list(declared["shape"])
        is_wide = len(shape) == 2 and shape[0] == -1 and (-1 in (width, shape[1]) or shape[1] == width)
        if len(asked.inputs) > 1 or declared["datatype"] not in _FLOATS or not is_wide:
            takes = f"[-1, {'n' if width == -1 else width}]"
            raise Unreadable(f"inputs: the model takes one matrix {takes} of FP64 or FP32")
        return [{"name": declared["name"], "datatype": declared["datatype"], "shape": [-1, max(width, shape[1])]}]

    def _outputs(self) -> list[dict[str, Any]]:
        classes: Array | None = self._model.classes
        datatype = "FP64" if classes is None else _DATATYPES.get(classes.dtype.kind, "BYTES")
        outputs = [{"name": self._decision, "datatype": datatype, "shape": [-1]}]
        if self._score and classes is not None:
            outputs.append({"name": self._score, "datatype": "FP32", "shape": [-1, len(classes)]})
        return outputs
