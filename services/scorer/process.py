"""What all child processes of a scorer host have in common."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import uvloop

from services.kit.telemetry import configure_logging, get_logger

from . import metrics
from .settings import ScorerSettings

log = get_logger(__name__)

_PR_SET_PDEATHSIG = 1
Main = Callable[[ScorerSettings, asyncio.Event], Awaitable[None]]


def follow_parent() -> None:
    """Get SIGTERM when the host dies, however it dies: no child outlives it."""
    parent = os.environ.get("FAIRLEAD_SCORER_HOST")
    if parent is None:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before we could ask
        sys.exit(0)


def lives(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def fatal(task: asyncio.Task[None]) -> None:
    """When a part of a process that serves ends that must not: it would serve yesterday's models, revoked ones too.

    The host starts another.
    """
    if not task.cancelled() and (error := task.exception()):
        log.error("a part of the process died", exc_info=error)
        os._exit(1)


BEHIND = 5
"""How nice a child is behind which nobody waits. It still has a quarter of a processor that all others want, too."""


def run_child(name: str, main: Main, *, nice: int = 0) -> None:
    """Run a child until SIGTERM or until its work ends, its metrics published for the workers to show."""
    follow_parent()
    os.nice(nice)
    settings = ScorerSettings()
    configure_logging("scorer", settings.log_level)
    uvloop.run(_run(name, settings, main))


async def _run(name: str, settings: ScorerSettings, main: Main) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    publishing = asyncio.create_task(metrics.publish(settings.run_folder, name))
    log.info("started", process=name)
    try:
        await main(settings, stop)
    finally:
        publishing.cancel()
    log.info("stopped", process=name)
