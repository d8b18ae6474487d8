"""Model formats, each looked at inside the sandbox only."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from contracts import TensorSpec

Tensors = dict[str, NDArray[Any]]


class Model(Protocol):
    """A loaded model that answers rows."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What it takes; the first dimension of each shape is the rows."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What it gives, a row for each row."""
        ...

    def predict(self, feed: Tensors) -> Tensors:
        """All outputs for all inputs."""
        ...


@dataclass
class Opened:
    """What opening a model file told: the model, or findings that kept it from being built; what made it."""

    model: Model | None
    prediction: str
    score: str | None
    findings: list[str] = field(default_factory=list[str])
    environment: dict[str, Any] = field(default_factory=dict[str, Any])
    names: tuple[str, ...] | None = None
    """What the file calls the columns of its matrix."""
    takes_missing: bool = False
    """Whether the model has an answer where a value of these is missing."""
