"""MLflow models of any flavour, through its pyfunc interface. The signature that was logged says their tensors.

Columns of one floating-point type become one matrix, as a row of a table is; others a tensor each.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import Asked, Told, Unreadable
from .wire import DATATYPES, Array, Tensors

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow.pyfunc  # pyright: ignore[reportMissingImports]
import pandas as pd  # pyright: ignore[reportMissingImports]

_OF_MLFLOW: dict[str, str] = {
    "boolean": "BOOL", "integer": "INT32", "long": "INT64", "float": "FP32", "double": "FP64", "string": "BYTES",
    "binary": "BYTES",
}  # fmt: skip
_OF_NUMPY: dict[str, str] = dict(
    zip(("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32",
         "float64"), DATATYPES, strict=True)
)  # fmt: skip


class MlflowModel:
    """A pyfunc with its signature."""

    def __init__(self, model: Any, asked: Asked) -> None:
        self._model = model
        signature = model.metadata.signature
        if signature is None or signature.inputs is None:
            raise Unreadable("the MLflow model has no signature: log it with one (infer_signature), or with an example")
        self._schema = signature.inputs
        self._names: list[str] | None = None if self._schema.is_tensor_spec() else self._schema.input_names()
        inputs = self._tensors() if self._schema.is_tensor_spec() else self._columns()
        self._matrix = self._names is not None and len(inputs) == 1 and len(inputs[0]["shape"]) == 2
        said = signature.outputs
        self._outputs = [str(name) for name in said.input_names()] if said and said.has_input_names() else []
        decision = asked.prediction or (self._outputs[0] if self._outputs else "prediction")
        self._single = decision
        self.told = Told(
            inputs=inputs, prediction=decision, score=asked.score, names=self._names if self._matrix else None,
            made_with=f"mlflow {model.metadata.mlflow_version}"[:100], params=_params(signature),
        )  # fmt: skip

    def predict(self, inputs: Tensors, params: Mapping[str, Any] | None = None) -> Tensors:
        """What the pyfunc answers, by the names of its outputs; MLflow takes the defaults of what is not set."""
        # A server elsewhere that MLflow wraps, and pyfuncs of before 2.6, know no params.
        said = self._model.predict(self._as_asked(inputs), **{"params": dict(params)} if params else {})
        return _by_name(said, self._single, self._outputs)

    def _as_asked(self, inputs: Tensors) -> Any:
        if self._names is None:
            return inputs if self._schema.has_input_names() else next(iter(inputs.values()))
        if self._matrix:
            (matrix,) = inputs.values()
            return pd.DataFrame(matrix, columns=self._names)
        return pd.DataFrame({name: _column(inputs[name], self._schema, name) for name in self._names})

    def _tensors(self) -> list[dict[str, Any]]:
        return [
            {"name": spec.name or "X", "datatype": _known(_OF_NUMPY, spec.type.name, spec.name), "shape": _rows(spec)}
            for spec in self._schema.inputs
        ]

    def _columns(self) -> list[dict[str, Any]]:
        names = self._names or []
        types = [
            _known(_OF_MLFLOW, getattr(kind, "name", type(kind).__name__), name)
            for name, kind in zip(names, self._schema.input_types(), strict=True)
        ]
        if len(set(types)) == 1 and types[0] in ("FP32", "FP64"):
            return [{"name": "X", "datatype": types[0], "shape": [-1, len(names)]}]
        return [{"name": name, "datatype": type, "shape": [-1]} for name, type in zip(names, types, strict=True)]


def open_model(folder: Path, file: str, asked: Asked) -> MlflowModel:
    """Load the folder that holds `MLmodel`. Raises Unreadable for a signature that V2 tensors cannot carry."""
    return MlflowModel(mlflow.pyfunc.load_model(str((folder / file).parent)), asked)


def _params(signature: Any) -> list[dict[str, Any]]:
    """What the signature lets requests set; signatures of before MLflow 2.6 have none."""
    said = getattr(signature, "params", None)
    return [_param(each) for each in said.to_dict()] if said else []


def _param(said: Mapping[str, Any]) -> dict[str, Any]:
    try:
        default = json.loads(json.dumps(said["default"], allow_nan=False, default=_plain))
    except (ValueError, TypeError, AttributeError):
        raise Unreadable(f"param {said['name']}: its default is nothing that JSON can say") from None
    return {"name": said["name"], "type": said["type"], "default": default, "shape": said.get("shape")}


def _plain(value: Any) -> Any:
    """Numbers of numpy's, and dates, as JSON has them."""
    return value.isoformat() if hasattr(value, "isoformat") else value.item()


def _known(types: Mapping[str, str], name: str, column: Any) -> str:
    if name.lower() not in types:
        raise Unreadable(f"column {column} is of type {name}, which no tensor datatype carries")
    return types[name.lower()]


def _rows(spec: Any) -> list[int]:
    shape = [int(size) for size in spec.shape]
    if not shape or shape[0] != -1:
        raise Unreadable(f"tensor {spec.name or 'X'} has shape {shape}: its first dimension must be -1, the rows")
    return shape


def _column(values: Array, schema: Any, name: str) -> Any:
    if values.dtype != object:
        return values.reshape(-1)
    binary = schema.input_dict()[name].type.name.lower() == "binary"
    return [each if binary else each.decode() for each in values.reshape(-1).tolist()]


def _by_name(said: Any, single: str, names: Sequence[str]) -> Tensors:
    if isinstance(said, pd.DataFrame):
        return {str(name): said[name].to_numpy() for name in said.columns}
    if isinstance(said, Mapping):
        return {str(name): np.asarray(values) for name, values in said.items()}
    if isinstance(said, tuple) and len(said) == len(names):
        return {name: np.asarray(values) for name, values in zip(names, said, strict=True)}
    values = np.asarray(said)
    # A network's single output comes as a column: one decision for each row.
    return {single: values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values}
