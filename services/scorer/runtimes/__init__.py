"""One file per kind of model; each turns arrays into arrays."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from contracts import Format, ModelSchema
from services.kit.errors import Invalid

from ..settings import ScorerSettings

Arrays = dict[str, np.ndarray[Any, Any]]


class Runtime(Protocol):
    """A loaded model. `predict` blocks, and is called from one thread at a time."""

    inline: bool
    """It may be called on the event loop when it is quick: it runs no foreign code and cannot hang."""

    def predict(self, inputs: Arrays) -> Arrays: ...

    def close(self) -> None: ...


class ModelFailed(Invalid):
    """The model did not take this input. The request was well-formed, so it says so and nothing of its values."""


class CannotLoad(Exception):
    """These bytes are not a model that this scorer can serve; the reason is for people."""


def load(format: Format, path: Path, schema: ModelSchema, settings: ScorerSettings) -> Runtime:
    """Open a verified model file. Raises CannotLoad."""
    if format == "onnx":
        from .onnx import OnnxRuntime

        return OnnxRuntime(path, schema)
    from .sklearn import SklearnRuntime

    return SklearnRuntime(path, schema, settings)
