"""What a model looks like from outside: tensors, columns, format. Shared by the events that carry it."""

from operator import not_
from typing import Any, Literal

from pydantic import Field

from .base import Digest, Number, Value

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]
"""The tensor datatypes of the Open Inference Protocol V2."""

NUMPY_OF: dict[Datatype, str] = {
    "BOOL": "bool", "UINT8": "u1", "UINT16": "u2", "UINT32": "u4", "UINT64": "u8",
    "INT8": "i1", "INT16": "i2", "INT32": "i4", "INT64": "i8", "FP16": "f2", "FP32": "f4", "FP64": "f8", "BYTES": "O",
}  # fmt: skip
"""What numpy calls them; `BYTES` are objects."""

Format = Literal[
    "onnx", "sklearn", "xgboost", "lightgbm", "rules", "python", "mlflow", "river", "process", "external"
]  # fmt: skip
"""How the model is written: ONNX, skops, XGBoost's JSON or UBJSON, LightGBM's text, a table of rules in YAML and CEL;
a Python function, an MLflow model, a pickled river estimator; a program of any language, a server elsewhere. `onnx`
runs in process, `external` over an approved connection, all others in the sandbox, Python, MLflow and river always on
libraries of their own."""


class TensorSpec(Value):
    """One input or output tensor; -1 is the row dimension."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


class Column(Value):
    """One feature: the meaning of one column of the input matrix, or of an input tensor of one column."""

    name: str
    kind: Literal["numeric", "categorical"] = "numeric"
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[Number, ...] | tuple[str, ...] | None = None
    """The classes that are known: numbers, or texts where the model takes a text (`BYTES`)."""
    nullable: bool = False
    sensitive: bool = False
    """Tokenised before it reaches spool, topic or file."""
    protected: bool = False
    """A protected attribute: kept usable for fairness, classified apart."""
    segment: bool = Field(default=False, exclude_if=not_)
    """Figures of performance are told by its groups, too. Left out where it is False, so that what was signed before
    there was this member still is what was signed."""


ParamType = Literal["boolean", "integer", "long", "float", "double", "string", "datetime", "object"]
"""MLflow's, by its names; `datetime` is an ISO 8601 text, `object` a JSON object that the model itself looks into."""


class ParamSpec(Value):
    """A setting of a model that a request may give beside its rows: of an MLflow model, of its signature's `params`."""

    name: str
    type: ParamType
    default: Any
    """What the model takes where a request says nothing, as JSON has it."""
    shape: tuple[Literal[-1]] | None = None
    """None: one value; (-1,): a list of them."""


class ModelSchema(Value):
    """The tensors of a model and the columns that its single input matrix is made of."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    columns: tuple[Column, ...] = ()
    """The columns, in order, when the one input is a matrix [rows, columns]."""
    prediction: str
    """The output that carries the decision (class or value), which the monitor watches."""
    score: str | None = None
    """The output that carries class probabilities, if there is one."""
    params: tuple[ParamSpec, ...] = Field(default=(), exclude_if=not_)
    """What requests may set. Left out where there are none, so that what was signed before stays what it was."""


class Scan(Value):
    """What the security scan of an artifact found. Anything but `clean` and complete is refused by policy.

    `clean` says that nothing was found in what was looked at, and nothing of what was not.
    """

    verdict: Literal["clean", "suspicious", "malicious", "incomplete"]
    scanner: str
    findings: tuple[str, ...] = ()
    looked_at: tuple[str, ...] = ()
    """Files of the package, members of archives in it, and as what they were read; empty in versions of before."""
    not_looked_at: tuple[str, ...] = ()
    """Files that the scan cannot look into, and what they are."""


class Training(Value):
    """What is known about how a version was made."""

    rows: int | None = None
    data_digest: Digest | None = None
    metrics: dict[str, float] = {}
    retraining_id: str | None = None
    parent_version: int | None = None
