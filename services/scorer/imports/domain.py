"""What a foreign runtime says it inferred, checked member by member, as our own log says it."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from pydantic import ValidationError

from contracts import DeploymentChanged, InferenceImported, ModelSchema, Variant
from services.kit.errors import Invalid
from services.kit.strict import refused

from ..logrecord import LogRecord, Origin, RecordBuilder
from ..v2 import BadInput, Codec
from ..v2.document import parameters_of, parse_object
from ..v2.errors import called
from ..v2.tensors import Place, from_json, read_shape

LARGEST_BYTES = 4 * 1024 * 1024
"""Of a record's value: a producer's compression may bring more than the broker's bound."""
_LONGEST_ID = 200
_LONGEST_NAME = 256
_OLDEST = timedelta(days=30)
"""As long as an outcome may still come."""
_AHEAD = timedelta(minutes=5)
"""What a producer's clock may be wrong by."""
_SLOWEST_MS = 24 * 3600 * 1000.0


def check_headers(said: Mapping[str, bytes]) -> None:
    """Raise Invalid where the headers are not those of an import in the version that is understood here."""
    expected = {"ce_specversion": b"1.0", "ce_type": InferenceImported.type().encode()}
    for name, value in expected.items():
        if said.get(name) != value:
            raise Invalid(f"the header {name} must be {value.decode()}", name)
    schema = InferenceImported.schema_id()
    if said.get("ce_dataschema", schema.encode()) != schema.encode():
        raise Invalid(f"the header ce_dataschema names another version than {schema}", "ce_dataschema")


def parse(value: bytes | None, now: datetime) -> InferenceImported:
    """The event. Raises Invalid naming the first member that is wrong."""
    if len(value or b"") > LARGEST_BYTES:
        raise Invalid(f"the record is larger than {LARGEST_BYTES} bytes")
    parse_object(value or b"")  # no duplicate keys, no NaN
    try:
        event = InferenceImported.model_validate_json(value or b"", strict=True)
    except ValidationError as error:
        raise refused(error.errors(include_url=False, include_input=False), root="the record") from None
    if not event.inference_id.isprintable() or not 8 <= len(event.inference_id) <= _LONGEST_ID:
        raise Invalid(f"inference_id must have 8 to {_LONGEST_ID} printable characters", "inference_id")
    for name, text in (("application", event.application), ("entity", event.entity)):
        if text is not None and not (text.isprintable() and 1 <= len(text) <= _LONGEST_NAME):
            raise Invalid(f"{name} must have 1 to {_LONGEST_NAME} printable characters", name)
    if not 0 <= event.latency_ms <= _SLOWEST_MS:
        raise Invalid(f"latency_ms must be from 0 to {_SLOWEST_MS:.0f}", "latency_ms")
    if event.received_at.tzinfo is None:
        raise Invalid("received_at must name its time zone", "received_at")
    if not now - _OLDEST <= event.received_at <= now + _AHEAD:
        raise Invalid(f"received_at must be within the last {_OLDEST.days} days and not in the future", "received_at")
    return event


def variant_of(
    event: InferenceImported, endpoint: DeploymentChanged | None, said: Mapping[str, bytes], units: Collection[str]
) -> Variant:  # fmt: skip
    """The version that answered, which the endpoint must serve. Raises Invalid.

    The business unit is the endpoint's; a record may only repeat it. It is one of `units`: Kafka does not tell who
    wrote a record, so the topic stands for those only whose applications may write it.
    """
    if endpoint is None or not endpoint.variants:
        raise Invalid(f"there is no endpoint {event.endpoint}", "endpoint")
    check_unit(endpoint, said, units)
    for variant in endpoint.variants:
        if (variant.model, variant.version) == (event.model, event.version):
            return variant
    raise Invalid(f"endpoint {event.endpoint} does not serve version {event.version} of {event.model}", "version")


def check_unit(endpoint: DeploymentChanged, said: Mapping[str, bytes], units: Collection[str]) -> None:
    """Raise Invalid where what comes over the topic is not for the endpoint's business unit."""
    name, unit = endpoint.endpoint, endpoint.unit
    if unit not in units:
        raise Invalid(f"endpoint {name} is of a business unit whose inferences are not imported", "endpoint")
    if said.get("ce_unit", unit.encode()) != unit.encode():
        raise Invalid(f"the header ce_unit is not the business unit of endpoint {name}", "ce_unit")


def log_record(
    event: InferenceImported, endpoint: DeploymentChanged, variant: Variant, codec: Codec
) -> LogRecord:  # fmt: skip
    """The record: request and response as the model's schema has them, sensitive columns as tokens. Raises Invalid."""
    origin = Origin(event.endpoint, endpoint.unit, endpoint.use_case, variant.model, variant.version, variant.name)
    try:
        asked = codec.decode(_dumped(event.request))
    except BadInput as refusal:
        raise Invalid(f"request: {refusal.message}", "request") from None
    try:
        response, _ = response_of(event.endpoint, event.version, event.response, variant.model_schema, asked.rows)
    except BadInput as refusal:
        raise Invalid(f"response: {refusal.message}", "response") from None
    return RecordBuilder(origin, endpoint.monitor.payload_sample).record(
        inference_id=event.inference_id, mode="imported", application=event.application,
        received_at=event.received_at.astimezone(UTC), latency_ms=event.latency_ms, rows=asked.rows,
        request=asked.logged, response=response, entity=event.entity or asked.entity, request_id=asked.id,
    )  # fmt: skip


def response_of(
    endpoint: str, version: int, response: Mapping[str, Any], schema: ModelSchema, rows: int | None
) -> tuple[bytes, int]:
    """The V2 response, of its checked members only, and its rows: the decision must be there, other outputs may be.

    `rows`: those of the request, where they are known. Raises BadInput.
    """
    outputs = response.get("outputs")
    if not isinstance(outputs, list):
        raise BadInput("`outputs` must be a list of tensors", "response")
    kept: dict[str, dict[str, Any]] = {}
    for output in outputs:
        tensor = _output(output, schema)
        if tensor["name"] in kept:
            raise BadInput(f"output {called(tensor['name'])} is there twice", "response")
        kept[tensor["name"]] = tensor
    if schema.prediction not in kept:
        raise BadInput(f"output {called(schema.prediction)}, which is the decision, is missing", "response")
    if rows is None:
        rows = int(next(iter(kept[schema.prediction]["shape"]), 1))
    for spec in schema.outputs:
        if spec.name in kept and spec.shape[:1] == (-1,) and (found := kept[spec.name]["shape"][0]) != rows:
            raise BadInput(f"output {called(spec.name)} has {found} rows, the request {rows}", "response")
    said = {"model_name": endpoint, "model_version": str(version), "outputs": list(kept.values())}
    return orjson.dumps(said), rows


def _output(output: object, schema: ModelSchema) -> dict[str, Any]:
    name = output.get("name") if isinstance(output, dict) else None
    spec = next((spec for spec in schema.outputs if spec.name == name), None)
    if spec is None or not isinstance(output, dict):
        raise BadInput(f"output {called(name)} is not one of {', '.join(s.name for s in schema.outputs)}", "response")
    if output.get("datatype") != spec.datatype:
        raise BadInput(f"output {called(name)} must have datatype {spec.datatype}", "response")
    shape = read_shape(spec, output.get("shape"))
    from_json(spec, shape, output.get("data"), Place(spec), nulls=spec.datatype.startswith("FP"), literals=True)
    kept = {"name": spec.name, "datatype": spec.datatype, "shape": list(shape)}
    parameters = parameters_of(output)
    return kept | ({"parameters": parameters} if parameters else {}) | {"data": output["data"]}


def _dumped(request: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(request)
    except orjson.JSONEncodeError as error:
        raise BadInput(f"it cannot be written as JSON: {str(error)[:100]}") from None
