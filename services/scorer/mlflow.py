"""MLflow's scoring protocol (`/invocations`): rows in four shapes, predictions out; logged as V2 like everything."""

import csv
import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import orjson

from contracts import Datatype, ModelSchema, number_in

from .runtimes import Arrays
from .v2 import NUMPY, BadInput, Codec, Request
from .v2.document import parse_object
from .v2.errors import called
from .v2.params import Params
from .v2.tensors import Array, textual, to_base64, to_json

Form = Literal["mlflow", "mlflow-csv"]

_SHAPES = ("dataframe_split", "dataframe_records", "instances", "inputs")
_SPLIT = ("columns", "data", "index")
"""As pandas writes it; an index says nothing of a row."""
_NUMBERS = (frozenset({int, float}), "a number")
_KINDS = {"BYTES": (frozenset({str}), "a text"), "BOOL": (frozenset({bool}), "true or false")}
"""Which values a column takes, and how they are called."""
_TRUTHS = {"true": True, "false": False}
_EXACT = 2**53
"""Below it a float is the whole number that was written."""


def form_of(content_type: bytes) -> Form:
    """How a body is written. Raises BadInput for what is neither JSON nor CSV."""
    match content_type.split(b";")[0].strip().lower():
        case b"application/json" | b"":
            return "mlflow"
        case b"text/csv":
            return "mlflow-csv"
        case other:
            said = called(other.decode("latin-1"))
            raise BadInput(f"send application/json or text/csv; {said} is not understood here")


def decode(body: bytes, form: Form, codec: Codec, schema: ModelSchema) -> Request:
    """Read a request. Raises BadInput naming the column."""
    return codec.request(_csv(body, codec, schema)) if form == "mlflow-csv" else _json(body, codec, schema)


def _json(body: bytes, codec: Codec, schema: ModelSchema) -> Request:
    whole = parse_object(body)
    params = whole.pop("params", None)
    given = [shape for shape in _SHAPES if shape in whole]
    if len(given) != 1:
        raise BadInput(f"the body must hold exactly one of {', '.join(_SHAPES)}")
    _refuse_others({name: value for name, value in whole.items() if name != given[0]})
    return codec.request(_READERS[given[0]](whole[given[0]], codec, schema), _set(params, codec.params))


def _set(params: Any, known: Params | None) -> bytes:
    """What MLflow's `params` set. Empty ones ask for nothing: its clients send them."""
    if params in (None, {}):
        return b""
    if type(params) is not dict:
        raise BadInput(f"`params` must be an object, and not {called(params)}", "params")
    if known is None:
        names = ", ".join(called(name) for name in list(params)[:10])
        raise BadInput(f"`params` ({names}) are not taken with a request: this version has none", "params")
    return known.of(params)


def _refuse_others(members: dict[str, Any]) -> None:
    """Whatever would be dropped in silence."""
    for name in members:
        raise BadInput(f"member {called(name)} is not one of MLflow's protocol: {', '.join(_SHAPES)}", name[:80])


def encode(outputs: Arrays, schema: ModelSchema) -> bytes:
    """`{"predictions": […]}`: the output that carries the decision, one element a row; bytes that are no text as
    Base64."""
    values = outputs[schema.prediction]
    if values.dtype == object and not textual(values):
        values = to_base64(values)
    if values.ndim > 1:
        return b'{"predictions":' + orjson.dumps(values.tolist(), default=bytes.decode) + b"}"
    return b'{"predictions":' + to_json(values) + b"}"


def _csv(body: bytes, codec: Codec, schema: ModelSchema) -> dict[str, Array]:
    """The first line names the columns; an empty cell, or another of `MISSING_CELLS`, is a missing value."""
    try:
        lines = [line for line in csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True) if line]
    except UnicodeDecodeError:
        raise BadInput("the CSV is not UTF-8 text") from None
    except csv.Error as error:
        raise BadInput(f"the CSV cannot be read: {error}") from None
    if not lines:
        raise BadInput("the CSV has no line with the names of its columns")
    names, *rows = lines
    if len(set(names)) != len(names):
        raise BadInput("the CSV names a column twice")
    for number, row in enumerate(rows):
        if len(row) != len(names):
            raise BadInput(f"row {number} of the CSV has {len(row)} values, its first line has {len(names)} names")
    kinds = dict.fromkeys(names, schema.inputs[0].datatype) if codec.matrix_name else {
        spec.name: spec.datatype for spec in schema.inputs
    }  # fmt: skip
    cells = zip(*rows, strict=True) if rows else ([] for _ in names)
    read = {name: [_cell(cell, kinds.get(name, "FP64")) for cell in column]
            for name, column in zip(names, cells, strict=True)}  # fmt: skip
    return _columns(read, codec, schema)


def _cell(text: str, datatype: str) -> object:
    """A cell as JSON would have it; what does not fit stays a text, and whoever reads the column says so."""
    if datatype == "BYTES":
        return text
    if datatype == "BOOL":
        return _TRUTHS.get(text.strip().lower(), text)
    try:
        number = number_in(text)
    except ValueError:
        return text
    # Writers of CSV put a column of integers with a gap in it down as 1.0.
    if "INT" in datatype and isinstance(number, float) and number.is_integer() and abs(number) < _EXACT:
        return int(number)
    return number


def _split(value: Any, codec: Codec, schema: ModelSchema) -> dict[str, Array]:
    columns, rows = (value.get("columns"), value.get("data")) if type(value) is dict else (None, None)
    if type(columns) is not list or type(rows) is not list or any(type(name) is not str for name in columns):
        raise BadInput("`dataframe_split` needs `columns`, a list of names, and `data`, a list of rows")
    if unknown := [name for name in value if name not in _SPLIT]:
        raise BadInput(f"`dataframe_split` has no member {called(unknown[0])}: it takes {', '.join(_SPLIT)}")
    for number, row in enumerate(rows):
        if type(row) is not list or len(row) != len(columns):
            raise BadInput(f"row {number} of `dataframe_split` has not {len(columns)} values")
    if len(set(columns)) != len(columns):
        raise BadInput("a column of `dataframe_split` is named twice")
    return _columns(dict(zip(columns, zip(*rows, strict=True), strict=True)) if rows else {}, codec, schema)


def _records(value: Any, codec: Codec, schema: ModelSchema) -> dict[str, Array]:
    if type(value) is not list or any(type(row) is not dict for row in value):
        raise BadInput("`dataframe_records` must be a list of objects")
    names = list(dict.fromkeys(name for row in value for name in row))
    return _columns({name: [row.get(name) for row in value] for name in names}, codec, schema)


def _instances(value: Any, codec: Codec, schema: ModelSchema) -> dict[str, Array]:
    if type(value) is list and value and type(value[0]) is dict:
        return _records(value, codec, schema)
    return _inputs(value, codec, schema)


def _inputs(value: Any, codec: Codec, schema: ModelSchema) -> dict[str, Array]:
    if type(value) is dict:
        if set(value) == {spec.name for spec in schema.inputs}:
            return {name: codec.tensor(name, data) for name, data in value.items()}
        return _columns(value, codec, schema)
    if len(schema.inputs) != 1:
        raise BadInput("this model has several inputs: send them by name")
    return {schema.inputs[0].name: codec.tensor(schema.inputs[0].name, value)}


def _columns(values: dict[str, Any], codec: Codec, schema: ModelSchema) -> dict[str, Array]:
    if codec.matrix_name is None:
        shapes = {spec.name: spec.shape for spec in schema.inputs}
        return {name: codec.tensor(name, _nested(column, shapes.get(name, ()))) for name, column in values.items()}
    known = {column.name: column.nullable for column in schema.columns}
    made: dict[str, Array] = {}
    for name, column in values.items():
        if name not in known:
            raise BadInput(f"column {called(name)} is not one of this model")
        made[name] = _values(name, column, schema.inputs[0].datatype, nullable=known[name])
    return {codec.matrix_name: codec.matrix(made)}


def _nested(column: Any, shape: tuple[int, ...]) -> Any:
    """A column of a table as its tensor has it: each value a row of its own where that is [rows, 1]."""
    if not isinstance(column, (list, tuple)):
        return column
    is_flat = len(shape) == 2 and shape[1] in (-1, 1) and not any(isinstance(value, list) for value in column)
    return [[value] for value in column] if is_flat else list(column)


def _values(name: str, values: Any, datatype: Datatype, *, nullable: bool) -> Array:
    """A column of a matrix; whole numbers as such where it takes no others, since a double holds not all of them."""
    if not isinstance(values, (list, tuple)):
        raise BadInput(f"column {called(name)} must be a list")
    kinds, wanted = _KINDS.get(datatype, _NUMBERS)
    for row, value in enumerate(values):
        if type(value) not in kinds and not (nullable and value is None and kinds is _NUMBERS[0]):
            found = "missing (null)" if value is None else f"not {wanted}"
            raise BadInput(f"column {called(name)}, row {row} is {found}", name)
    if datatype == "BYTES":
        return np.array([value.encode() for value in values], object)
    if datatype == "BOOL":
        return np.array(values, bool)
    return _whole(values) if "INT" in datatype and set(map(type, values)) == {int} else np.array(values, NUMPY["FP64"])


def _whole(values: Sequence[int]) -> Array:
    """With its sign or without, as 64 bits hold them all; else as doubles, of which a column takes none so large."""
    least, most = min(values), max(values)
    if least >= -(2**63) and most < 2**63:
        return np.array(values, NUMPY["INT64"])
    return np.array(values, NUMPY["UINT64" if least >= 0 and most < 2**64 else "FP64"])


_READERS = {"dataframe_split": _split, "dataframe_records": _records, "instances": _instances, "inputs": _inputs}
