"""Whether a model is open, and the one opening that all who ask for it wait for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

from services.kit.errors import Refusal, Unavailable
from services.kit.telemetry import get_logger

log = get_logger(__name__)

State = Literal["asleep", "opening", "open", "closed"]


class Opening:
    """asleep → opening → open → asleep …; closed in the end, for good."""

    def __init__(self, state: State, open: Callable[[], Awaitable[None]], patience_s: float) -> None:
        """`open` makes the model ready for requests, or raises and leaves nothing behind."""
        self.state: State = state
        self._open = open
        self._patience_s = patience_s
        self._task: asyncio.Task[None] | None = None

    async def now(self) -> None:
        """Open the model, whoever waits. Raises what that raises; the model sleeps on then."""
        self._moves("opening")
        try:
            await self._open()
        except BaseException:
            self._moves("asleep")
            raise
        self._moves("open")

    async def wait(self) -> Refusal | None:
        """The model is open, for all who wait. Answers why that cannot be, or not yet: then it goes on by itself."""
        if self._task is None:
            self._task = asyncio.create_task(self.now())
            self._task.add_done_callback(self._over)
        task = self._task
        done, _ = await asyncio.wait([task], timeout=self._patience_s)
        if not done:
            return Unavailable("the model is being loaded; try again")
        if (error := task.exception()) is None:
            return None
        return error if isinstance(error, Unavailable) else Unavailable("the model cannot be loaded now; try again")

    def sleeps(self) -> None:
        """The model was closed until it is asked again."""
        self._moves("asleep")

    def ends(self) -> None:
        """The model is closed, and what is being opened will be."""
        self.state = "closed"

    def _moves(self, state: State) -> None:
        if self.state != "closed":
            self.state = state

    def _over(self, task: asyncio.Task[None]) -> None:
        """Its outcome is for those who waited, however late: who asks next has an opening of their own."""
        self._task = None
        if not task.cancelled() and (error := task.exception()):
            log.error("a model could not be loaded when it was asked", reason=str(error)[:300])
