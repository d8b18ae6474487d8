"""Requests and answers of the servers that answer for models: V2, MLflow's, or JSON of the package's own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from .. import v2json
from ..v2json import Declared
from ..wire import Array, Tensors, WireError
from .spec import External

_ANYTHING = "*"


class Talk:
    """How one model is asked and understood."""

    def __init__(self, external: External, inputs: Declared, outputs: Declared, columns: Sequence[str]) -> None:
        self._external, self._inputs, self._outputs, self._columns = external, inputs, outputs, columns

    def request(self, tensors: Tensors) -> bytes:
        """The body. Raises WireError for BYTES that are no text."""
        match self._external.protocol:
            case "v2":
                return v2json.request("1", tensors, self._inputs, self._outputs)
            case "mlflow":
                body: Any = self._mlflow(tensors)
            case "template":
                body = self._filled(self._external.body, tensors)
        return orjson.dumps(body)

    def answer(self, body: bytes, rows: int) -> Tensors:
        """The declared outputs. Raises WireError saying what does not fit."""
        match self._external.protocol:
            case "v2":
                return v2json.response(body, None, self._outputs, rows)
            case "mlflow":
                said = v2json.document(body).get("predictions")
                return {spec["name"]: v2json.tensor(self._predicted(said, spec), spec, rows) for spec in self._outputs}
            case "template":
                found, answers = v2json.value(body), self._external.answers
                return {
                    spec["name"]: v2json.tensor(pointed(found, answers[spec["name"]]), spec, rows)
                    for spec in self._outputs
                }

    def _mlflow(self, tensors: Tensors) -> Any:
        if self._columns:
            return {"dataframe_split": {"columns": list(self._columns), "data": self._table(tensors)}}
        return {"inputs": {name: _plain(_nested(values, name)) for name, values in tensors.items()}}

    def _predicted(self, said: Any, spec: Any) -> Any:
        """A list by rows, each a value or values by name; or lists by name."""
        name = spec["name"]
        if isinstance(said, dict):
            return said.get(name)
        if isinstance(said, list) and said and isinstance(said[0], dict):
            return [each.get(name) if isinstance(each, dict) else None for each in said]
        return said if name == self._outputs[0]["name"] else None

    def _filled(self, body: Any, tensors: Tensors) -> Any:
        if isinstance(body, dict):
            return {key: self._filled(each, tensors) for key, each in body.items()}
        if isinstance(body, list):
            return [self._filled(each, tensors) for each in body]
        if not (isinstance(body, str) and body.startswith("{{") and body.endswith("}}")):
            return body
        name = body[2:-2].strip()
        if name in tensors:
            return _plain(_nested(tensors[name], name))
        return self._table(tensors) if name == "matrix" else self._rows(tensors)

    def _rows(self, tensors: Tensors) -> list[dict[str, Any]]:
        """Each row's values by column, or by tensor where there are no columns."""
        names = self._columns or list(tensors)
        return [dict(zip(names, row, strict=True)) for row in self._table(tensors, whole=not self._columns)]

    def _table(self, tensors: Tensors, *, whole: bool = False) -> list[list[Any]]:
        """Each row's values in order: of the one matrix, else of each tensor (`whole`: a matrix is one value too)."""
        if len(tensors) == 1 and not whole:
            (only,) = tensors.items()
            if only[1].ndim == 2:
                return _plain(_nested(only[1], only[0]))
        lists = [_each(tensors[name], name) for name in (self._columns if len(tensors) > 1 else ()) or tensors]
        return [list(row) for row in zip(*lists, strict=True)]


def pointed(said: Any, pointer: str) -> Any:
    """What a JSON pointer (RFC 6901) names, `*` standing for every element of a list. Raises WireError."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    return _pointed(said, parts, pointer)


def _pointed(said: Any, parts: list[str], pointer: str) -> Any:
    for place, part in enumerate(parts):
        if part == _ANYTHING and isinstance(said, list):
            return [_pointed(each, parts[place + 1 :], pointer) for each in said]
        if isinstance(said, list) and part.isdecimal() and int(part) < len(said):
            said = said[int(part)]
        elif isinstance(said, dict) and part in said:
            said = said[part]
        else:
            raise WireError(f"its answer has nothing at {pointer}")
    return said


def _each(values: Array, name: str) -> list[Any]:
    """A value for each row; a column of one is its value."""
    is_column = values.ndim == 2 and values.shape[1] == 1
    return _plain(_nested(values.reshape(-1) if is_column else values, name))


def _nested(values: Array, name: str) -> Any:
    """As JSON can carry them, in their shape."""
    said = v2json.flat(values, name)
    return (np.array(said, object) if isinstance(said, list) else said).reshape(values.shape)


def _plain(values: Array) -> list[Any]:
    """Lists of Python's own values; a missing number is None."""
    if values.dtype.kind != "f":
        return values.tolist()
    made = values.astype(object)
    made[np.isnan(values)] = None
    return made.tolist()
