"""What a package says of the server that answers for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

Protocol = Literal["v2", "mlflow", "template"]


@dataclass(frozen=True)
class External:
    """The member `external` of `fairlead.yaml`, as the catalog has validated it."""

    connection: str
    path: str
    """Below the connection's URL."""
    protocol: Protocol
    timeout_s: float = 5.0
    """For one call, its repetition included."""
    retry_ratio: float = 0.2
    """Repetitions for each call, on average over many."""
    body: Any = None
    """Of `template`: the request, in which `{{rows}}`, `{{matrix}}` and `{{NAME}}` of a tensor stand for values."""
    answers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of `template`: where in the answer each output lies, a JSON pointer; `*` stands for every element of a list."""

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Self:
        """Out of a package's `fairlead.yaml`. Raises TypeError and KeyError for what the catalog never wrote."""
        return cls(**manifest["external"])
