"""Copies of answered requests for shadows: scored when the caller has the answer, logged, and told to nobody."""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from contracts import Mode
from services.kit.errors import Busy, Refusal, Unavailable
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
    """Of the answer, and its story: the answer itself is the log's."""
    correlation_id: str
    traceparent: str
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
        size = _size(ask)
        for served in shadows:
            if len(self._waiting) >= _MOST or self._bytes + size > _MOST_BYTES:
                served.counts.shadow_dropped += 1
                continue
            self._bytes += size
            self._waiting.append(
                Copy(
                    served, ask, answered.inference_id, answered.correlation_id, answered.traceparent, application,
                    mode, size,
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
        """Each of them is logged and counted, or counted as refused or dropped: one of the three."""
        read: list[tuple[Copy, Request]] = []
        started = time.perf_counter()
        for copy in copies:
            try:
                read.append((copy, replace(served.reading_of(copy.ask), wanted=None)))
            except Refusal:
                served.counts.refused += 1
            await asyncio.sleep(0)
        try:
            outputs = await served.lane.run_all([Asked(request.arrays, request.rows) for _, request in read])
        except (Busy, Unavailable):
            served.counts.shadow_dropped += len(read)
            return
        for (copy, request), one in zip(read, outputs, strict=True):
            if isinstance(one, Refusal):
                served.counts.refused += 1
            elif self._has_room():
                self._finish(copy, request, one, started)
            else:
                served.counts.shadow_dropped += 1
            await asyncio.sleep(0)

    def _finish(self, copy: Copy, request: Request, outputs: Arrays, started: float) -> None:
        """What a model answers may be anything: one that cannot be written is refused, and holds up no other."""
        try:
            self._keep(_scored(copy, request, outputs, started))
        except Exception as error:  # noqa: BLE001
            origin = copy.served.origin
            log.error("a shadow's answer cannot be written", endpoint=origin.endpoint, model=origin.model,
                      version=origin.version, error=type(error).__name__)  # fmt: skip
            copy.served.counts.refused += 1

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
        copy.ask.body, correlation_id=copy.correlation_id, traceparent=copy.traceparent,
        received_at=copy.ask.received_at, started=started,
    )  # fmt: skip
    scored = copy.served.answered(ask, request, outputs, copy.mode, copy.application)
    scored.record.say("shadow_of", copy.inference_id)
    return scored


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
