"""One version that serves: a request in, an answer and its log record out."""

import time
from dataclasses import dataclass, field
from datetime import datetime
from sys import intern
from typing import Literal

from contracts import Mode, Variant
from services.kit.errors import Refusal
from services.kit.ids import now, uuid7_text

from . import mlflow
from .lane import Lane
from .logrecord import LogRecord, Origin, RecordBuilder
from .metering import Account
from .runtimes import Arrays
from .tokenise import Tokeniser
from .v2 import Codec, Encoded, Request
from .warmup import sample


@dataclass(slots=True)
class Ask:
    """A request as it came in, whatever the way."""

    body: bytes
    json_length: int | None = None
    """Of the binary tensor extension: how many bytes of the body are JSON."""
    protocol: Literal["v2"] | mlflow.Form = "v2"
    inference_id: str | None = None
    """Given by a stream, whose ids come from the input record; else a new one."""
    shadow_of: str | None = None
    """The inference that was answered, where this asks a shadow about the same request."""
    entity: str | None = None
    """Who is decided about, where it does not stand in the body."""
    correlation_id: str | None = None
    traceparent: str | None = None
    limit_s: float | None = None
    """How long from `started` on it may wait for its model; None: as long as that takes."""
    received_at: datetime = field(default_factory=now)
    started: float = field(default_factory=time.perf_counter)
    request: Request | None = None
    """What the body says, once somebody has read it."""
    reading_s: float = 0.0
    """How long that took."""
    read_as: str = ""
    """The `Served.reading` of `request`."""
    route: "Route | None" = None
    """Who shall answer, where an endpoint has a choice."""

    def left_s(self, request: Request) -> float | None:
        """What is left of that, or of what the request itself says, whichever is less."""
        limits = [limit for limit in (self.limit_s, request.timeout_s) if limit is not None]
        return min(limits) + self.started - time.perf_counter() if limits else None


@dataclass(slots=True)
class Answer:
    """A response on the wire and its log record. Who answers must log first, then `count` and reply."""

    inference_id: str
    version: int
    variant: str
    body: bytes
    json_length: int | None
    record: LogRecord
    rows: int
    account: Account
    took_s: float
    bytes_in: int
    shadows: "tuple[Served, ...]" = ()
    """Who gets a copy of the request, now that it is answered."""

    def count(self) -> None:
        """It is an inference: the log has it, or the operator lets it go without."""
        account = self.account
        account.inferences += 1
        account.rows += self.rows
        account.seconds += self.took_s
        account.bytes_in += self.bytes_in
        account.bytes_out += len(self.body)


class Served:
    """One version behind one endpoint: loaded, warm and ready."""

    def __init__(self, origin: Origin, variant: Variant, lane: Lane, tokeniser: Tokeniser, account: Account) -> None:
        self.origin = origin
        self.variant = variant
        self.schema = variant.model_schema
        self.lane = lane
        self.codec = Codec(self.schema, origin.endpoint, str(origin.version), origin.variant, tokeniser.token)
        self.records = RecordBuilder(origin)
        self.counts = account
        account.charge(lane)
        self.reading = intern(self.schema.model_dump_json())
        """Versions of one reading take each other's requests as they were read."""

    async def prove(self) -> None:
        """Write one answer to nobody: a model whose outputs cannot be written must not serve."""
        if (one := sample(self.schema, 1)) is not None:
            self.codec.encode(Request(one, 1, b"{}"), await self.lane.run(one, 1), "-")

    async def answer(self, ask: Ask, mode: Mode, application: str) -> Answer:
        """One request through the model."""
        request = self.reading_of(ask)
        outputs = await self.lane.run(request.arrays, request.rows, ask.left_s(request), request.params)
        return self.answered(ask, request, outputs, mode, application)

    def read(self, ask: Ask) -> Request:
        """What a request says to this version. Raises BadInput."""
        started = time.perf_counter()
        if ask.protocol == "v2":
            ask.request = self.codec.decode(ask.body, ask.json_length)
        else:
            ask.request = mlflow.decode(ask.body, ask.protocol, self.codec, self.schema)
            ask.request.entity = ask.entity
        ask.read_as = self.reading
        ask.reading_s = time.perf_counter() - started
        return ask.request

    def at_once(self, ask: Ask, mode: Mode, application: str) -> Answer | None:
        """The answer to a V2 request where nothing must be waited for; None: ask `answer`, which goes on from here."""
        if not self.lane.idle:
            return None
        request = self.read(ask)
        outputs = self.lane.at_once(request.arrays, request.rows)
        return None if outputs is None else self.answered(ask, request, outputs, mode, application)

    def reading_of(self, ask: Ask) -> Request:
        """The request as this version reads it, whoever read it before. Raises BadInput."""
        return ask.request if ask.request and ask.read_as is self.reading else self.read(ask)

    def read_at_once(self, ask: Ask, request: Request, mode: Mode, application: str) -> Answer | None:
        """As `at_once`, of a request that was read."""
        outputs = self.lane.at_once(request.arrays, request.rows)
        return None if outputs is None else self.answered(ask, request, outputs, mode, application)

    def answered(self, ask: Ask, request: Request, outputs: Arrays, mode: Mode, application: str) -> Answer:
        """The answer of what the model said."""
        started = time.perf_counter()
        inference_id = ask.inference_id or uuid7_text()
        encoded: Encoded = self.codec.encode(request, outputs, inference_id)
        ended = time.perf_counter()
        took = ended - ask.started
        record = self.records.record(
            inference_id=inference_id, mode=mode, application=application, received_at=ask.received_at,
            latency_ms=took * 1000, rows=request.rows, request=request.logged, response=encoded.logged,
            entity=request.entity, request_id=request.id,
            correlation_id=request.correlation_id or ask.correlation_id, traceparent=ask.traceparent,
            drawn_by=ask.shadow_of,
        )  # fmt: skip
        if request.params:
            record.add("params", self.codec.told(request.params))
        self.counts.own_s += ask.reading_s + ended - started
        body = encoded.body if ask.protocol == "v2" else mlflow.encode(outputs, self.schema)
        return Answer(
            inference_id, self.origin.version, self.origin.variant, body, encoded.json_length, record, request.rows,
            self.counts, took, len(ask.body),
        )  # fmt: skip


@dataclass(slots=True)
class Route:
    """Who shall answer a request, and what came of it."""

    chosen: Served
    failed: Refusal | None = None
    """Why the chosen one did not."""
