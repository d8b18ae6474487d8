"""One endpoint's requests to arrays and its outputs to responses, and both to what the log keeps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import orjson

from contracts import ModelSchema, TensorSpec
from services.kit.models.feeding import matrix_of

from .document import Document, Wanted, name_in, parse, seconds_in, wanted_of
from .errors import BadInput, called
from .matrix import Matrix
from .params import Params, hidden
from .quick import Quick
from .reading import Reading
from .tail import split
from .tensors import (
    NUMPY,
    Array,
    Place,
    from_json,
    read_shape,
    textual,
    to_base64,
    to_binary,
    to_json,
)

Token = Callable[[str, object], str | None]
_OWN = frozenset({"binary_data_output"})
_NAMES = frozenset({"entity", "correlation_id"})


@dataclass(slots=True)
class Request:
    """A request that fits the model."""

    arrays: dict[str, Array]
    rows: int
    logged: bytes
    """V2 JSON for the log: the caller's bytes, or the tensors written anew with their sensitive columns as tokens."""
    id: str | None = None
    entity: str | None = None
    correlation_id: str | None = None
    wanted: tuple[Wanted, ...] | None = None
    """None: every output, as JSON."""
    timeout_s: float | None = None
    """How long its caller waits, where it says so."""
    params: bytes = b""
    """What it sets of the model: a JSON object, or nothing."""


@dataclass(slots=True)
class Encoded:
    """A response on the wire, and as the log keeps it: there with every output, since monitors read them all."""

    body: bytes
    json_length: int | None
    """Set where binary tensors follow the JSON part."""
    logged: bytes


class Codec:
    """Compiled from a model's schema; stateless, so requests may be read in any order."""

    def __init__(self, schema: ModelSchema, model_name: str, model_version: str, variant: str, token: Token) -> None:
        self._inputs = {spec.name: spec for spec in schema.inputs}
        self._outputs = {spec.name: spec for spec in schema.outputs}
        self._token = token
        self.params = Params(schema.params) if schema.params else None
        """What requests may set; None of a model that declares nothing."""
        self._columns = schema.columns
        self._matrix = matrix_of(schema)
        if self._matrix:
            self._inputs[self._matrix.name] = self._matrix
        self._assembly = Matrix(self._matrix, schema.columns) if self._matrix else None
        names = [column.name for column in schema.columns]
        self._places = {s.name: Place(s, names if s is self._matrix else ()) for s in self._inputs.values()}
        self._tensor_columns = {c.name: c for c in schema.columns if self._matrix is None}
        self._refuse_unplaced_secrets()
        self._nullable = np.array([c.nullable for c in schema.columns], bool)
        self._nulls = {s.name: s.datatype.startswith("FP") and self._may_be_null(s) for s in self._inputs.values()}
        self.sensitive = any(column.sensitive for column in schema.columns)
        self._quick = Quick(self._inputs[schema.inputs[0].name]) if self._plain(schema) else None
        said = {"model_name": model_name, "model_version": model_version}
        self._head = orjson.dumps(said)[:-1]
        self._parameters = b',"parameters":{"variant":' + orjson.dumps(variant) + b',"inference_id":"'
        self._parts = [(spec.name, _prefix(spec)) for spec in schema.outputs]

    def _plain(self, schema: ModelSchema) -> bool:
        """Whether most requests can be read the quick way: a matrix of floats, nothing to hide."""
        matrix = self._matrix or (schema.inputs[0] if len(schema.inputs) == 1 else None)
        if matrix is None or self.sensitive or schema.params or matrix.datatype not in ("FP32", "FP64"):
            return False
        return len(matrix.shape) == 2 and matrix.shape[0] == -1 and matrix.shape[1] > 0

    def _refuse_unplaced_secrets(self) -> None:
        """A sensitive column that no tensor carries could not be tokenised: such a schema does not serve."""
        for name, column in self._tensor_columns.items():
            if column.sensitive and name not in self._inputs:
                raise BadInput(f"column {called(name)} is sensitive, but no input tensor is known to carry it", name)

    # Requests

    def decode(self, body: bytes, json_length: int | None = None) -> Request:
        """Read a request; `json_length` is the header of the binary extension. Raises BadInput."""
        if self._quick is not None and json_length is None and (read := self._quick.read(body)):
            values, rows, id, entity, correlation_id = read
            return Request({self._quick.name: values}, rows, body, id, entity, correlation_id)
        raw, tail = split(body, json_length)
        document = parse(raw)
        arrays, plain = self._arrays(document, tail)
        rows = self._rows(arrays)
        request = Request(arrays, rows, raw, document.id, wanted=wanted_of(document, self._outputs))
        if document.parameters:
            request.entity = name_in(document.parameters, "entity")
            request.correlation_id = name_in(document.parameters, "correlation_id")
            request.timeout_s = seconds_in(document.parameters, "timeout")
            if self.params is not None:
                request.params = self.params.of_parameters(document.parameters)
        if not plain or not document.plain or self.sensitive:
            request.logged = self.describe(arrays, document.id, document.parameters)
        return request

    def request(self, arrays: dict[str, Array], params: bytes = b"") -> Request:
        """A request out of arrays that another protocol brought."""
        self._complete(arrays)
        return Request(arrays, self._rows(arrays), self.describe(arrays, None, {}), params=params)

    def told(self, params: bytes) -> bytes:
        """A request's params as the log may have them."""
        return hidden(params, self._token) if self.sensitive else params

    def tensor(self, name: str, data: object) -> Array:
        """An input out of nested lists, its shape as they are nested. Raises BadInput."""
        spec = self._inputs.get(name)
        if spec is None:
            raise BadInput(f"tensor {called(name)} is not an input of this model: {self._takes()}", "inputs")
        shape: list[int] = []
        level = data
        while type(level) is list and len(shape) < len(spec.shape):
            shape.append(len(level))
            level = level[0] if level else None
        values = from_json(
            spec, read_shape(spec, shape), data, self._places[name], nulls=self._nulls[name], literals=True
        )  # fmt: skip
        self._refuse_missing(spec, values)
        return values

    @property
    def matrix_name(self) -> str | None:
        """The one input whose columns the schema names."""
        return self._matrix.name if self._matrix else None

    def describe(self, arrays: Mapping[str, Array], id: str | None, parameters: Mapping[str, Any]) -> bytes:
        """A request written anew for the log: one JSON tensor per input, sensitive columns as tokens."""
        tensors = b",".join(self._tensor(self._inputs[name], values) for name, values in arrays.items())
        kept = {name: value for name, value in parameters.items() if name not in _OWN and self._may_be_told(name)}
        head = b"{" if id is None else b'{"id":' + orjson.dumps(id) + b","
        tail = b"]}" if not kept else b'],"parameters":' + orjson.dumps(kept) + b"}"
        return head + b'"inputs":[' + tensors + tail

    def _may_be_told(self, parameter: str) -> bool:
        """What a caller adds of its own may repeat what a sensitive column says."""
        return not self.sensitive or parameter in _NAMES

    def _arrays(self, document: Document, tail: memoryview | None) -> tuple[dict[str, Array], bool]:
        """The model's inputs, and whether the request's own bytes say them in the model's terms."""
        names = [one.get("name") for one in document.inputs]
        reading = Reading(document.literals, tail)
        if self._matrix and self._assembly and self._matrix.name not in names:
            values = self._assembly.assembled(document.inputs, reading, self._takes())
            self._refuse_missing(self._matrix, values)
            return {self._matrix.name: values}, False
        arrays: dict[str, Array] = {}
        for one, name in zip(document.inputs, names, strict=True):
            spec = self._inputs.get(name) if type(name) is str else None
            if spec is None:
                raise BadInput(f"tensor {called(name)} is not an input of this model: {self._takes()}", "inputs")
            if name in arrays:
                raise BadInput(f"tensor {called(name)} is there twice", spec.name)
            values = reading.input(spec, one, self._places[spec.name], nulls=self._nulls[spec.name])
            self._refuse_missing(spec, values)
            arrays[spec.name] = values
        whole = self._complete(arrays)
        reading.end()
        return arrays, whole and reading.plain

    def _refuse_missing(self, spec: TensorSpec, values: Array) -> None:
        """NaN stands for a missing value: only a nullable column may have it. Infinity is no value at all."""
        if values.dtype.kind != "f" or values.size == 0 or np.isfinite(values).all():
            return
        flat = values.reshape(-1)
        if np.isinf(flat).any():
            raise BadInput(f"{self._places[spec.name].at(int(np.argmax(np.isinf(flat))))} is infinite", spec.name)
        missing = np.isnan(flat)
        if spec is self._matrix:
            missing &= ~np.resize(self._nullable, flat.size)
        elif (column := self._tensor_columns.get(spec.name)) and column.nullable:
            return
        if missing.any():
            raise BadInput(f"{self._places[spec.name].at(int(np.argmax(missing)))} is missing", spec.name)

    def _may_be_null(self, spec: TensorSpec) -> bool:
        if spec is self._matrix:
            return bool(self._nullable.any())
        return bool((column := self._tensor_columns.get(spec.name)) and column.nullable)

    def _complete(self, arrays: dict[str, Array]) -> bool:
        """Whether all inputs were given; an input of one nullable column is missing in every row where it was not."""
        absent = [name for name in self._inputs if name not in arrays]
        rows = next((len(v) for name, v in arrays.items() if self._inputs[name].shape[:1] == (-1,)), None)
        for name in absent:
            spec = self._inputs[name]
            width = prod(1 if size == -1 else size for size in spec.shape[1:])
            if rows is None or not self._nulls[name] or spec.shape[:1] != (-1,) or width != 1:
                raise BadInput(f"tensor {called(name)} is missing: {self._takes()}", name)
            arrays[name] = np.full((rows, *[1] * (len(spec.shape) - 1)), np.nan, NUMPY[spec.datatype])
        return not absent

    def matrix(self, given: Mapping[str, Array]) -> Array:
        """The model's matrix of named columns of equal length. Raises BadInput naming the column."""
        assert self._matrix is not None and self._assembly is not None
        made = self._assembly.of(given)
        self._refuse_missing(self._matrix, made)
        return made

    def _rows(self, arrays: dict[str, Array]) -> int:
        rows: int | None = None
        for name, values in arrays.items():
            if self._inputs[name].shape[:1] != (-1,):
                continue
            if rows is not None and rows != len(values):
                raise BadInput(f"tensor {called(name)} has {len(values)} rows, others {rows}", name)
            rows = len(values)
        if rows == 0:
            raise BadInput("the request has no rows", "inputs")
        return 1 if rows is None else rows

    def _takes(self) -> str:
        names = [*self._inputs, *(column.name for column in self._columns if self._matrix)]
        return "it takes " + ", ".join(names[:20])

    def _tensor(self, spec: TensorSpec, values: Array) -> bytes:
        column = self._tensor_columns.get(spec.name)
        if spec is self._matrix and self.sensitive:
            told = self._tokenised_matrix(values)
            if values.dtype == object:  # what is no text among the others is base64, tokens with it
                return _part(_prefix(spec), told)
            data = orjson.dumps(told.reshape(-1).tolist())
        elif column and column.sensitive:
            data = orjson.dumps([self._token(column.name, value) for value in values.reshape(-1).tolist()])
        else:
            return _part(_prefix(spec), values)
        return _prefix(spec) + _shape(values.shape) + b',"data":' + data + b"}"

    def _tokenised_matrix(self, values: Array) -> Array:
        told = values.astype(object)
        for position, column in enumerate(self._columns):
            if column.sensitive:
                told[:, position] = [self._token(column.name, value) for value in values[:, position].tolist()]
        return told

    # Responses

    def encode(self, request: Request, outputs: Mapping[str, Array], inference_id: str) -> Encoded:
        """The response to a request."""
        head = self._head if request.id is None else b'%b,"id":%b' % (self._head, orjson.dumps(request.id))
        head = b'%b%b%b"},"outputs":[' % (head, self._parameters, inference_id.encode())
        parts = [_part(prefix, outputs[name]) for name, prefix in self._parts]
        logged = b"%b%b]}" % (head, b",".join(parts))
        if request.wanted is None:
            return Encoded(logged, None, logged)
        said = {name: part for (name, _), part in zip(self._parts, parts, strict=True)}
        return self._selected(request.wanted, head, said, outputs, logged)

    def _selected(
        self, wanted: tuple[Wanted, ...], head: bytes, parts: dict[str, bytes], outputs: Mapping[str, Array],
        logged: bytes,
    ) -> Encoded:  # fmt: skip
        said: list[bytes] = []
        tails: list[bytes] = []
        for one in wanted:
            if not one.binary:
                said.append(parts[one.name])
                continue
            tails.append(to_binary(outputs[one.name], self._outputs[one.name].datatype))
            size = b',"parameters":{"binary_data_size":%d}}' % len(tails[-1])
            said.append(_prefix(self._outputs[one.name]) + _shape(outputs[one.name].shape) + size)
        json = head + b",".join(said) + b"]}"
        return Encoded(b"".join((json, *tails)), len(json) if tails else None, logged)


def _prefix(spec: TensorSpec) -> bytes:
    return orjson.dumps({"name": spec.name, "datatype": spec.datatype})[:-1] + b',"shape":'


def _part(prefix: bytes, values: Array) -> bytes:
    """A tensor as JSON; BYTES that are no text as base64, and it says so."""
    note = b""
    if values.dtype == object and not textual(values):
        values, note = to_base64(values), b',"parameters":{"content_type":"base64"}'
    return b'%b%b%b,"data":%b}' % (prefix, _shape(values.shape), note, to_json(values))


def _shape(shape: tuple[int, ...]) -> bytes:
    if len(shape) == 1:
        return b"[%d]" % shape
    return b"[%d,%d]" % shape if len(shape) == 2 else orjson.dumps(shape)
