"""What the retrainer does without being asked: work off its queue."""

import asyncio

from services.kit.errors import Unavailable
from services.kit.health import Progress
from services.kit.telemetry import get_logger

from .usecases import Retrainer

log = get_logger(__name__)

_IDLE_S = 5.0


class Queue:
    """Looks for work when told, and now and then: another process may have left some."""

    def __init__(self, retrainer: Retrainer, progress: Progress) -> None:
        self._retrainer = retrainer
        self._progress = progress
        self._told = asyncio.Event()
        retrainer.asked = self._told.set
        progress.expect("retrainings", grace_s=60.0)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            self._told.clear()
            try:
                worked = await self._retrainer.work()
                self._progress.beat("retrainings")
            except Unavailable as away:
                log.warning("a job waits", reason=away.message)
                self._progress.fail("retrainings", away.message)
                worked = False
            if not worked:
                await self._rest()

    async def _rest(self) -> None:
        try:
            await asyncio.wait_for(self._told.wait(), _IDLE_S)
        except TimeoutError:
            return
