"""CloudEvents 1.0 in Kafka's binary mode: `ce_*` headers around a JSON body."""

from datetime import datetime
from typing import Any
from uuid import UUID

from contracts import Envelope, Event, Service

from .context import Context
from .errors import Invalid
from .ids import now, uuid7

Headers = list[tuple[str, bytes]]
_REQUIRED = ("ce_id", "ce_source", "ce_type")
_DIGITS = 9
"""More of a version's number tell nothing more, and Python reads no number of thousands."""


def source(service: Service) -> str:
    return f"/fairlead/{service}"


def headers(
    event: type[Event],
    service: Service,
    subject: str,
    context: Context,
    unit: str,
    *,
    id: str | UUID | None = None,
    time: datetime | None = None,
) -> Headers:
    """The headers of one event; a new time-ordered id unless one is given."""
    values = {
        "ce_specversion": "1.0",
        "ce_id": str(id or uuid7()),
        "ce_source": source(service),
        "ce_type": event.type(),
        "ce_subject": subject,
        "ce_time": (time or now()).isoformat(),
        "ce_dataschema": event.schema_id(),
        "ce_unit": unit,
        "ce_actor": context.caller.actor,
        "ce_correlationid": context.correlation_id,
        "ce_traceparent": context.traceparent,
        "traceparent": context.traceparent,
        "content-type": "application/json",
    }
    return [(name, value.encode()) for name, value in values.items()]


def envelope(raw: Any) -> Envelope:
    """Read the headers of a record. Raises Invalid where they are not a CloudEvent's."""
    try:
        values = {name: value.decode() for name, value in raw}
    except UnicodeDecodeError:
        raise Invalid("a header is not UTF-8") from None
    missing = [name for name in _REQUIRED if not values.get(name)]
    if missing:
        raise Invalid(f"not a CloudEvent: no header {', '.join(missing)}")
    if values.get("ce_specversion", "1.0") != "1.0":
        raise Invalid(f"CloudEvents version {values['ce_specversion'][:20]} is not understood")
    try:
        time = datetime.fromisoformat(values["ce_time"]) if "ce_time" in values else now()
    except ValueError:
        raise Invalid("the header ce_time is not an ISO 8601 time") from None
    return Envelope(
        id=values["ce_id"], source=values["ce_source"], type=values["ce_type"],
        subject=values.get("ce_subject", ""), time=time, dataschema=values.get("ce_dataschema", ""),
        unit=values.get("ce_unit", "*"), actor=values.get("ce_actor", ""),
        correlation_id=values.get("ce_correlationid", ""),
        traceparent=values.get("ce_traceparent") or values.get("traceparent", ""),
    )  # fmt: skip


def major_of(dataschema: str) -> int | None:
    """The major version that a `ce_dataschema` names; None when it names none."""
    tail = dataschema.rpartition(":")[2]
    return int(tail[:_DIGITS]) if tail.isdecimal() else None


def check_version(event: type[Event], dataschema: str) -> None:
    """Raises Invalid where a `ce_dataschema` names another major version of an event than is understood here."""
    if (major := major_of(dataschema)) not in (None, event.major):
        raise Invalid(f"version {major} of {event.type()} is not understood here", "ce_dataschema")
