"""What KServe's inference logger sends: CloudEvents over HTTP, each half an inference, read by the schema.

The attributes are those of `pkg/logger` of KServe: the id is the same for both halves, the type says which half it is.
The body is what client or server sent: KServe's V1 (`instances`, `predictions`) or V2 as JSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import orjson

from contracts import DeploymentChanged, ModelSchema, TensorSpec, Variant
from services.kit.errors import Invalid

from ...logrecord import LogRecord, Origin, RecordBuilder
from ...mlflow import decode
from ...v2 import BadInput, Codec
from ...v2.document import parse_object
from ...v2.errors import called
from ..domain import response_of

Side = Literal["request", "response"]
SIDES: Mapping[str, Side] = {
    "org.kubeflow.serving.inference.request": "request", "org.kubeflow.serving.inference.response": "response",
}  # fmt: skip
_SHORTEST_ID, _LONGEST_ID = 8, 100
_OLDEST, _AHEAD = timedelta(days=30), timedelta(minutes=5)
_SLOWEST_MS = 24 * 3600 * 1000.0
_OF_MLSERVER = {"predict": "prediction", "predict_proba": "score"}
"""What MLServer calls its outputs, by what they are in a schema."""


@dataclass(frozen=True)
class Sent:
    """The attributes of an event."""

    id: str
    side: Side
    service: str
    """The InferenceService that answered."""
    at: datetime


@dataclass(frozen=True)
class Asked:
    """A request as the log has it: V2, sensitive columns as tokens."""

    rows: int
    body: bytes
    entity: str | None
    request_id: str | None

    def to_bytes(self) -> bytes:
        """As it is stored."""
        return orjson.dumps([self.rows, self.body.decode(), self.entity, self.request_id])

    @classmethod
    def from_bytes(cls, data: bytes) -> "Asked":
        """What `to_bytes` wrote."""
        rows, body, entity, request_id = orjson.loads(data)
        return cls(rows, body.encode(), entity, request_id)


def is_half(headers: Sequence[tuple[str, bytes | None]]) -> bool:
    """Whether a record of Kafka's is one of these events."""
    return any(name == "ce_type" and _text(value) in SIDES for name, value in headers)


def as_http(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    """The headers of a record of Kafka's in binary mode, as they are called over HTTP."""
    return {name.replace("ce_", "ce-", 1): _text(value) for name, value in headers}


def _text(value: bytes | None) -> str:
    """Of a header, which Kafka lets be null."""
    return (value or b"").decode(errors="replace")


def source_of(headers: Mapping[str, str]) -> str:
    """Who says so over the topic, by its own word: as a log and its readers can hold it."""
    said = headers.get("ce-source", "")[:200]
    return said if said and said.isprintable() else "kserve"


def attributes(headers: Mapping[str, str], now: datetime) -> Sent:
    """Of an event in binary mode, by its headers in small letters. Raises Invalid naming the header."""
    if (said := headers.get("ce-specversion")) != "1.0":
        raise Invalid(f"ce-specversion must be 1.0, it is {said!r}: send CloudEvents in binary mode", "ce-specversion")
    side = SIDES.get(headers.get("ce-type", ""))
    if side is None:
        raise Invalid(f"ce-type must be one of {', '.join(SIDES)}", "ce-type")
    id = headers.get("ce-id", "")
    if not (id.isascii() and id.isprintable() and _SHORTEST_ID <= len(id) <= _LONGEST_ID):
        raise Invalid(f"ce-id must have {_SHORTEST_ID} to {_LONGEST_ID} printable ASCII characters", "ce-id")
    return Sent(id, side, headers.get("ce-inferenceservicename", ""), _moment(headers.get("ce-time"), now))


def _moment(said: str | None, now: datetime) -> datetime:
    """When the half was seen there; when it came where that is not told."""
    if said is None:
        return now
    try:
        at = datetime.fromisoformat(said)
    except ValueError:
        raise Invalid("ce-time is not a time such as 2026-03-02T09:30:00Z", "ce-time") from None
    if at.tzinfo is None or not now - _OLDEST <= at <= now + _AHEAD:
        raise Invalid(f"ce-time must name its zone and be within the last {_OLDEST.days} days", "ce-time")
    return at.astimezone(UTC)


def variant_of(endpoint: DeploymentChanged, version: int | None) -> Variant:
    """The version that answered: the champion, unless it is named. Raises Invalid."""
    if version is None and endpoint.variants:
        return endpoint.variants[0]
    for variant in endpoint.variants:
        if variant.version == version:
            return variant
    raise Invalid(f"endpoint {endpoint.endpoint} does not serve version {version}", "version")


def request_half(body: bytes, codec: Codec, schema: ModelSchema) -> Asked:
    """A request of V1 or V2. Raises BadInput naming what does not fit the schema."""
    whole = parse_object(body)
    if _is_v2(whole):
        read = codec.decode(_dumped(whole | {"inputs": _renamed(whole["inputs"], schema)}))
    elif "instances" in whole:
        read = decode(_dumped({"instances": whole["instances"]}), "mlflow", codec, schema)
    else:
        raise BadInput("a request has `instances` (V1) or `inputs`, a list of tensors (V2)")
    if not read.rows:
        raise BadInput("the request has no rows", "request")
    return Asked(read.rows, read.logged, read.entity, read.id)


def _is_v2(whole: Mapping[str, Any]) -> bool:
    given = whole.get("inputs")
    return isinstance(given, list) and all(isinstance(each, dict) and "shape" in each for each in given)


def _renamed(inputs: list[dict[str, Any]], schema: ModelSchema) -> list[dict[str, Any]]:
    """Where there is one input only it is the model's, whatever a client called it and whichever numbers it took."""
    if len(inputs) != 1 or len(schema.inputs) != 1:
        return inputs
    spec = schema.inputs[0]
    return [{"name": spec.name, "datatype": spec.datatype} | {k: inputs[0][k] for k in ("shape", "data", "parameters")
                                                                if k in inputs[0]}]  # fmt: skip


def response_half(body: bytes, endpoint: str, version: int, schema: ModelSchema) -> tuple[bytes, int]:
    """The V2 response of the log, and its rows. Raises BadInput naming what does not fit the schema."""
    whole = parse_object(body)
    if isinstance(predictions := whole.get("predictions"), list):
        outputs = _of_predictions(predictions, schema)
    elif isinstance(outputs := whole.get("outputs"), list):
        outputs = [_of_output(each, schema, alone=len(outputs) == 1) for each in outputs]
    else:
        raise BadInput("a response has `predictions`, a list (V1), or `outputs`, a list of tensors (V2)")
    answered, rows = response_of(endpoint, version, {"outputs": outputs}, schema, None)
    if not rows:
        raise BadInput("the response has no rows", "response")
    return answered, rows


def _of_predictions(predictions: list[Any], schema: ModelSchema) -> list[dict[str, Any]]:
    """An element a row: the decision, or an object of all outputs by name."""
    specs = {spec.name: spec for spec in schema.outputs}
    if not predictions or not isinstance(predictions[0], dict):
        return [_tensor(specs[schema.prediction], predictions)]
    names = list(predictions[0])
    if any(not isinstance(row, dict) or row.keys() != predictions[0].keys() for row in predictions):
        raise BadInput("the rows of `predictions` do not name the same outputs", "predictions")
    if unknown := [name for name in names if name not in specs]:
        raise BadInput(f"`predictions` name {unknown[0][:80]!r}, which is no output of the model", "predictions")
    return [_tensor(specs[name], [row[name] for row in predictions]) for name in names]


def _tensor(spec: TensorSpec, rows: list[Any]) -> dict[str, Any]:
    shape, level = [len(rows)], rows[0] if rows else None
    while isinstance(level, list) and len(shape) < 8:
        shape.append(len(level))
        level = level[0] if level else None
    return _fitted(spec, shape, rows)


def _of_output(output: Any, schema: ModelSchema, *, alone: bool) -> dict[str, Any]:
    if not isinstance(output, dict) or not isinstance(output.get("shape"), list):
        raise BadInput("`outputs` must be a list of tensors", "response")
    specs = {spec.name: spec for spec in schema.outputs}
    name = output.get("name")
    if not isinstance(name, str | None):
        raise BadInput(f"output {called(name)}: `name` must be a text", "response")
    if name not in specs:
        role = "prediction" if alone else _OF_MLSERVER.get(name or "", "")
        name = getattr(schema, role, None) or name
    return _fitted(specs[name], output["shape"], output.get("data")) if name in specs else output


def _fitted(spec: TensorSpec, shape: list[Any], data: Any) -> dict[str, Any]:
    """As the schema has it: rows of one value each may be a column, and 1.0 a whole number."""
    if len(spec.shape) == 1 and len(shape) == 2 and shape[1] == 1:
        shape = shape[:1]
        if isinstance(data, list):
            data = [each[0] if isinstance(each, list) and len(each) == 1 else each for each in data]
    if len(spec.shape) == 2 and spec.shape[1] in (1, -1) and len(shape) == 1:
        shape = [*shape, 1]
    if "INT" in spec.datatype and isinstance(data, list):
        data = [int(each) if isinstance(each, float) and each.is_integer() else each for each in data]
    return {"name": spec.name, "datatype": spec.datatype, "shape": shape, "data": data}


def joined(
    endpoint: DeploymentChanged, variant: Variant, id: str, application: str, asked: Asked, answered: bytes, rows: int,
    asked_at: datetime, answered_at: datetime,
) -> LogRecord:  # fmt: skip
    """The record of both halves. Raises BadInput where they have not the same rows."""
    if asked.rows != rows:
        raise BadInput(f"the response has {rows} rows, the request of this id {asked.rows}", "response")
    latency_ms = min(max(0.0, (answered_at - asked_at).total_seconds() * 1000), _SLOWEST_MS)
    return RecordBuilder(Origin.of(endpoint, variant), endpoint.monitor.payload_sample).record(
        inference_id=id, mode="imported", application=application, received_at=asked_at, latency_ms=latency_ms,
        rows=rows, request=asked.body, response=answered, entity=asked.entity, request_id=asked.request_id,
    )  # fmt: skip


def _dumped(whole: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(whole)
    except orjson.JSONEncodeError as error:
        raise BadInput(f"it cannot be written as JSON: {str(error)[:100]}") from None
