"""The one deadline of an explanation: what is asked of the model and computed over its structure ends by then."""

import asyncio
import time
from collections.abc import Awaitable
from math import inf
from typing import TypeVar

from services.kit.errors import Conflict

from .domain import Array, Arrays
from .opening import Ask

T = TypeVar("T")


class OutOfTime(Conflict):
    """The time was over before there was an answer."""


class Deadline:
    """Begins when it is made. `budget_s`: from then on."""

    def __init__(self, budget_s: float) -> None:
        self.budget_s = budget_s
        self._until = time.monotonic() + budget_s
        self.row_s = inf
        """How long the model took for one row, at best."""

    @property
    def left_s(self) -> float:
        """Seconds; never below 0."""
        return max(0.0, self._until - time.monotonic())

    async def within(self, work: Awaitable[T]) -> T:
        """What the work answers. Raises OutOfTime; a sandbox ends what it was asked, a thread what it computes."""
        try:
            return await asyncio.wait_for(work, self.left_s)
        except TimeoutError:
            raise OutOfTime(
                f"budget_s: {self.budget_s:g} s were over before there was an answer; ask for more, at most 30"
            ) from None

    def bounded(self, ask: Ask) -> Ask:
        """The same, each question within what is left."""

        async def asked(rows: Array) -> Arrays:
            began = time.monotonic()
            answer = await self.within(ask(rows))
            self.row_s = min(self.row_s, (time.monotonic() - began) / len(rows))
            return answer

        return asked
