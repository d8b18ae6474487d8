"""What stands in Kafka's headers: of a producer's request as it is read, of answers and log records as written."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from contracts import InferenceCompleted, InferenceLogged, InferenceRequested
from services.kit import cloudevents
from services.kit.context import Caller, Context
from services.kit.errors import Invalid
from services.kit.recordbatch import OPEN, Header, block, length, pieces

_LONGEST = 256
_ID, _PARENT = 36, 55
"""Bytes of an inference id and of a trace context made from one."""
_ANSWERED = b".completed"
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
    id, source = _text(said.get("ce_id")), _source(said.get("ce_source"))
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


_source = lru_cache(1024)(_text)
"""Of many records one source: it is read once."""


class Stamps:
    """Makes the headers of one endpoint's answers and log records."""

    def __init__(self, endpoint: str, unit: str) -> None:
        self._endpoint = endpoint
        self._unit = unit
        self._answer = self._common(InferenceCompleted, "service:scorer", ("ce_type", "ce_id", "ce_time"))
        self._logs: dict[str, list[tuple[str, bytes]]] = {}

    def of(self, at: bytes) -> "Moment":
        """Those of one micro-batch."""
        return Moment(self, at)

    def answer(
        self, type_: bytes, id: bytes | int, at: bytes, story: Sequence[Header], inference_id: bytes | int | None
    ) -> list[Header]:  # fmt: skip
        """Of a result; a repeat of one answer has one `ce_id`, so that readers know it. Numbers are for `pieces`."""
        own = [("ce_type", type_), ("ce_id", id), ("ce_time", at), *self._answer, *story]
        return own if inference_id is None else [*own, ("ce_inferenceid", inference_id)]

    def log(
        self, id: bytes | int, at: bytes, correlation_id: bytes | int, parent: bytes | int, application: str
    ) -> list[Header]:  # fmt: skip
        """Of an `inference.logged`."""
        common = self._logs.get(application)
        if common is None:
            if len(self._logs) > 1024:
                self._logs.clear()
            skip = ("ce_id", "ce_time", "ce_correlationid", "ce_traceparent", "traceparent")
            common = self._logs[application] = self._common(InferenceLogged, application, skip)
        return [
            ("ce_id", id), ("ce_time", at), ("ce_correlationid", correlation_id), ("ce_traceparent", parent),
            ("traceparent", parent), *common,
        ]  # fmt: skip

    def _common(
        self, kind: type[InferenceCompleted] | type[InferenceLogged], actor: str, skip: tuple[str, ...]
    ) -> list[tuple[str, bytes]]:
        story = Context(Caller(actor, "application"), "", "")
        made = cloudevents.headers(kind, "scorer", self._endpoint, story, self._unit, id="-")
        return [(name, value) for name, value in made if name not in skip and value]


class Moment:
    """Blocks of headers of one micro-batch: what its records have in common is encoded once."""

    def __init__(self, stamps: Stamps, at: bytes) -> None:
        self._stamps = stamps
        self._at = at
        answer = stamps.answer(COMPLETED, _ID + len(_ANSWERED), at, [("ce_requestid", OPEN)], _ID)
        self._before, middle, self._after, _ = pieces(answer)
        self._middle = _ANSWERED + middle
        self._logs: dict[str, list[bytes]] = {}

    def answer(self, envelope: Envelope, inference_id: bytes) -> bytes:
        """Of an answer."""
        if envelope.correlation_id or envelope.traceparent:
            id = inference_id + _ANSWERED
            return block(self._stamps.answer(COMPLETED, id, self._at, _story(envelope), inference_id))
        id = envelope.id.encode()
        return b"".join((self._before, inference_id, self._middle, length(id), id, self._after, inference_id))

    def failure(self, id: bytes, envelope: Envelope | None, inference_id: bytes | None) -> bytes:
        """Of a refusal, as far as its record says who asks."""
        story = [] if envelope is None else _story(envelope)
        return block(self._stamps.answer(FAILED, id, self._at, story, inference_id))

    def log(self, inference_id: bytes, correlation_id: bytes, parent: bytes, application: str) -> bytes:
        """Of a log record."""
        return block(self._stamps.log(inference_id, self._at, correlation_id, parent, application))

    def first(self, inference_id: bytes, parent: bytes, application: str) -> bytes:
        """The same of an inference that begins its story: `parent` is `traceparent_of` it."""
        if application not in self._logs:
            self._logs[application] = pieces(self._stamps.log(_ID, self._at, _ID, _PARENT, application))
        one, two, three, four, rest = self._logs[application]
        return b"".join((one, inference_id, two, inference_id, three, parent, four, parent, rest))


def _story(envelope: Envelope) -> list[tuple[str, bytes]]:
    story = [("ce_requestid", envelope.id.encode())]
    if envelope.correlation_id:
        story.append(("ce_correlationid", envelope.correlation_id.encode()))
    if envelope.traceparent:
        parent = envelope.traceparent.encode()
        story += [("ce_traceparent", parent), ("traceparent", parent)]
    return story


def stamp(moment: datetime) -> bytes:
    """A time as headers hold it."""
    return moment.isoformat().encode()
