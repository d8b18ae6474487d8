"""One inference as `inference.logged`, in bytes: the request's and the response's JSON are reused, not written anew."""

import struct
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol
from zlib import crc32

import orjson

from contracts import DeploymentChanged, InferenceLogged, Mode, PayloadReference, Variant
from services.kit.cloudevents import Headers, headers
from services.kit.context import Caller, Context

INLINE_LIMIT = 512 * 1024
"""Bytes of request and response that a record carries itself; beyond, they go to the object store by digest."""

_PARTS = struct.Struct("<HHII")


class Store(Protocol):
    """Where large payloads go."""

    async def put(self, data: bytes) -> str:
        """Keep bytes; answers their digest."""
        ...


@dataclass(frozen=True, slots=True)
class Origin:
    """Which version of which endpoint answers: what all its records have in common."""

    endpoint: str
    unit: str
    use_case: str
    model: str
    version: int
    variant: str

    @classmethod
    def of(cls, change: DeploymentChanged, variant: Variant) -> "Origin":
        """Of a version in the state of an endpoint."""
        return cls(change.endpoint, change.unit, change.use_case, variant.model, variant.version, variant.name)

    def json(self) -> bytes:
        """Its members as JSON, without the braces."""
        names = ("endpoint", "unit", "use_case", "model", "version", "variant")
        return orjson.dumps({name: getattr(self, name) for name in names})[1:-1]


@dataclass(slots=True)
class LogRecord:
    """A record before it has a writer and a number."""

    inference_id: str
    head: bytes
    """A JSON object, still open, of everything but the payloads, writer and seq."""
    request: bytes
    response: bytes
    correlation_id: str
    traceparent: str

    def say(self, name: str, value: str | bool | orjson.Fragment | dict[str, Any]) -> None:
        """One member more."""
        self.add(name, orjson.dumps(value))

    def add(self, name: str, json: bytes) -> None:
        """The same of a value that is JSON already."""
        self.head += b',"%b":%b' % (name.encode(), json)

    def value(self, writer: str, seq: int) -> bytes:
        """The data of the event."""
        tail = b',"writer":"%b","seq":%d}' % (writer.encode(), seq)
        return b"".join((self.head, b',"request":', self.request, b',"response":', self.response, tail))

    @property
    def sampled(self) -> bool:
        """Whether it keeps its payloads."""
        return self.request != b"{}" or self.response != b"{}"

    def described(self) -> dict[str, Any]:
        """The small members: endpoint, unit, application, rows and so on."""
        return orjson.loads(self.head + b"}")

    def to_spool(self) -> bytes:
        """One spool payload; `from_spool` reads it."""
        story = f"{self.correlation_id}\n{self.traceparent}".encode()
        sizes = _PARTS.pack(len(story), len(self.inference_id), len(self.head), len(self.request))
        return b"".join((sizes, story, self.inference_id.encode(), self.head, self.request, self.response))

    @classmethod
    def from_spool(cls, data: bytes) -> "LogRecord":
        """What `to_spool` wrote."""
        story, inference_id, head, request = _PARTS.unpack_from(data)
        at = [_PARTS.size]
        for size in (story, inference_id, head, request):
            at.append(at[-1] + size)
        correlation_id, _, traceparent = data[at[0] : at[1]].decode().partition("\n")
        return cls(
            data[at[1] : at[2]].decode(), data[at[2] : at[3]], data[at[3] : at[4]], data[at[4] :],
            correlation_id, traceparent,
        )  # fmt: skip


class RecordBuilder:
    """Makes the records of one version behind one endpoint."""

    def __init__(self, origin: Origin, payload_sample: float = 1.0) -> None:
        self.payload_sample = payload_sample
        """The share of records that have their payloads."""
        # Names are of [a-z0-9-] and versions numbers: nothing in them looks like a place to fill in.
        self._template = (
            b'{"inference_id":"%b",' + origin.json() + b',"mode":"%b","application":%b,"entity":%b,"request_id":%b,'
            b'"received_at":"%b","latency_ms":%.3f,"rows":%d'
        )
        self._quoted: dict[str, bytes] = {}

    def record(
        self,
        *,
        inference_id: str,
        mode: Mode,
        application: str,
        received_at: datetime,
        latency_ms: float,
        rows: int,
        request: bytes,
        response: bytes,
        entity: str | None = None,
        request_id: str | None = None,
        correlation_id: str | None = None,
        traceparent: str | None = None,
        drawn_by: str | None = None,
    ) -> LogRecord:
        """A record; without a story of the caller's the inference begins its own. Whether it keeps its payloads is
        drawn by its own id, or by that of the inference whose shadow it is: both are kept or neither."""
        head = self._template % (
            inference_id.encode(), mode.encode(), self._quote(application),
            b"null" if entity is None else orjson.dumps(entity),
            b"null" if request_id is None else orjson.dumps(request_id),
            received_at.isoformat().encode(), latency_ms, rows,
        )  # fmt: skip
        made = LogRecord(
            inference_id, head, request, response, correlation_id or inference_id,
            traceparent or traceparent_of(inference_id),
        )  # fmt: skip
        return made if self.payload_sample >= 1.0 else self.sampled(made, drawn_by)

    def sampled(self, record: LogRecord, drawn_by: str | None = None) -> LogRecord:
        """The record, its payloads left out where it is not of the share that has them: the id tells, so a repeat is
        what it was."""
        if crc32((drawn_by or record.inference_id).encode()) < self.payload_sample * 2**32:
            return record
        return replace(record, head=record.head + b',"sampled":false', request=b"{}", response=b"{}")

    def _quote(self, application: str) -> bytes:
        """The caller's name as JSON; there are few callers and many inferences."""
        quoted = self._quoted.get(application)
        if quoted is None:
            if len(self._quoted) > 1024:
                self._quoted.clear()
            quoted = self._quoted[application] = orjson.dumps(application)
        return quoted


def traceparent_of(inference_id: str) -> str:
    """A W3C trace context that begins with this inference: the id's own bits are the trace id."""
    digits = inference_id.replace("-", "")
    return f"00-{digits}-{digits[16:]}-01"


def reference(digest: str, media_type: str, first_row: int, rows: int) -> bytes:
    """A payload that is kept elsewhere, as the log says it."""
    kept = PayloadReference(digest=digest, media_type=media_type, first_row=first_row, rows=rows)
    return b'{"reference":' + kept.model_dump_json().encode() + b"}"


async def offload(record: LogRecord, store: Store, limit: int = INLINE_LIMIT) -> LogRecord:
    """The same record, its larger payload (or both) in the object store where they are too large for the log."""
    if len(record.request) + len(record.response) <= limit:
        return record
    rows = int(record.described()["rows"])
    for name in sorted(("request", "response"), key=lambda name: -len(getattr(record, name))):
        if len(record.request) + len(record.response) > limit:
            digest = await store.put(getattr(record, name))
            record = replace(record, **{name: reference(digest, "application/json", 0, rows)})
    return record


class HeaderMaker:
    """CloudEvents headers of records; what repeats is made once."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str, str], Headers] = {}

    def headers(self, record: LogRecord, said: dict[str, Any] | None = None) -> Headers:
        """The headers of `inference.logged`: `ce_id` is the inference id, `ce_subject` the endpoint.

        `said`: the record's small members, where the caller has read them.
        """
        said = said or record.described()
        own: dict[str, bytes] = {
            "ce_id": record.inference_id.encode(),
            "ce_time": said["received_at"].encode(),
            "ce_correlationid": record.correlation_id.encode(),
            "ce_traceparent": record.traceparent.encode(),
            "traceparent": record.traceparent.encode(),
        }
        common = self._common(said["endpoint"], said["unit"], said["application"])
        return [(name, own.get(name, value)) for name, value in common]

    def _common(self, endpoint: str, unit: str, actor: str) -> Headers:
        key = (endpoint, unit, actor)
        if key not in self._made:
            if len(self._made) > 4096:
                self._made.clear()
            story = Context(Caller(actor, "application"), "", "")
            self._made[key] = headers(InferenceLogged, "scorer", endpoint, story, unit, id="-")
        return self._made[key]
