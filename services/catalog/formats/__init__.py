"""What the inspector knows of an opened model, whatever opened it."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from contracts import ParamSpec, TensorSpec
from services.kit.models.wire import Tensors


class Model(Protocol):
    """A loaded model that answers rows."""

    def predict(self, feed: Tensors) -> Tensors:
        """All outputs for all inputs."""
        ...


@dataclass
class Opened:
    """What opening a model file told."""

    inputs: tuple[TensorSpec, ...]
    """What it takes; the first dimension of each shape is the rows."""
    outputs: tuple[TensorSpec, ...]
    """What it gives, a row for each row; empty where only its first answer will tell."""
    prediction: str | None
    score: str | None
    model: Model | None = None
    """Opened here; None: it is asked from outside, in a sandbox of its own."""
    findings: list[str] = field(default_factory=list[str])
    """What kept it from being built: then it answers nothing."""
    environment: dict[str, Any] = field(default_factory=dict[str, Any])
    names: tuple[str, ...] | None = None
    """What the file calls the columns of its matrix."""
    params: tuple[ParamSpec, ...] = ()
    """What requests may set of it."""
    takes_missing: bool = False
    """Whether the model has an answer where a value of these is missing."""
