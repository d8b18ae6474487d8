"""What every service's OpenAPI document says of refusals and of keys, without a framework."""

from typing import Any, Literal

from pydantic import BaseModel

PROBLEM = "application/problem+json"

TAKES_KEY: dict[str, Any] = {
    "parameters": [{
        "name": "Idempotency-Key", "in": "header", "required": False,
        "description": "Sent again with the same key, the request is done once and its answer given again.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    }]
}  # fmt: skip
"""What the OpenAPI document says of an operation that takes a key."""


class Problem(BaseModel):
    """What was refused and why (RFC 9457); `field` is the place of the input at fault, where there is one."""

    type: Literal["about:blank"]
    title: str
    status: int
    detail: str
    field: str | None = None


def _told(description: str) -> dict[str, Any]:
    return {"description": description, "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


# Named by class of status, these also take the place of the errors that FastAPI would tell of and that nobody sends.
REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": _told("Refused: `detail` says why"),
    "5XX": _told("Not done: something that this needs is away, or failed"),
}
