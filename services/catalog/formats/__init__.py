"""Model formats, each looked at inside the sandbox only."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from contracts import Datatype, TensorSpec

NUMPY: dict[Datatype, str] = {
    "BOOL": "bool", "UINT8": "u1", "UINT16": "u2", "UINT32": "u4", "UINT64": "u8",
    "INT8": "i1", "INT16": "i2", "INT32": "i4", "INT64": "i8", "FP16": "f2", "FP32": "f4", "FP64": "f8", "BYTES": "O",
}  # fmt: skip
Tensors = dict[str, NDArray[Any]]


class Model(Protocol):
    """A loaded model that answers rows."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

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
