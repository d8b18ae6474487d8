"""One loaded model and its calls: at once while it is idle, one after the other for those who wait while it is busy."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import cast

from services.kit.errors import Invalid, Refusal, Unavailable
from services.kit.sandbox.words import place_of

from .callsize import CallSize
from .engines import ThreadClock
from .failures import Failures
from .inline import InlineBudget
from .joining import joined, refuse_other_rows, split
from .line import Asked, Job, WaitingLine
from .opening import Opening
from .runtimes import Arrays, Remote, Runtime
from .runtimes.errors import ModelFailed, TookTooLong

_CLOSED = "this version is being closed"
_TROUBLED_S = 60.0
"""How long readiness tells of a model that failed in a way that no runtime foresaw."""


@dataclass(frozen=True)
class Limits:
    """See `ScorerSettings`."""

    inline_ms: float
    batch_rows: int
    queue_requests: int
    queue_rows: int
    cold_load_s: float = 10.0
    deadline_s: float = 10.0


class Lane:
    """Runs one model, from one event loop. The model may be closed while nothing is asked of it, and opened again."""

    def __init__(
        self, runtime: Runtime | Remote | None, limits: Limits, *, joinable: bool,
        waking: "Callable[[Lane], Awaitable[None]] | None" = None, failures: Failures | None = None,
    ) -> None:  # fmt: skip
        """`waking` opens the model and gives it to `take`; without a runtime that is done for the first request."""
        self._set(runtime)
        self._waking = waking
        self._opening = Opening("asleep" if runtime is None else "open", self._wake, limits.cold_load_s)
        self._inline = InlineBudget(limits.inline_ms)
        self._size = CallSize()
        self._limits = limits
        self._joinable = joinable
        """Every input and output has a row dimension, so requests can be put below one another."""
        self._line = WaitingLine(limits.queue_requests, limits.queue_rows, joinable=joinable)
        self._working = 0
        """Requests that are being answered."""
        self._calls: set[asyncio.Task[None]] = set()
        """One after the other, as long as something waits."""
        self._thread: ThreadPoolExecutor | None = None
        self._closing = False
        self.inline_s = 0.0
        """Seconds that the model worked on the event loop; what follows is for metering too."""
        self._called_s = 0.0
        self.clock = ThreadClock()
        """Of what the model does in other threads, and of opening it."""
        self._outside_cpu_s = 0.0
        self.inside_bytes = self.cost_bytes = 0
        self.used_at = 0.0
        """By `time.perf_counter`."""
        self._thread_took_s = 0.0
        """The last call in the thread, by the clock."""
        self._failure, self._failed_at = "", 0.0
        self._opens = True
        """Whether it was opened when it last should be."""
        self._failures = failures or Failures({})

    @property
    def waiting(self) -> int:
        """Requests that are not answered yet."""
        return len(self._line) + self._working

    @property
    def busy_s(self) -> float:
        """Seconds that the model worked, by the clock."""
        return self.inline_s + self._called_s

    @property
    def thread_cpu_s(self) -> float:
        """Processor time of the model in other threads than the event loop's, opening it included."""
        return self.clock.seconds

    @property
    def outside_cpu_s(self) -> float:
        """Processor time of the model's own process."""
        return self._outside_cpu_s + (0.0 if self._remote is None else self._remote.cpu_s)

    @property
    def outside_bytes(self) -> int:
        """Memory of the model's own process."""
        return 0 if self._remote is None else self._remote.rss

    @property
    def memory_bytes(self) -> int:
        """All that the model takes."""
        return self.inside_bytes + self.outside_bytes

    @property
    def asleep(self) -> bool:
        """Whether the model is closed until it is asked."""
        return self._opening.state == "asleep"

    @property
    def loaded(self) -> bool:
        """Whether the model is open and may be asked."""
        return self._opening.state == "open"

    @property
    def lowered(self) -> int:
        """How often fewer of its rows were taken on the event loop, because calls were slow."""
        return self._inline.lowered

    @property
    def ended(self) -> bool:
        """Nothing is asked of the model any more."""
        return self._closing and not self._calls

    @property
    def trouble(self) -> str:
        """Why this model does not work as it should; empty where it does."""
        if self._remote is not None and self._remote.down:
            return f"it cannot be asked: {self._remote.down}"
        return self._failure if time.monotonic() - self._failed_at < _TROUBLED_S else ""

    @property
    def call_rows(self) -> int:
        """The most rows that a call of the model should have; who has more asks several times."""
        return self._size.rows

    @property
    def _most_rows(self) -> int:
        """Of requests that are joined."""
        return min(self._limits.batch_rows, self._size.rows)

    @property
    def away(self) -> str:
        """Why nobody is answered by this model; empty where a request would be tried. An input that it failed over is
        no reason; one for which it could not be opened is, for a minute: nobody may ask until it is ready."""
        if self._remote is not None:
            return f"it cannot be asked: {self._remote.away}" if self._remote.away else ""
        return "" if self._opens else self.trouble

    @property
    def idle(self) -> bool:
        """Whether some request could be answered by `at_once`."""
        return self._inline.rows > 0 and self.loaded and not self._calls

    def at_once(self, inputs: Arrays, rows: int) -> Arrays | None:
        """The model's outputs where the event loop can bear the call, else None. Raises ModelFailed."""
        if rows > self._inline.rows or self._calls or not self.loaded:
            return None
        return self._call_here(inputs, rows)

    async def run(self, inputs: Arrays, rows: int, within_s: float | None = None, params: bytes = b"") -> Arrays:
        """The model's outputs. Raises Busy when too much waits, ModelFailed when the model refuses the input, TooLate
        where that takes longer than `within_s`. Who is late or cancelled before the model is called costs no call.
        `params` set something of a model elsewhere, and nothing is asked with others: one of this process has none."""
        if (outputs := self.at_once(inputs, rows)) is not None:
            return outputs
        if self._closing:
            raise Unavailable(_CLOSED)
        job = self._line.enter(inputs, rows, params, within_s)
        if len(self._calls) < self._most_calls:
            self._calls.add(asyncio.create_task(self._work()))
        return await self._line.answer(job)

    async def run_all(self, asked: Sequence[Asked]) -> list[Arrays | Refusal]:
        """Many requests in as few calls as fit. Raises Busy and Unavailable, which are no request's own fault."""
        results: list[Arrays | Refusal] = []
        for group in self._line.together(asked, self._most_rows):
            try:
                sizes = [one.rows for one in group]
                outputs = await self.run(joined([one.inputs for one in group]), sum(sizes), params=group[0].params)
                results += split(outputs, sizes) if len(group) > 1 else [outputs]
            except Invalid as refusal:
                results += [refusal] if len(group) == 1 else [await self._excused(one) for one in group]
        return results

    async def _excused(self, one: Asked) -> Arrays | Refusal:
        try:
            return await self.run(one.inputs, one.rows, params=one.params)
        except Invalid as refusal:
            return refusal

    async def open(self) -> None:
        """Open the model before anybody asks. Raises what opening it raises."""
        await self._opening.now()

    def take(self, runtime: Runtime | Remote) -> None:
        """The model, open. Raises Unavailable where nobody needs it any more."""
        self._set(runtime)
        self.used_at = time.perf_counter()
        if self.ended:
            raise Unavailable(_CLOSED)

    def sleep(self) -> bool:
        """Close the model until it is asked again; answers whether it could be: not while something is asked of it."""
        if not self.loaded or self._calls or self._closing or self._waking is None:
            return False
        self.cost_bytes = self.memory_bytes
        self._leave()
        self._opening.sleeps()
        return True

    async def warm(self, one: Arrays, many: Arrays, rows: int) -> None:
        """Call the model for the first times, and learn how many rows of it the event loop can bear; that is known of
        one that was closed in between."""
        if self._inline.wakes():
            return
        await self._call(one)
        await self._call(many)
        if self._remote is None:
            joinable = many if self._joinable else None
            self._inline.learn(await self._inline.measure(self._timed, one, joinable, rows, self._limits.batch_rows))
        if self._inline.rows and self._thread:  # another one is there when it is needed
            self._thread.shutdown(wait=False)
            self._thread = None

    def close(self) -> None:
        """Close once what waits is done; once is enough."""
        if self._closing:
            return
        self._closing = True
        if not self._calls:
            self._end()

    def _call_here(self, inputs: Arrays, rows: int) -> Arrays:
        started = time.perf_counter()
        try:
            outputs = self._local.predict(inputs)
            if self._joinable:
                refuse_other_rows(outputs, rows)
        except Refusal as refusal:
            raise self._failures.noted(refusal) from None
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            raise self._failed(error) from None
        took = time.perf_counter() - started
        self.used_at = started
        self.inline_s += took
        if took > self._inline.slow_s:
            self._inline.strike(rows)
        else:
            self._inline.fair()
        return outputs

    async def _timed(self, inputs: Arrays) -> float:
        """Within the deadline of any call."""
        await self._outputs(inputs, 0)
        return self._thread_took_s

    async def _work(self) -> None:
        """Call after call, as long as something waits."""
        if not self.loaded and (refusal := await self._opening.wait()):
            self._line.refuse(refusal)
        while self._line:
            jobs = self._line.next(self._most_rows)
            self._working += len(jobs)
            await self._settle(jobs)
            self._working -= len(jobs)
        self._calls.discard(cast("asyncio.Task[None]", asyncio.current_task()))
        if self._closing and not self._calls:
            self._end()

    async def _wake(self) -> None:
        """Open the model and try it; one that fails then is not kept."""
        assert self._waking is not None
        try:
            await self._waking(self)
            self._opens = True
        except BaseException as error:
            self._leave()
            self._opens = False
            self._failure, self._failed_at = f"cannot be loaded: {error}"[:300], time.monotonic()
            raise

    async def _settle(self, jobs: Sequence[Job]) -> None:
        """A result for each, whatever happens: nobody else would wake those who wait."""
        try:
            await self._ask(jobs)
        except Refusal as refusal:  # of all: whoever answers is away
            _end(jobs, refusal)
        except Exception as error:  # noqa: BLE001 - a fault of ours too: whoever waits gets an answer
            _end(jobs, self._failed(error))

    async def _ask(self, jobs: Sequence[Job]) -> None:
        """One call for all. Where that took too long they wait again, for smaller calls; where it is refused otherwise
        each is asked alone, so that none suffers for another. The model is asked nothing for those who left."""
        if len(jobs) > 1:
            try:
                outputs = await self._call(joined([job.inputs for job in jobs]), jobs[0].params)
                for job, own in zip(jobs, split(outputs, [job.rows for job in jobs]), strict=True):
                    job.end(own)
                return
            except TookTooLong:
                self._line.again(jobs)
                return
            except Invalid:
                pass
        for job in jobs:
            if not job.answer.done():
                job.end(await self._alone(job))

    async def _alone(self, job: Job) -> Arrays | Refusal:
        try:
            return await self._call(job.inputs, job.params)
        except Refusal as refusal:
            return refusal

    async def _call(self, inputs: Arrays, params: bytes = b"") -> Arrays:
        started, rows = time.perf_counter(), len(next(iter(inputs.values()))) if self._joinable else 1
        try:
            outputs = await self._outputs(inputs, rows, params)
            if self._joinable:
                refuse_other_rows(outputs, rows)
            self._size.took(rows, time.perf_counter() - started)
            return outputs
        except Refusal as refusal:
            if isinstance(refusal, TookTooLong):
                self._size.too_long(rows, max(time.perf_counter() - started, self._limits.deadline_s))
            raise self._failures.noted(refusal) from None
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            raise self._failed(error) from None
        finally:
            self.used_at = started
            self._called_s += time.perf_counter() - started

    async def _outputs(self, inputs: Arrays, rows: int, params: bytes = b"") -> Arrays:
        if self._remote is not None:
            return await self._remote.call(inputs, params)
        self._thread = self._thread or ThreadPoolExecutor(1, "model")
        loop, runtime = asyncio.get_running_loop(), self._local
        deadline = loop.call_later(self._limits.deadline_s, runtime.stop)
        try:
            outputs = await loop.run_in_executor(self._thread, self._metered, inputs)
        finally:
            deadline.cancel()
            runtime.resume()  # it may have been stopped between its answer and here
        self._inline.elsewhere(self._thread_took_s, rows)
        return outputs

    def _metered(self, inputs: Arrays) -> Arrays:
        """In a thread."""
        started = time.perf_counter()
        try:
            return self.clock.run(partial(self._local.predict, inputs))
        finally:
            self._thread_took_s = time.perf_counter() - started

    def _failed(self, error: Exception) -> ModelFailed:
        """What no runtime foresaw: it concerns the request in hand, and readiness tells of it."""
        name = type(error).__name__
        self._failure, self._failed_at = f"failed with {name}", time.monotonic()
        refusal = ModelFailed(f"the model failed over this input ({name})", place_of(error, house=True))
        self._failures.noted(refusal)
        return refusal

    def _set(self, runtime: Runtime | Remote | None) -> None:
        self._runtime = runtime
        self._remote = cast(Remote, runtime) if hasattr(runtime, "call") else None
        self._local = cast(Runtime, runtime)
        self._most_calls = self._remote.calls if self._remote else 1

    def _leave(self) -> None:
        """Without the model, until it is opened again."""
        self._outside_cpu_s = self.outside_cpu_s
        self._close_model()
        self._set(None)
        self._thread, self.inside_bytes = None, 0
        self._inline.sleeps()

    def _end(self) -> None:
        self._opening.ends()
        self._close_model()

    def _close_model(self) -> None:
        if self._runtime is not None:
            self._runtime.close()
        if self._thread:
            self._thread.shutdown(wait=False)


def _end(jobs: Sequence[Job], refusal: Refusal) -> None:
    for job in jobs:
        job.end(refusal)
