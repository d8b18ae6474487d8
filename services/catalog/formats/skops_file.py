"""scikit-learn through skops: types are named before anything is built, and only known ones are built."""

import json
import pickle
import platform
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from skops.io.exceptions import UntrustedTypesFoundException

from contracts import Datatype, TensorSpec
from services.kit.errors import Invalid
from services.kit.skops_types import strangers

from . import Opened, Tensors

_DATATYPES: dict[str, Datatype] = {
    "i": "INT64", "u": "INT64", "b": "BOOL", "f": "FP64", "U": "BYTES", "S": "BYTES", "O": "BYTES",
}  # fmt: skip


class SklearnModel:
    """An estimator with the tensors under which it is served: X in, the decision and class probabilities out."""

    def __init__(self, estimator: Any, columns: int, prediction: str, score: str | None) -> None:
        self._estimator = estimator
        width = int(getattr(estimator, "n_features_in_", columns) or -1)
        self.inputs = (TensorSpec(name="X", datatype="FP32", shape=(-1, width)),)
        classes = getattr(estimator, "classes_", None)
        datatype = "FP64" if classes is None else _DATATYPES.get(np.asarray(classes).dtype.kind, "BYTES")
        self.outputs = (TensorSpec(name=prediction, datatype=datatype, shape=(-1,)),)
        if score and classes is not None:
            self.outputs += (TensorSpec(name=score, datatype="FP32", shape=(-1, len(classes))),)

    def predict(self, feed: Tensors) -> Tensors:
        """The decision, shape [rows]; class probabilities, [rows, classes], where they are served."""
        decision, *score = self.outputs
        answer = {decision.name: np.asarray(self._estimator.predict(feed["X"]))}
        for each in score:
            answer[each.name] = np.asarray(self._estimator.predict_proba(feed["X"]), dtype=np.float32)
        return answer


def open_model(path: Path, columns: int, prediction: str | None, score: str | None) -> Opened:
    """Name the types; build the estimator only when all are known. Raises Invalid for what is no skops file."""
    environment = {"python": platform.python_version(), "requirements": _requirements()}
    try:
        with zipfile.ZipFile(path) as archive:
            environment["made_with"] = f"skops {json.loads(archive.read('schema.json'))['_skops_version']}"[:100]
        asked = skops.io.get_untrusted_types(file=path)
        if findings := [f"type {name[:200]} is not trusted" for name in strangers(asked)]:
            return Opened(None, prediction or "label", score, findings, environment)
        estimator = skops.io.load(path, trusted=asked)
    except _BROKEN as error:
        reason = " ".join(str(error).split())[:300]
        raise Invalid(
            f"{path.name} is not a readable skops file: {type(error).__name__}: {reason}", "package"
        ) from None
    return _opened(estimator, columns, prediction, score, environment)


def _opened(
    estimator: Any, columns: int, prediction: str | None, score: str | None, environment: dict[str, Any]
) -> Opened:
    if not hasattr(estimator, "predict"):
        raise Invalid(f"{type(estimator).__name__} cannot predict", "package")
    classifies = hasattr(estimator, "classes_")
    scores = classifies and hasattr(estimator, "predict_proba")
    if score and not scores:
        raise Invalid(f"score: {type(estimator).__name__} gives no class probabilities", "score")
    prediction = prediction or ("label" if classifies else "value")
    score = score or ("probabilities" if scores else None)
    return Opened(SklearnModel(estimator, columns, prediction, score), prediction, score, [], environment)


_BROKEN = (
    zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, IndexError, ImportError, OSError, EOFError,
    RecursionError, NotImplementedError, UntrustedTypesFoundException, pickle.UnpicklingError,
)  # fmt: skip
"""What skops, numpy and scikit-learn raise on files that they did not write."""


def _requirements() -> list[str]:
    return [f"{name}=={version(name)}" for name in ("numpy", "scikit-learn", "scipy", "skops")]
