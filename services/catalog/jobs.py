"""What the catalog does without being asked: inspect what retrainings brought."""

import asyncio
from contextlib import suppress

from services.kit.again import each
from services.kit.errors import Unavailable
from services.kit.health import Progress
from services.kit.telemetry import get_logger

from .usecases import Candidates

log = get_logger(__name__)

_LOOK_S = 5.0
_PART = "candidates"


class InspectCandidates:
    """Inspects one candidate after the other: when told, and now and then, for one may have been put back or left."""

    def __init__(self, candidates: Candidates, progress: Progress) -> None:
        self._candidates = candidates
        self._progress = progress
        self._wake = asyncio.Event()
        candidates.asked = self._wake.set
        progress.expect(_PART, grace_s=60.0)

    async def run(self) -> None:
        """Until cancelled."""
        self._progress.beat(_PART)
        while True:
            self._wake.clear()
            try:
                await self.once()
            except Unavailable as away:
                log.warning("a candidate waits", reason=away.message)
                self._progress.fail(_PART, away.message)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _LOOK_S)

    async def once(self) -> None:
        """Inspect every candidate that is due. Raises Unavailable where a part is away that all of them need."""
        due = await self._candidates.due()
        failed = await each("inspect candidates", due, self._candidates.inspect)
        # One that is put back waits for what is away: until then nothing has become better.
        if len(failed) < len(due) or not await self._candidates.waiting():
            self._progress.beat(_PART)
