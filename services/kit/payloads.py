"""What an `inference.logged` holds, as arrays: the features and the decisions of its rows."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from contracts import ModelSchema, PayloadReference

from . import plain
from .errors import Invalid
from .logged import Logged
from .objects import Objects
from .plain import PlainAnswer
from .stream import TooMuch
from .tables import Tables

Array = NDArray[Any]
Columns = dict[str, Array]

_PARQUET = "application/vnd.apache.parquet"
_ANSWERED = ("prediction", "score")


@dataclass(frozen=True)
class Decisions:
    """What the model said of each row."""

    prediction: Array
    score: Array | None
    """Of a classifier of two classes the probability of the second one, of more classes that of the likeliest."""


@dataclass(slots=True)
class Payload:
    """Request and response of one inference: plain numbers, other V2 JSON, or rows of a Parquet file."""

    rows: int
    request: bytes | Mapping[str, Any] | pa.Table
    response: PlainAnswer | Mapping[str, Any] | pa.Table
    bytes: int = 0
    """About how much memory it takes."""
    sampled: bool = True
    """Whether the log has it: where it has not, there is nothing to look into."""

    @classmethod
    def of(
        cls, rows: int, request: Mapping[str, Any] | pa.Table, response: Mapping[str, Any] | pa.Table, size: int,
        schema: ModelSchema | None,
    ) -> "Payload":  # fmt: skip
        """Of a document nothing is kept but its numbers, where it is plain by that schema."""
        asked = answered = None
        if schema is not None:
            asked = plain.matrix(request, rows, len(schema.columns)) if isinstance(request, dict) else None
            answered = plain.answer(response, rows, schema) if isinstance(response, dict) else None
        return cls(rows, request if asked is None else asked, response if answered is None else answered, size)


class Payloads:
    """Opens what records refer to, those in the object store too; `folder` is for copies of what is large."""

    AT_ONCE = 32 * 1024 * 1024
    """Bytes of payloads that one batch may hold in memory; they take a multiple of it while they are worked on."""

    def __init__(self, objects: Objects, folder: Path) -> None:
        self._objects = objects
        self._tables = Tables(objects, folder)

    def begin(self) -> "Opening":
        """For one batch."""
        return Opening(self)

    async def open(self, logged: Logged, schema: ModelSchema | None) -> Payload:
        """Of a file with rows, the columns of the schema; of one without a schema, how many rows there are.

        Raises Invalid, or NotFound for an object that is not there.
        """
        if payload := _inline(logged, schema):
            return payload
        body, rows = logged.body, int(logged.body["rows"])
        said, inputs = await self._resolve(body["request"], rows, _columns(schema))
        answered, outputs = await self._resolve(body["response"], rows, _ANSWERED)
        return Payload.of(rows, said, answered, len(logged.record.value or b"") + inputs + outputs, schema)

    async def _resolve(
        self, payload: Mapping[str, Any], rows: int, columns: Sequence[str]
    ) -> tuple[Mapping[str, Any] | pa.Table, int]:
        """What it refers to, or itself, and how many bytes that adds."""
        if "reference" not in payload:
            return payload, 0
        reference = PayloadReference.model_validate(payload["reference"])
        if reference.media_type == _PARQUET:
            if reference.rows != rows or reference.first_row < 0:
                raise Invalid(f"it refers to {reference.rows} rows where the record says {rows}", "reference")
            table = await self._tables.rows(reference.digest, columns, reference.first_row, rows)
            return table, table.nbytes
        data = await self._objects.get(reference.digest)
        if not isinstance(given := orjson.loads(data), Mapping):
            raise Invalid("what it refers to is no V2 request or response", "reference")
        return given, len(data)


class Opening:
    """The payloads of one batch, as long as memory should hold all of them."""

    def __init__(self, payloads: Payloads) -> None:
        self._payloads = payloads
        self._bytes = 0

    async def open(self, logged: Logged, schema: ModelSchema | None) -> Payload:
        """`Payloads.open`. Raises TooMuch where the batch holds as much as it should already."""
        payload = await self._payloads.open(logged, schema)
        if self._bytes and self._bytes + payload.bytes > self._payloads.AT_ONCE:
            raise TooMuch
        self._bytes += payload.bytes
        return payload


def _inline(logged: Logged, schema: ModelSchema | None) -> Payload | None:
    """What a record holds itself; None of one that refers to what is elsewhere. Raises Invalid."""
    body, size = logged.body, len(logged.record.value or b"")
    request, response, rows = body.get("request"), body.get("response"), int(body["rows"])
    if body.get("sampled") is False:
        return Payload(rows, {}, {}, size, sampled=False)
    if not isinstance(request, dict) or not isinstance(response, dict):
        raise Invalid("the record has no request or no response", "request")
    if "reference" in request or "reference" in response:
        return None
    return Payload.of(rows, request, response, size, schema)


def features(schema: ModelSchema, payloads: Sequence[Payload]) -> Columns:
    """The model's columns over all rows of all payloads, opened with this schema. Raises Invalid for one that does not
    fit it."""
    names, requests = [column.name for column in schema.columns], [payload.request for payload in payloads]
    matrices = [each for each in requests if isinstance(each, bytes)]
    if not names or len(matrices) < len(payloads):
        return _joined([_features(schema, payload) for payload in payloads])
    whole = plain.joined(matrices).reshape(-1, len(names))
    return {name: whole[:, place] for place, name in enumerate(names)}


def decisions(schema: ModelSchema, payloads: Sequence[Payload]) -> Decisions:
    """Prediction and score of all rows of all payloads, opened with this schema. Raises Invalid."""
    answers = [payload.response for payload in payloads if isinstance(payload.response, PlainAnswer)]
    if len(answers) == len(payloads) and len(plain.widths(answers, [payload.rows for payload in payloads])) == 1:
        return _plain_decisions(answers)
    found = [_decisions(schema, payload) for payload in payloads]
    scores = [each.score for each in found]
    return Decisions(
        joined([each.prediction for each in found]),
        np.concatenate([s for s in scores if s is not None]) if found and all(s is not None for s in scores) else None,
    )


def _plain_decisions(answers: Sequence[PlainAnswer]) -> Decisions:
    """Of answers with as many scores a row."""
    prediction = plain.joined([each.prediction for each in answers])
    return Decisions(prediction, _score(plain.joined([each.score for each in answers]), len(prediction)))


def _columns(schema: ModelSchema | None) -> list[str]:
    """By what names the columns of a file are the model's: it is fed from them."""
    return [each.name for each in schema.columns or schema.inputs] if schema else []


def _features(schema: ModelSchema, payload: Payload) -> Columns:
    if isinstance(payload.request, bytes):
        return features(schema, [payload])
    if not isinstance(payload.request, Mapping):
        return _of_table(payload.request, _columns(schema), payload.rows)
    tensors = _tensors(payload.request.get("inputs"))
    names = [column.name for column in schema.columns]
    if len(tensors) == 1 and names:
        values = next(iter(tensors.values()))
        if values.size == payload.rows * len(names):
            whole = values.reshape(payload.rows, len(names))
            return {name: whole[:, place] for place, name in enumerate(names)}
    found = {name: values.reshape(-1) for name, values in tensors.items() if values.size == payload.rows}
    if not found:
        raise Invalid(f"the request's tensors are not {payload.rows} rows of {len(names)} columns", "request")
    return {name: found[name] for name in names if name in found} if names else found


def _decisions(schema: ModelSchema, payload: Payload) -> Decisions:
    if isinstance(payload.response, PlainAnswer):
        return _plain_decisions([payload.response])
    if not isinstance(payload.response, Mapping):
        found = _of_table(payload.response, _ANSWERED, payload.rows)
        if "prediction" not in found:
            raise Invalid("the referred file has no column prediction", "response")
        return Decisions(found["prediction"], found.get("score"))
    tensors = _tensors(payload.response.get("outputs"))
    prediction = tensors.get(schema.prediction)
    if prediction is None or prediction.size != payload.rows:
        raise Invalid(f"the response has no output {schema.prediction} of {payload.rows} rows", "response")
    return Decisions(prediction.reshape(-1), _score(tensors.get(schema.score or ""), payload.rows))


def _score(values: Array | None, rows: int) -> Array | None:
    if values is None or values.dtype == object or values.size == 0 or values.size % rows:
        return None
    each = values.astype(np.float64).reshape(rows, -1)
    return each[:, -1] if each.shape[1] <= 2 else each.max(axis=1)


def _tensors(given: Any) -> dict[str, Array]:
    """By name. Texts stay what they are: `01` among the classes of a column or of a decision is no number."""
    if not isinstance(given, list):
        raise Invalid("the payload is no V2 request or response", "request")
    found: dict[str, Array] = {}
    for each in given:
        if isinstance(each, Mapping):
            found[str(each.get("name"))] = (_texts if plain.is_text(each) else _array)(each)
    return found


def _texts(tensor: Mapping[str, Any]) -> Array:
    """As they are; of bytes that were no text, which the log has as Base64, what a text keeps of them."""
    found = _objects(tensor.get("data"))
    parameters = tensor.get("parameters")
    if not isinstance(parameters, Mapping) or parameters.get("content_type") != "base64":
        return found
    try:
        found[:] = [base64.b64decode(each, validate=True).decode(errors="replace") for each in found.tolist()]
    except (ValueError, TypeError):
        raise Invalid(
            f"the tensor {str(tensor.get('name'))[:80]} is no Base64, which it says it is", "request"
        ) from None
    return found


def _array(tensor: Mapping[str, Any]) -> Array:
    """Numbers as float64, null as NaN; anything with a text in it as it is."""
    data = tensor.get("data")
    try:
        return np.array(data, np.float64)
    except (TypeError, ValueError):
        return _objects(data)


def _objects(data: Any) -> Array:
    flat = list(_flat(data))
    made = np.empty(len(flat), object)
    made[:] = flat
    return made


def _flat(data: Any) -> Iterable[Any]:
    if isinstance(data, list):
        for each in data:
            yield from _flat(each)
    else:
        yield data


def _of_table(table: pa.Table, names: Sequence[str], rows: int) -> Columns:
    if table.num_rows != rows:
        raise Invalid(f"the referred file has {table.num_rows} rows where the record says {rows}", "request")
    return {name: _of_column(table[name]) for name in names if name in table.column_names}


def _of_column(column: pa.ChunkedArray) -> Array:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if is_textual(column.type):
        made = np.empty(len(column), object)
        made[:] = [v.decode(errors="replace") if isinstance(v, bytes) else v for v in column.to_pylist()]
        return made
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def is_textual(kind: pa.DataType) -> bool:
    """Whether a column of a file holds texts, or the bytes of some."""
    is_one_of = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(each(kind) for each in is_one_of)


def _joined(parts: Sequence[Columns]) -> Columns:
    names = dict.fromkeys(chain.from_iterable(parts))
    rows = [len(next(iter(part.values()), ())) for part in parts]
    return {
        name: joined([p[name] if name in p else np.full(n, np.nan) for p, n in zip(parts, rows, strict=True)])
        for name in names
    }


def joined(arrays: Sequence[Array]) -> Array:
    """One array; of objects where any of them is."""
    if any(each.dtype == object for each in arrays):
        arrays = [each.astype(object) for each in arrays]
    return np.concatenate(arrays) if arrays else np.empty(0)
