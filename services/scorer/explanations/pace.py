"""The time that one answer takes: its work is bounded and rested for, so that it takes its share of a processor."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from services.kit.errors import Conflict

from .domain import Array, Arrays
from .opening import Ask


class Pace:
    """Begins when it is made. `share`: of one processor, at most 1; `most_s`: of work."""

    def __init__(self, share: float, most_s: float) -> None:
        self._share, self._most_s = share, most_s
        self._started = time.monotonic()
        self._paused_s = self._opening_s = 0.0
        self.rested_for_s = 0.0
        """The work that was rested for already."""

    @property
    def busy_s(self) -> float:
        """Seconds since it began, less its rests."""
        return time.monotonic() - self._started - self._paused_s

    async def rest(self) -> None:
        """For the work since the last rest."""
        busy_s, began = self.busy_s, time.monotonic()
        await asyncio.sleep((busy_s - self.rested_for_s) * (1 / self._share - 1))
        self._paused_s += time.monotonic() - began
        self.rested_for_s = busy_s

    @contextmanager
    def opening(self) -> Iterator[None]:
        """What is done within it is rested for and not counted as work: to open a model has a limit of its own."""
        before = self.busy_s
        yield
        self._opening_s += self.busy_s - before

    def check(self) -> None:
        """Raises Conflict where the work took longer than it may."""
        if self.busy_s - self._opening_s > self._most_s:
            raise Conflict(f"too slow to be asked: to explain it takes more than {self._most_s:g} s of work")

    def bounded(self, ask: Ask) -> Ask:
        """The same, checked before each question: a model that is slow at one is not asked all of them."""

        async def asked(rows: Array) -> Arrays:
            self.check()
            return await ask(rows)

        return asked
