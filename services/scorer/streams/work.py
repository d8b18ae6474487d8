"""One endpoint's stream: requests to answers, log records and dead letters, all of one micro-batch at once."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np
import orjson

from contracts import InferenceCompleted, InferenceLogged, InferenceRequested
from services.kit import deadletters
from services.kit.errors import Busy, Invalid, Refusal, TooLarge, Unavailable
from services.kit.ids import now
from services.kit.objects import Objects
from services.kit.stream import Record
from services.kit.transactional import Headers, Output, Placed

from ..dataplane import Endpoint, Served
from ..logrecord import INLINE_LIMIT, offload
from ..runtimes import Arrays
from ..v2 import Request
from ..warmup import joinable
from . import wire
from .domain import inference_id, key_of
from .history import History, header

_LARGEST_ANSWER = 880_000
WITHHELD = b'{"withheld":"this endpoint has sensitive columns: the record is where the headers say, for 24 hours"}'


@dataclass(slots=True)
class Item:
    """One input record on its way. In the end it has an answer or a refusal."""

    record: Record
    envelope: wire.Envelope | None = None
    inference_id: str = ""
    request: Request | None = None
    refusal: Refusal | None = None
    answer: bytes | None = None
    repeats: "Item | None" = None
    """An earlier record of the same batch that says the same event."""
    told: bool = False
    """It was answered in an earlier transaction: say the same again, log nothing."""


@dataclass
class Turn:
    """What one lane is doing, until its transaction is known to be durable or given up."""

    keys: set[int] = field(default_factory=set[int])
    answered: list[int] = field(default_factory=list[int])
    """The keys of new answers, in the order of their places."""
    places: list[int] = field(default_factory=list[int])
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Endpoints(Protocol):
    """What this process has loaded."""

    def find(self, name: str) -> Endpoint | None: ...

    async def wait(self, name: str) -> Endpoint:
        """The endpoint, as soon as it is loaded."""
        ...


class EndpointWork:
    """Implements `services.kit.transactional.Work` for one streaming endpoint."""

    def __init__(self, endpoint: str, endpoints: Endpoints, history: History, objects: Objects) -> None:
        self._name = endpoint
        self._endpoints = endpoints
        self._history = history
        self._objects = objects
        self._turns: dict[int, Turn] = {}
        self._rotation = 0
        self.requested = InferenceRequested.topic.of(endpoint)
        self.completed = InferenceCompleted.topic.of(endpoint)
        self.logged = InferenceLogged.topic.name
        self.dead = deadletters.topic_of(self.requested)
        self._stamps: wire.Stamps | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.completed, self.logged, self.dead

    # Work

    async def opened(self, partition: int) -> None:
        await self._history.catch_up(partition)

    async def handle(self, partition: int, records: list[Record], out: Output) -> None:
        moment, started = now(), time.perf_counter()
        items = [self._read(Item(record)) for record in records if not _for_another(record)]
        await self._recognise(partition, [item for item in items if item.refusal is None])
        served = await self._score([item for item in items if item.answer is None and item.refusal is None])
        await self._say(partition, items, served, moment, (time.perf_counter() - started) * 1000, out)

    def reject(self, partition: int, record: Record, error: Exception, out: Output) -> None:
        self.dropped(partition)
        item = self._read(Item(record))
        item.refusal = item.refusal or Refusal(f"the record could not be handled: {type(error).__name__}")
        self._fail(partition, item, wire.stamp(now()), out, error)

    async def committed(self, partition: int, placed: dict[tuple[str, int], list[Placed]]) -> None:
        turn = self._turns.pop(partition, None)
        if turn is None:
            return
        try:
            await self._remember(partition, turn, placed)
        finally:
            turn.over.set()

    def dropped(self, partition: int) -> None:
        if turn := self._turns.pop(partition, None):
            turn.over.set()

    # Steps

    def _read(self, item: Item) -> Item:
        try:
            item.envelope = envelope = wire.read(item.record.headers)
            item.inference_id = inference_id(self._name, envelope.source, envelope.id)
            if item.record.value is None:
                raise Invalid("the record has no value: a V2 infer request is needed")
        except Refusal as refusal:
            item.refusal = refusal
        return item

    async def _recognise(self, partition: int, items: list[Item]) -> None:
        """Mark what was answered before, or is asked twice in this batch."""
        first: dict[str, Item] = {}
        for item in items:
            if (earlier := first.setdefault(item.inference_id, item)) is not item:
                item.repeats = earlier
        keys = [key_of(id) for id in first]
        await self._claim(partition, set(keys))
        found = self._history.answered.find(keys)
        if not found:
            return
        distinct = list(first.values())
        for i, told in (await self._history.answers(found)).items():
            # Two ids may share a key: only the record itself says which inference it answered.
            if header(told.headers, "ce_inferenceid") == distinct[i].inference_id.encode():
                distinct[i].answer, distinct[i].told = told.value, True

    async def _claim(self, partition: int, keys: set[int]) -> None:
        """Take these ids for this lane; where another lane of this process is at one of them, wait for its end."""
        self.dropped(partition)
        while rival := next((t for p, t in self._turns.items() if p != partition and t.keys & keys), None):
            await rival.over.wait()
        self._turns[partition] = Turn(keys)

    async def _score(self, items: list[Item]) -> Served:
        """Decode and score what is new, with one version for the whole batch. Waits while none is loaded."""
        while True:
            served = await self._served()
            self._decode([item for item in items if item.repeats is None], served)
            try:
                await self._run([item for item in items if item.request], served)
            except (Busy, Unavailable):
                await asyncio.sleep(0.1)  # the version is being replaced, or its sandbox starts again
                continue
            return served

    async def _served(self) -> Served:
        endpoint = await self._endpoints.wait(self._name)
        if self._stamps is None:
            self._stamps = wire.Stamps(self._name, endpoint.unit)
        return endpoint.champion

    def _decode(self, items: list[Item], served: Served) -> None:
        for item in items:
            try:
                item.request = served.codec.decode(item.record.value or b"")
            except Refusal as refusal:
                item.refusal = refusal

    async def _run(self, items: list[Item], served: Served) -> None:
        """One call of the model for all; where it refuses, halves, so that none suffers for another."""
        requests = [item.request for item in items if item.request]
        if not requests:
            return
        if len(items) > 1 and not joinable(served.schema):
            for item in items:
                await self._run([item], served)
            return
        try:
            outputs = await served.lane.run(_joined(requests), sum(request.rows for request in requests))
        except (Busy, Unavailable):
            raise
        except Refusal as refusal:
            if len(items) == 1:
                items[0].refusal = refusal
                return
            half = len(items) // 2
            await self._run(items[:half], served)
            await self._run(items[half:], served)
            return
        _encode(items, requests, outputs, served)

    async def _say(
        self, partition: int, items: list[Item], served: Served, moment: datetime, latency_ms: float, out: Output
    ) -> None:
        at = wire.stamp(moment)
        turn = self._turns[partition]
        target = partition % out.partitions(self.completed)
        self._rotation += 1
        log_to = self._rotation % out.partitions(self.logged)
        for item in items:
            if item.repeats is not None:
                item.answer, item.refusal, item.told = item.repeats.answer, item.repeats.refusal, True
            if item.answer is None:
                self._fail(partition, item, at, out)
                continue
            place = out.add(self.completed, target, item.record.key, item.answer, self._completed(item, at))
            if not item.told:
                turn.answered.append(key_of(item.inference_id))
                turn.places.append(place)
                await self._log(partition, item, served, moment, at, latency_ms, log_to, out)

    async def _log(
        self, partition: int, item: Item, served: Served, moment: datetime, at: bytes, latency_ms: float, to: int,
        out: Output,
    ) -> None:  # fmt: skip
        request, envelope = item.request, item.envelope
        assert request and envelope and item.answer and self._stamps
        record = served.records.record(
            inference_id=item.inference_id, mode="stream", application=envelope.source, received_at=moment,
            latency_ms=latency_ms, rows=request.rows, request=request.logged, response=item.answer,
            entity=request.entity, request_id=request.id,
            correlation_id=request.correlation_id or envelope.correlation_id, traceparent=envelope.traceparent,
        )  # fmt: skip
        if len(record.request) + len(record.response) > INLINE_LIMIT:
            record = await offload(record, self._objects)
        value = record.value(f"stream.{self._name}.{partition}", item.record.offset + 1)
        headers = self._stamps.log(
            item.inference_id, at, record.correlation_id, record.traceparent, envelope.source
        )  # fmt: skip
        out.add(self.logged, to, item.inference_id.encode(), value, headers)
        served.counts.inferences += 1
        served.counts.rows += request.rows

    def _completed(self, item: Item, at: bytes) -> Headers:
        assert self._stamps
        return self._stamps.answer(
            wire.COMPLETED, f"{item.inference_id}.completed", at, item.envelope, item.inference_id
        )  # fmt: skip

    def _fail(self, partition: int, item: Item, at: bytes, out: Output, error: Exception | None = None) -> None:
        """An error event for the producer and a dead letter for the operator."""
        refusal, record = item.refusal or Refusal("the record was not answered"), item.record
        stamps = self._stamps or wire.Stamps(self._name, "*")
        said = orjson.dumps({"error": refusal.message[:1500], "status": refusal.status})
        id = f"{self.requested}/{partition}/{record.offset}"
        headers = stamps.answer(wire.FAILED, id, at, item.envelope, item.inference_id or None)
        out.add(self.completed, partition % out.partitions(self.completed), record.key, said, headers)
        reason = deadletters.headers(
            record.headers, "scorer", self.requested, partition, record.offset, error or refusal
        )  # fmt: skip
        out.add(self.dead, partition % out.partitions(self.dead), record.key, self._dead_value(record), reason)
        if endpoint := self._endpoints.find(self._name):
            endpoint.champion.counts.refused += 1

    def _dead_value(self, record: Record) -> bytes | None:
        endpoint = self._endpoints.find(self._name)
        return WITHHELD if endpoint is None or endpoint.champion.codec.sensitive else record.value

    async def _remember(self, partition: int, turn: Turn, placed: dict[tuple[str, int], list[Placed]]) -> None:
        for (topic, target), batches in placed.items():
            if topic != self.completed:
                continue
            offsets = _offsets(batches)
            if offsets is None or target != partition:
                await self._history.catch_up(target)
            else:
                places = [offsets[place] for place in turn.places]
                self._history.committed(target, turn.answered, places, int(offsets[-1]) + 1)


def _for_another(record: Record) -> bool:
    return bool(record.headers) and deadletters.addressed_to_another(record.headers, "scorer")


def _joined(requests: Sequence[Request]) -> Arrays:
    if len(requests) == 1:
        return requests[0].arrays
    return {name: np.concatenate([request.arrays[name] for request in requests]) for name in requests[0].arrays}


def _encode(items: list[Item], requests: Sequence[Request], outputs: Arrays, served: Served) -> None:
    first = 0
    for item, request in zip(items, requests, strict=True):
        # A model that is not joinable is called with one request: its outputs are that request's, whatever their shape.
        own = outputs
        if len(requests) > 1:
            own = {name: values[first : first + request.rows] for name, values in outputs.items()}
            first += request.rows
        answer = served.codec.encode(request, own, item.inference_id).logged
        if len(answer) > _LARGEST_ANSWER:
            item.refusal = TooLarge(f"the answer has {len(answer)} bytes, more than a record can hold: send fewer rows")
        else:
            item.answer = answer


def _offsets(batches: list[Placed]) -> list[int] | None:
    """The offset of each record in order; None where the broker did not tell one."""
    if any(batch.base_offset < 0 for batch in batches):
        return None
    return [batch.base_offset + i for batch in batches for i in range(batch.count)]
