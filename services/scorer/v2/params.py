"""What a request sets of its model: MLflow's `params`, checked against what the model declares."""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
import orjson

from contracts import ParamSpec

from .errors import BadInput, called

_WHOLE = {"integer": 2**31, "long": 2**63}
_EXPECTED = {
    "boolean": "true or false", "integer": "a whole number of 32 bits", "long": "a whole number of 64 bits",
    "float": "a number", "double": "a number", "string": "a text", "datetime": "an ISO 8601 time as a text",
    "object": "an object",
}  # fmt: skip
_OF_REQUESTS = frozenset({
    "binary_data_output", "content_type", "correlation_id", "entity", "headers", "priority", "sequence_end",
    "sequence_id", "sequence_start", "timeout",
})  # fmt: skip
"""Parameters of a V2 request that are about the request: here, for MLServer and for Triton."""
_MOST_BYTES = 64 * 1024
"""They are part of each log record's head."""


class Params:
    """Compiled from a model's schema."""

    def __init__(self, specs: Sequence[ParamSpec]) -> None:
        self._specs = {spec.name: spec for spec in specs}

    def of_parameters(self, parameters: Mapping[str, Any]) -> bytes:
        """Of a V2 request's own `parameters`, as MLServer hands them to an MLflow model. Raises BadInput.

        A name that is about the request is never the model's here: `/invocations` keeps the two apart.
        """
        return self.of({name: value for name, value in parameters.items() if name not in _OF_REQUESTS})

    def of(self, params: Mapping[str, Any]) -> bytes:
        """As the model is asked and the log says them, a JSON object in the order of the names; empty where nothing is
        set. Raises BadInput naming one that is unknown or not of its type."""
        if not params:
            return b""
        for name, value in params.items():
            spec = self._specs.get(name)
            if spec is None:
                known = ", ".join(self._specs) or "none"
                raise BadInput(f"param {called(name)} is not one of this model: it takes {known}", name[:80])
            _check(spec, value)
        try:
            said = orjson.dumps(params, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError:
            raise BadInput("`params` are nested too deeply", "params") from None
        if len(said) > _MOST_BYTES:
            raise BadInput(f"`params` are larger than {_MOST_BYTES} bytes", "params")
        return said


def hidden(params: bytes, token: Callable[[str, object], str | None]) -> bytes:
    """With a token for each text: of a model with sensitive columns the log holds none that a caller wrote."""
    return orjson.dumps({name: _hidden(name, value, token) for name, value in orjson.loads(params).items()})


def _hidden(name: str, value: Any, token: Callable[[str, object], str | None]) -> Any:
    match value:
        case str():
            return token(name, value)
        case list():
            return [_hidden(name, each, token) for each in value]
        case dict():
            return token(name, orjson.dumps(value).decode())
        case _:
            return value


def _check(spec: ParamSpec, value: Any) -> None:
    """Raises BadInput. `null` is what MLflow takes for any type."""
    if spec.shape is None:
        if not _fits(spec.type, value):
            raise BadInput(f"param {called(spec.name)} is not {_EXPECTED[spec.type]}", spec.name)
        return
    if type(value) is not list:
        raise BadInput(f"param {called(spec.name)} is not a list", spec.name)
    for place, each in enumerate(value):
        if not _fits(spec.type, each):
            raise BadInput(f"param {called(spec.name)}, element {place} is not {_EXPECTED[spec.type]}", spec.name)


def _fits(kind: str, value: Any) -> bool:
    if value is None:
        return True
    match kind:
        case "boolean":
            return type(value) is bool
        case "integer" | "long":
            return type(value) is int and -_WHOLE[kind] <= value < _WHOLE[kind]
        case "float" | "double":
            return type(value) in (int, float) and isfinite(value)
        case "object":
            return type(value) is dict
        case "datetime":
            return type(value) is str and _is_time(value)
        case _:
            return type(value) is str


def _is_time(text: str) -> bool:
    """As MLflow reads it."""
    try:
        return not isinstance(np.datetime64(text).item(), (int, type(None)))
    except ValueError:
        return False
