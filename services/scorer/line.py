"""Who waits for a model: how many may, for how long, and which of them are asked in one call."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from services.kit.errors import Busy, Refusal, TooLate

from .joining import alike
from .runtimes import Arrays

_LATE = "the model did not answer in the time that the request had; nothing was decided: try again"


class Asked(NamedTuple):
    """What a model is asked."""

    inputs: Arrays
    rows: int
    params: bytes = b""
    """What is set of it for that: a JSON object, or nothing."""


@dataclass(slots=True, eq=False)
class Job:
    """The same of somebody who waits for it."""

    inputs: Arrays
    rows: int
    params: bytes
    within_s: float | None
    answer: asyncio.Future[Arrays]

    def end(self, result: Arrays | Refusal) -> None:
        """Tell who waits, unless nobody does any more."""
        if self.answer.done():
            return
        if isinstance(result, Refusal):
            self.answer.set_exception(result)
        else:
            self.answer.set_result(result)


class WaitingLine:
    """First come, first served; whoever fits below the first is served with them."""

    def __init__(self, requests: int, rows: int, *, joinable: bool) -> None:
        """So many may wait, with so many rows; `joinable`: their rows can be put below one another."""
        self._requests, self._most_rows = requests, rows
        self._joinable = joinable
        self._jobs: deque[Job] = deque()
        self._rows = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def enter(self, inputs: Arrays, rows: int, params: bytes, within_s: float | None) -> Job:
        """At the end. Raises Busy where there is no room, TooLate where no time is left to wait. A request with more
        rows than may wait is taken where it is the only one."""
        if len(self._jobs) >= self._requests or (self._jobs and self._rows + rows > self._most_rows):
            raise Busy("too many requests wait for this model; try again after a while")
        if within_s is not None and within_s <= 0:
            raise TooLate(_LATE)
        job = Job(inputs, rows, params, within_s, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._rows += rows
        return job

    async def answer(self, job: Job) -> Arrays:
        """What the model says of it. Raises TooLate, or what it is refused with. Who is late or cancelled leaves."""
        loop = asyncio.get_running_loop()
        timer = None if job.within_s is None else loop.call_later(job.within_s, self._late, job)
        try:
            return await job.answer
        finally:
            if timer:
                timer.cancel()
            if job.answer.cancelled():
                self._leave(job)

    def _late(self, job: Job) -> None:
        job.end(TooLate(_LATE))
        self._leave(job)

    def _leave(self, job: Job) -> None:
        with suppress(ValueError):  # it is being answered
            self._jobs.remove(job)
            self._rows -= job.rows

    def next(self, most_rows: int) -> list[Job]:
        """For one call: the first that waits, and the next ones as far as they fit below it, `most_rows` together.
        None of somebody who just left."""
        taken = [self._jobs.popleft()]
        rows = taken[0].rows
        while self._joinable and self._jobs and rows + self._jobs[0].rows <= most_rows:
            if not _fit(taken[0], self._jobs[0]):
                break
            taken.append(self._jobs.popleft())
            rows += taken[-1].rows
        self._rows -= rows
        return [job for job in taken if not job.answer.done()]

    def again(self, jobs: Sequence[Job]) -> None:
        """Who was taken waits on, before all others."""
        left = [job for job in jobs if not job.answer.done()]
        self._jobs.extendleft(reversed(left))
        self._rows += sum(job.rows for job in left)

    def refuse(self, refusal: Refusal) -> None:
        """All who wait."""
        for job in self._jobs:
            job.end(refusal)
        self._jobs.clear()
        self._rows = 0

    def together(self, asked: Sequence[Asked], most_rows: int) -> Iterator[list[Asked]]:
        """Many questions of one caller, in order, as `next` would take them."""
        group: list[Asked] = []
        rows = 0
        for one in asked:
            fits = self._joinable and rows + one.rows <= most_rows
            if group and not (fits and _fit(group[0], one)):
                yield group
                group, rows = [], 0
            group.append(one)
            rows += one.rows
        if group:
            yield group


def _fit(one: Asked | Job, other: Asked | Job) -> bool:
    return one.params == other.params and alike(one.inputs, other.inputs)
