"""Models of one table: the tensors under which a model of `services.kit.models` is served."""

import platform
from pathlib import Path
from typing import Any

import numpy as np

from contracts import Datatype, Format, TensorSpec
from services.kit.errors import Invalid
from services.kit.models import TableModel, Unreadable, UntrustedTypes, open_table, requirements

from . import Opened, Tensors

_DATATYPES: dict[str, Datatype] = {
    "i": "INT64", "u": "INT64", "b": "BOOL", "f": "FP64", "U": "BYTES", "S": "BYTES", "O": "BYTES",
}  # fmt: skip


class Table:
    """X in, the decision and class probabilities out."""

    def __init__(self, model: TableModel, columns: int, prediction: str, score: str | None) -> None:
        self._model = model
        width = model.columns if model.columns > 0 else columns or -1
        self.inputs = (TensorSpec(name="X", datatype="FP32", shape=(-1, width)),)
        classes = model.classes
        datatype = "FP64" if classes is None else _DATATYPES.get(classes.dtype.kind, "BYTES")
        self.outputs = (TensorSpec(name=prediction, datatype=datatype, shape=(-1,)),)
        if score and classes is not None:
            self.outputs += (TensorSpec(name=score, datatype="FP32", shape=(-1, len(classes))),)

    def predict(self, feed: Tensors) -> Tensors:
        """The decision, shape [rows]; class probabilities, [rows, classes], where they are served."""
        decision, *score = self.outputs
        answer = {decision.name: np.asarray(self._model.predict(feed["X"]))}
        for each in score:
            answer[each.name] = np.asarray(self._model.probabilities(feed["X"]), dtype=np.float32)
        return answer


def open_model(format: Format, path: Path, columns: int, prediction: str | None, score: str | None) -> Opened:
    """Open the file; types that are not trusted are findings, and nothing is built. Raises Invalid."""
    environment: dict[str, Any] = {"python": platform.python_version(), "requirements": requirements(format)}
    try:
        model = open_table(format, path.read_bytes())
    except UntrustedTypes as error:
        findings = [f"type {name[:200]} is not trusted" for name in error.types]
        return Opened(None, prediction or "label", score, findings, environment)
    except Unreadable as error:
        raise Invalid(f"{path.name} is not a readable {format} model: {error}", "package") from None
    if score and not model.scores:
        raise Invalid("score: the model gives no class probabilities", "score")
    prediction = prediction or ("value" if model.classes is None else "label")
    score = score or ("probabilities" if model.scores else None)
    made = environment | {"made_with": model.made_with}
    return Opened(
        Table(model, columns, prediction, score), prediction, score, [], made, model.names, model.takes_missing
    )
