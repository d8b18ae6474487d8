"""Jobs outside of a service's HTTP process: one that fails is started again."""

import asyncio
from collections.abc import Awaitable, Callable

from .health import Progress
from .telemetry import get_logger

log = get_logger(__name__)

_LONGEST_S = 10.0


async def again(name: str, job: Callable[[], Awaitable[None]], progress: Progress) -> None:
    """Run a job until it is cancelled; whatever it fails of is told, and after a growing pause it goes on."""
    delay, loop = 0.2, asyncio.get_running_loop()
    while True:
        started = loop.time()
        try:
            await job()
            return
        except Exception as error:
            progress.fail(name, repr(error))
            log.warning("a job failed and is started again", job=name, exc_info=error)
        delay = 0.2 if loop.time() - started > 60 else min(delay * 2, _LONGEST_S)
        await asyncio.sleep(delay)
