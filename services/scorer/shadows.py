"""Copies of answered requests for shadows: scored when the caller has the answer, logged, and told to nobody."""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson

from contracts import Mode
from services.kit.errors import Busy, Refusal, Unavailable
from services.kit.ids import uuid7_text
from services.kit.telemetry import get_logger

from .line import Asked
from .logrecord import LogRecord
from .runtimes import Arrays
from .served import Answer, Ask, Served
from .spool import SpoolFull
from .v2 import Request
from .v2.tensors import Array

log = get_logger(__name__)

_MOST = 1_000
_MOST_BYTES = 32 * 1024 * 1024
_AT_ONCE = 32
_ANSWER_AT_MOST = 128 * 1024
"""Bytes of what callers were told that a shadow's record says; of more it says who told it and how fast alone."""


class Log(Protocol):
    """Where the records go: a spool."""

    def append(self, payload: bytes) -> int:
        """Keep one. Raises SpoolFull."""
        ...


@dataclass(frozen=True, slots=True)
class Copy:
    """A request that was answered, for one shadow."""

    served: Served
    ask: Ask
    inference_id: str
    """Of the answer, and its story."""
    correlation_id: str
    traceparent: str
    head: bytes
    """Of the answer's record: who answered, and how fast."""
    response: bytes
    """What callers were told, as the log has it; nothing where that is much."""
    application: str
    mode: Mode
    size: int
    """Bytes that it keeps from being freed, about."""


class Shadows:
    """A bounded queue and one worker: what does not fit is dropped and counted, and callers wait for none of it."""

    def __init__(self, log: Log, has_room: Callable[[], bool] = lambda: True) -> None:
        """`has_room`: whether the log takes more than what callers were told; theirs goes first."""
        self._log = log
        self._has_room = has_room
        self._waiting: deque[Copy] = deque()
        self._bytes = 0
        self._worker: asyncio.Task[None] | None = None

    def offer(
        self, shadows: Sequence[Served], ask: Ask, answered: LogRecord, application: str, mode: Mode
    ) -> None:  # fmt: skip
        """Copies of a request that was answered, as its log record says, for the shadows of its endpoint."""
        response = answered.response if len(answered.response) <= _ANSWER_AT_MOST else b""
        size = _size(ask) + len(answered.head) + len(response)
        for served in shadows:
            if len(self._waiting) >= _MOST or self._bytes + size > _MOST_BYTES:
                served.counts.shadow_dropped += 1
                continue
            self._bytes += size
            self._waiting.append(
                Copy(
                    served, ask, answered.inference_id, answered.correlation_id, answered.traceparent,
                    answered.head, response, application, mode, size,
                )
            )  # fmt: skip
        if self._waiting and self._worker is None:
            self._worker = asyncio.create_task(self._work(), name="shadows")
            self._worker.add_done_callback(self._ended)

    async def idle(self) -> None:
        """Wait until nothing is left."""
        while self._worker is not None:
            await asyncio.wait([self._worker])

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._worker = None
        if not task.cancelled() and (error := task.exception()):
            log.error("shadows go on with the next request", exc_info=error)

    async def _work(self) -> None:
        while self._waiting:
            copies = self._next()
            await self._score(copies[0].served, copies)
            await asyncio.sleep(0)

    def _next(self) -> list[Copy]:
        """The first that waits, and the next ones for the same shadow."""
        taken = [self._waiting.popleft()]
        while self._waiting and len(taken) < _AT_ONCE and self._waiting[0].served is taken[0].served:
            taken.append(self._waiting.popleft())
        self._bytes -= sum(copy.size for copy in taken)
        return taken

    async def _score(self, served: Served, copies: Sequence[Copy]) -> None:
        """Each of them is logged and counted, or counted as refused or dropped: one of the three. The log says what it
        refused, too."""
        read: list[tuple[Copy, Request]] = []
        started = time.perf_counter()
        for copy in copies:
            try:
                read.append((copy, replace(served.reading_of(copy.ask), wanted=None)))
            except Refusal as refusal:
                self._refused(copy, refusal, started)
            await asyncio.sleep(0)
        try:
            outputs = await served.lane.run_all(
                [Asked(request.arrays, request.rows, request.params) for _, request in read]
            )
        except (Busy, Unavailable):
            served.counts.shadow_dropped += len(read)
            return
        for (copy, request), one in zip(read, outputs, strict=True):
            if isinstance(one, Refusal):
                self._refused(copy, one, started)
            elif self._has_room():
                self._finish(copy, request, one, started)
            else:
                served.counts.shadow_dropped += 1
            await asyncio.sleep(0)

    def _refused(self, copy: Copy, refusal: Exception, started: float) -> None:
        """Counted, and told where the log has room."""
        copy.served.counts.refused += 1
        if self._has_room():
            with suppress(SpoolFull):
                self._log.append(_failed(copy, refusal, started).to_spool())

    def _finish(self, copy: Copy, request: Request, outputs: Arrays, started: float) -> None:
        """What a model answers may be anything: one that cannot be written is refused, and holds up no other."""
        try:
            self._keep(_scored(copy, request, outputs, started))
        except Exception as error:  # noqa: BLE001
            origin = copy.served.origin
            log.error("a shadow's answer cannot be written", endpoint=origin.endpoint, model=origin.model,
                      version=origin.version, error=type(error).__name__)  # fmt: skip
            self._refused(copy, error, started)

    def _keep(self, scored: Answer) -> None:
        """It is an inference where the log has it."""
        try:
            self._log.append(scored.record.to_spool())
        except SpoolFull:
            scored.account.shadow_dropped += 1
        else:
            scored.count()


def _scored(copy: Copy, request: Request, outputs: Arrays, started: float) -> Answer:
    """As if it had been answered: an inference of its own, in the story of the one that was."""
    ask = Ask(
        copy.ask.body, shadow_of=copy.inference_id, correlation_id=copy.correlation_id, traceparent=copy.traceparent,
        received_at=copy.ask.received_at, started=started,
    )  # fmt: skip
    scored = copy.served.answered(ask, request, outputs, copy.mode, copy.application)
    _refer(scored.record, copy, orjson.loads(copy.head + b"}"))
    return scored


def _failed(copy: Copy, refusal: Exception, started: float) -> LogRecord:
    """That it would not have answered. What a refusal says may hold values of the request, so that its kind is told."""
    said = orjson.loads(copy.head + b"}")
    record = copy.served.records.record(
        inference_id=uuid7_text(), mode=copy.mode, application=copy.application, received_at=copy.ask.received_at,
        latency_ms=(time.perf_counter() - started) * 1000, rows=said["rows"], request=b"{}", response=b"{}",
        entity=said["entity"], request_id=said["request_id"], correlation_id=copy.correlation_id,
        traceparent=copy.traceparent,
    )  # fmt: skip
    if not record.head.endswith(b'"sampled":false'):
        record.say("sampled", False)
    record.say("failed", type(refusal).__name__)
    _refer(record, copy, said)
    return record


def _refer(record: LogRecord, copy: Copy, said: dict[str, Any]) -> None:
    """To the answer: both can be compared where this is read."""
    answered = {name: said[name] for name in ("version", "variant", "latency_ms")}
    if copy.response and record.sampled:
        answered["response"] = orjson.Fragment(copy.response)
    record.say("shadow_of", copy.inference_id)
    record.say("answered", answered)


def _size(ask: Ask) -> int:
    """Of the body and of what was read of it: values as they are computed with, and what of them the log gets."""
    size = len(ask.body)
    if ask.request is not None:
        size += len(ask.request.logged) if ask.request.logged is not ask.body else 0
        size += sum(_held(values) for values in ask.request.arrays.values())
    return size


def _held(values: Array) -> int:
    """Texts lie outside of their array."""
    texts = sum(sys.getsizeof(value) for value in values.reshape(-1)) if values.dtype == object else 0
    return values.nbytes + texts
