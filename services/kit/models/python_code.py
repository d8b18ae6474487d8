"""A Python function: the package's file defines `predict`, which takes arrays by name and answers arrays by name.

Whatever it needs once (weights beside it, a table) it loads when it is imported.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import Asked, Told, Unreadable
from .wire import Tensors


class PythonModel:
    """A function of somebody's own."""

    def __init__(self, predict: Callable[[Tensors], Any], asked: Asked) -> None:
        self._predict = predict
        self._single = asked.prediction or next((each["name"] for each in asked.outputs), "prediction")
        matrix = {"name": "X", "datatype": "FP64", "shape": [-1, len(asked.columns)]}
        self.told = Told(
            inputs=asked.inputs or ([matrix] if asked.columns else []), outputs=asked.outputs,
            prediction=asked.prediction, score=asked.score, made_with="Python " + sys.version.partition(" ")[0],
        )  # fmt: skip

    def predict(self, inputs: Tensors) -> Tensors:
        """What the function answers; one array alone is the decision. Raises TypeError for anything else."""
        said = self._predict(inputs)
        if isinstance(said, Mapping):
            return {str(name): np.asarray(values) for name, values in said.items()}
        if said is None or np.ndim(said) == 0:
            raise TypeError(f"predict answered {type(said).__name__}: arrays by name, or one array, are needed")
        return {self._single: np.asarray(said)}


def open_model(folder: Path, file: str, asked: Asked) -> PythonModel:
    """Import the file. Raises Unreadable where it defines no `predict`, or what its import raises."""
    sys.path.insert(0, str(folder))  # modules of the package, beside the file
    spec = importlib.util.spec_from_file_location("model", folder / file)
    if spec is None or spec.loader is None:
        raise Unreadable(f"{file} is no Python module: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["model"] = module
    spec.loader.exec_module(module)
    predict = getattr(module, "predict", None)
    if not callable(predict):
        raise Unreadable(f"{file} defines no function `predict(inputs)`")
    return PythonModel(predict, asked)
