"""What stands in Kafka's headers: a producer's request as it is read, our answers and log records as they are written."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from contracts import InferenceCompleted, InferenceLogged, InferenceRequested
from services.kit import cloudevents
from services.kit.context import Caller, Context
from services.kit.errors import Invalid
from services.kit.transactional import Headers

_LONGEST = 256
FAILED = b"inference.failed"
COMPLETED = InferenceCompleted.type().encode()
_REQUESTED = InferenceRequested.type().encode()


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who asks, and in which story."""

    id: str
    source: str
    correlation_id: str | None
    traceparent: str | None


def read(headers: Sequence[tuple[str, bytes]]) -> Envelope:
    """The envelope of a request. Raises Invalid where it is not a CloudEvent of the right type."""
    said = dict(headers)
    if said.get("ce_specversion") != b"1.0":
        raise Invalid("not a CloudEvent: the header ce_specversion must be 1.0", "ce_specversion")
    if said.get("ce_type") != _REQUESTED:
        raise Invalid("the header ce_type must be inference.requested", "ce_type")
    return Envelope(
        _text(said, "ce_id"), _text(said, "ce_source"), _optional(said, "ce_correlationid"),
        _optional(said, "ce_traceparent") or _optional(said, "traceparent"),
    )  # fmt: skip


def _text(said: dict[str, bytes], name: str) -> str:
    value = _optional(said, name)
    if value is None:
        raise Invalid(f"not a CloudEvent: the header {name} is missing, too long or not printable text", name)
    return value


def _optional(said: dict[str, bytes], name: str) -> str | None:
    raw = said.get(name)
    if not raw or len(raw) > _LONGEST:
        return None
    if raw.isascii():
        value = raw.decode()
    else:
        try:
            value = raw.decode()
        except UnicodeDecodeError:
            return None
    return value if value.isprintable() else None


class Stamps:
    """Makes the headers of one endpoint's answers and log records; what repeats is made once."""

    def __init__(self, endpoint: str, unit: str) -> None:
        self._endpoint = endpoint
        self._unit = unit
        self._answer = self._common(InferenceCompleted, "service:scorer", ("ce_type", "ce_id", "ce_time"))
        self._logs: dict[str, Headers] = {}

    def answer(self, type_: bytes, id: str, at: bytes, envelope: Envelope | None, inference_id: str | None) -> Headers:
        """Headers of a result; a repeat of one answer has one `ce_id`, so that readers know it."""
        own: Headers = [("ce_type", type_), ("ce_id", id.encode()), ("ce_time", at)]
        if envelope:
            own.append(("ce_requestid", envelope.id.encode()))
            own += _story(envelope, inference_id or id)
        if inference_id:
            own.append(("ce_inferenceid", inference_id.encode()))
        return own + self._answer

    def log(self, inference_id: str, at: bytes, correlation_id: str, traceparent: str, application: str) -> Headers:
        """Headers of `inference.logged`."""
        common = self._logs.get(application)
        if common is None:
            if len(self._logs) > 1024:
                self._logs.clear()
            skip = ("ce_id", "ce_time", "ce_correlationid", "ce_traceparent", "traceparent")
            common = self._logs[application] = self._common(InferenceLogged, application, skip)
        parent = traceparent.encode()
        return [
            ("ce_id", inference_id.encode()), ("ce_time", at), ("ce_correlationid", correlation_id.encode()),
            ("ce_traceparent", parent), ("traceparent", parent), *common,
        ]  # fmt: skip

    def _common(
        self, kind: type[InferenceCompleted] | type[InferenceLogged], actor: str, skip: tuple[str, ...]
    ) -> Headers:
        story = Context(Caller(actor, "application"), "", "")
        made = cloudevents.headers(kind, "scorer", self._endpoint, story, self._unit, id="-")
        return [(name, value) for name, value in made if name not in skip and value]


def _story(envelope: Envelope, otherwise: str) -> Headers:
    story: Headers = [("ce_correlationid", (envelope.correlation_id or otherwise).encode())]
    if envelope.traceparent:
        parent = envelope.traceparent.encode()
        story += [("ce_traceparent", parent), ("traceparent", parent)]
    return story


def stamp(moment: datetime) -> bytes:
    return moment.isoformat().encode()
