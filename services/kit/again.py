"""Jobs that go on: one that fails is started again."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from .away import is_away
from .health import Progress
from .telemetry import get_logger

log = get_logger(__name__)

T = TypeVar("T")

_LONGEST_S = 10.0
_STEADY_S = 15.0
_FORGIVEN_S = 60.0


class Backoff:
    """Growing pauses between attempts that fail, short again after a while without a failure."""

    def __init__(self, first_s: float, longest_s: float = 5.0, forgiven_s: float = _FORGIVEN_S) -> None:
        """`forgiven_s`: that while; longer than an attempt may take, or each of them is the first."""
        self._first_s, self._longest_s, self._forgiven_s = first_s, longest_s, forgiven_s
        self._next_s = first_s
        self._goes_on_at = 0.0

    def pause(self) -> float:
        """An attempt failed: how long to wait before the next."""
        at = time.monotonic()
        if at - self._goes_on_at > self._forgiven_s:
            self._next_s = self._first_s
        pause, self._next_s = self._next_s, min(self._next_s * 2, self._longest_s)
        self._goes_on_at = at + pause
        return pause


async def again(name: str, job: Callable[[], Awaitable[None]], progress: Progress) -> None:
    """Run a job until it ends or is cancelled; one that fails is started again, with growing pauses.

    Readiness tells of the failure until the job has run on for a while, or came to its end.
    """
    backoff, loop = Backoff(0.4, _LONGEST_S), asyncio.get_running_loop()
    steady: asyncio.TimerHandle | None = None
    while True:
        try:
            await job()
            progress.beat(name)  # what it failed at before is over
            return
        except (Exception, asyncio.CancelledError) as error:
            if _told_to_end(error):
                raise
            progress.fail(name, f"{type(error).__name__}: {error}")
            log.error("a job failed and is started again", job=name, exc_info=error)
        finally:
            if steady:
                steady.cancel()
        await asyncio.sleep(backoff.pause())
        steady = loop.call_later(_STEADY_S, progress.beat, name)


def _told_to_end(error: BaseException) -> bool:
    """Whether the job was cancelled from outside; one that awaited something cancelled has only failed."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


async def each(name: str, items: Iterable[T], work: Callable[[T], Awaitable[None]]) -> list[tuple[T, Exception]]:
    """Do the work for every item: one that fails stops no other. Answers those that failed, with the reason.

    Where infrastructure is away all would fail: that is raised.
    """
    failed: list[tuple[T, Exception]] = []
    for item in items:
        try:
            await work(item)
        except Exception as error:
            if is_away(error):
                raise
            log.error("one of many failed", job=name, item=str(item), exc_info=error)
            failed.append((item, error))
    return failed
