"""What a foreign runtime says it inferred, as our own log says it."""

from datetime import UTC

import orjson
from pydantic import ValidationError

from contracts import DeploymentChanged, InferenceImported
from services.kit.errors import Invalid

from ..logrecord import LogRecord, Origin, RecordBuilder
from ..v2 import Codec

_LONGEST_ID = 200


def parse(value: bytes | None) -> InferenceImported:
    """The event. Raises Invalid naming the first member that is wrong."""
    try:
        event = InferenceImported.from_json(value or b"")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:80] for part in first["loc"]) or "the record"
        raise Invalid(f"{where}: {first['msg'][:300]}", where) from None
    if not event.inference_id.isprintable() or not 8 <= len(event.inference_id) <= _LONGEST_ID:
        raise Invalid(f"inference_id must have 8 to {_LONGEST_ID} printable characters", "inference_id")
    if event.received_at.tzinfo is None:
        raise Invalid("received_at must name its time zone", "received_at")
    return event


def log_record(event: InferenceImported, endpoint: DeploymentChanged, codec: Codec | None) -> LogRecord:
    """The record; `codec` tokenises where the endpoint has sensitive columns. Raises Invalid."""
    origin = Origin(
        event.endpoint, endpoint.unit, endpoint.use_case, event.model, event.version, endpoint.variants[0].name
    )  # fmt: skip
    request, rows = orjson.dumps(event.request), _rows(event.request)
    if codec is not None:
        request = codec.decode(request).logged
    return RecordBuilder(origin).record(
        inference_id=event.inference_id, mode="imported", application=event.application,
        received_at=event.received_at.astimezone(UTC), latency_ms=event.latency_ms, rows=rows, request=request,
        response=orjson.dumps(event.response), entity=event.entity, request_id=event.request.get("id"),
    )  # fmt: skip


def _rows(request: object) -> int:
    """Rows of a V2 request: the first dimension of its first input."""
    inputs = request.get("inputs") if isinstance(request, dict) else None
    first = inputs[0] if isinstance(inputs, list) and inputs else None
    shape = first.get("shape") if isinstance(first, dict) else None
    if not isinstance(shape, list) or not shape or type(shape[0]) is not int or shape[0] < 1:
        raise Invalid("request is no V2 request: inputs[0].shape must begin with the number of rows", "request")
    return shape[0]
