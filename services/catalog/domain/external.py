"""What `fairlead.yaml` says of a server that answers for a model."""

from collections.abc import Collection
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, StringConstraints, model_validator

from contracts import Name

from .strict import Identifier, Strict

# Plain parts: none leads out of what the administrator approved.
_Path = Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9_~:@-][A-Za-z0-9._~:@-]*)+/?$", max_length=500)]
_Pointer = Annotated[str, StringConstraints(pattern=r"^(/[^\x00-\x1f\x7f]*)?$", max_length=500)]
_TABLES = frozenset({"rows", "matrix"})


class ManifestExternal(Strict):
    """The server, and how it is asked."""

    connection: Name
    path: _Path
    protocol: Literal["v2", "mlflow", "template"]
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    retry_ratio: Annotated[float, Field(ge=0, le=1)] = 0.2
    body: Any = None
    answers: Annotated[dict[Identifier, _Pointer], Field(max_length=10_000)] = {}

    @model_validator(mode="after")
    def _is_of_its_protocol(self) -> Self:
        if self.protocol == "template" and (self.body is None or not self.answers):
            raise ValueError("protocol template needs a body, and answers: where each output lies")
        if self.protocol != "template" and (self.body is not None or self.answers):
            raise ValueError(f"body and answers are for protocol template, not {self.protocol}")
        return self

    def check(self, inputs: Collection[str], outputs: Collection[str]) -> None:
        """Raises ValueError for a template that does not fit the tensors."""
        if self.protocol != "template":
            return
        if unknown := set(placeholders(self.body)) - _TABLES - set(inputs):
            raise ValueError(f"the body's {{{{{sorted(unknown)[0]}}}}} is no input, nor rows or matrix")
        if other := set(self.answers) ^ set(outputs):
            raise ValueError(f"{sorted(other)[0]} is not both an output and in answers")


def placeholders(body: Any) -> list[str]:
    """What stands between double braces in a template."""
    if isinstance(body, dict):
        return [name for each in cast(dict[str, Any], body).values() for name in placeholders(each)]
    if isinstance(body, list):
        return [name for each in cast(list[Any], body) for name in placeholders(each)]
    is_one = isinstance(body, str) and body.startswith("{{") and body.endswith("}}")
    return [body[2:-2].strip()] if is_one else []
