"""What stands in Kafka's headers: of a producer's request as it is read, of answers and log records as written."""

from dataclasses import dataclass
from datetime import datetime

from contracts import InferenceCompleted, InferenceLogged, InferenceRequested
from services.kit import cloudevents
from services.kit.context import Caller, Context
from services.kit.errors import Invalid
from services.kit.transaction_output import Headers

_LONGEST = 256
FAILED = b"inference.failed"
COMPLETED = InferenceCompleted.type().encode()
_REQUESTED = InferenceRequested.type().encode()


@dataclass(slots=True)
class Envelope:
    """Who asks, and in which story. Not frozen: that would double what making one costs, of each record."""

    id: str
    source: str
    correlation_id: str | None
    traceparent: str | None


def read(said: dict[str, bytes]) -> Envelope:
    """The envelope of a request. Raises Invalid where it is not a CloudEvent of the right type."""
    if said.get("ce_specversion") != b"1.0":
        raise Invalid("not a CloudEvent: the header ce_specversion must be 1.0", "ce_specversion")
    if said.get("ce_type") != _REQUESTED:
        raise Invalid("the header ce_type must be inference.requested", "ce_type")
    if schema := said.get("ce_dataschema"):
        cloudevents.check_version(InferenceRequested, schema.decode(errors="replace"))
    id, source = _text(said.get("ce_id")), _text(said.get("ce_source"))
    if id is None or source is None:
        name = "ce_id" if id is None else "ce_source"
        raise Invalid(f"not a CloudEvent: the header {name} is missing, too long or not printable text", name)
    parent = said.get("ce_traceparent") or said.get("traceparent")
    return Envelope(id, source, _text(said.get("ce_correlationid")), _text(parent))


def partly(said: dict[str, bytes]) -> Envelope | None:
    """What a refusal can be told under, where a record is no request of ours: its id, so that its producer knows it."""
    id, parent = _text(said.get("ce_id")), said.get("ce_traceparent") or said.get("traceparent")
    return None if id is None else Envelope(id, "", _text(said.get("ce_correlationid")), _text(parent))


def _text(raw: bytes | None) -> str | None:
    """Short printable text; None for anything else."""
    if not raw or len(raw) > _LONGEST:
        return None
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
        own: Headers = [("ce_type", type_), ("ce_id", id.encode()), ("ce_time", at), *self._answer]
        if envelope:
            own.append(("ce_requestid", envelope.id.encode()))
            if envelope.correlation_id or envelope.traceparent:
                own += _story(envelope)
        if inference_id:
            own.append(("ce_inferenceid", inference_id.encode()))
        return own

    def log(self, inference_id: bytes, at: bytes, correlation_id: bytes, parent: bytes, application: str) -> Headers:
        """Headers of `inference.logged`."""
        common = self._logs.get(application)
        if common is None:
            if len(self._logs) > 1024:
                self._logs.clear()
            skip = ("ce_id", "ce_time", "ce_correlationid", "ce_traceparent", "traceparent")
            common = self._logs[application] = self._common(InferenceLogged, application, skip)
        return [
            ("ce_id", inference_id), ("ce_time", at), ("ce_correlationid", correlation_id),
            ("ce_traceparent", parent), ("traceparent", parent), *common,
        ]  # fmt: skip

    def _common(
        self, kind: type[InferenceCompleted] | type[InferenceLogged], actor: str, skip: tuple[str, ...]
    ) -> Headers:
        story = Context(Caller(actor, "application"), "", "")
        made = cloudevents.headers(kind, "scorer", self._endpoint, story, self._unit, id="-")
        return [(name, value) for name, value in made if name not in skip and value]


def _story(envelope: Envelope) -> Headers:
    story: Headers = []
    if envelope.correlation_id:
        story.append(("ce_correlationid", envelope.correlation_id.encode()))
    if envelope.traceparent:
        parent = envelope.traceparent.encode()
        story += [("ce_traceparent", parent), ("traceparent", parent)]
    return story


def stamp(moment: datetime) -> bytes:
    """A time as headers hold it."""
    return moment.isoformat().encode()
