"""Jobs that go on: one that fails is started again."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from .db import is_away
from .health import Progress
from .telemetry import get_logger

log = get_logger(__name__)

_LONGEST_S = 10.0
_STEADY_S = 15.0


async def each(work: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Do all of some work: what fails holds up nothing after it. Raises the first failure, at the end.

    Where PostgreSQL is away, the rest waits: that is raised at once.
    """
    failed: Exception | None = None
    for one in work:
        try:
            await one()
        except Exception as error:
            if is_away(error):
                raise  # the rest would only wait for it, too
            if failed:
                log.error("one more part of the work failed", exc_info=error)
            failed = failed or error
    if failed:
        raise failed


async def again(name: str, job: Callable[[], Awaitable[None]], progress: Progress) -> None:
    """Run a job until it ends or is cancelled; one that fails is started again, with growing pauses.

    Readiness tells of the failure until the job has run on for a while.
    """
    delay, loop = 0.2, asyncio.get_running_loop()
    steady: asyncio.TimerHandle | None = None
    while True:
        started = loop.time()
        try:
            await job()
            return
        except Exception as error:
            progress.fail(name, f"{type(error).__name__}: {error}")
            log.error("a job failed and is started again", job=name, exc_info=error)
        finally:
            if steady:
                steady.cancel()
        delay = 0.2 if loop.time() - started > 60 else min(delay * 2, _LONGEST_S)
        await asyncio.sleep(delay)
        steady = loop.call_later(_STEADY_S, progress.beat, name)
