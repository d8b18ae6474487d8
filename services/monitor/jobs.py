"""What runs by itself: the stream, the owner's round, tidying."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from math import inf

from contracts import InferenceLogged, OutcomeObserved
from services.kit.burial import Burial
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.ids import now
from services.kit.repeats import forget_old_writers
from services.kit.stream import BatchConsumer, Partition
from services.kit.telemetry import get_logger

from . import store
from .domain import rhythm
from .domain.arrivals import KEPT_S
from .domain.service.spans import minutes_end
from .settings import MonitorSettings
from .store import arrivals, comparison, estimates, influences, outcomes, seasons, slices, slots, usage
from .usecases.closing import Closing
from .usecases.counting import Counting
from .usecases.judging import Judging
from .usecases.observing import Observing
from .usecases.versions import Versions

log = get_logger(__name__)

_ROUND_S = 0.5
_IDLE_S = 60.0
_REFRESH_S = 2.0
BUDGETS_S = 15.0
ARRIVALS_S = 30.0
SEASONS_S = 300.0
FIGURES_S = 60.0
_TIDY_S = 600.0
LOOK_S = 600.0
"""A look that takes longer hangs: it is given up, told, and tried again."""


class Stream:
    """Counts the inference log; between polls it says which partitions are read to their end."""

    def __init__(
        self, settings: MonitorSettings, db: Database, counting: Counting, burial: Burial, progress: Progress
    ) -> None:
        self._db = db
        self._told = -inf
        self._consumer = BatchConsumer(
            settings, db, [InferenceLogged.topic.name], "monitor", counting.fold, burial, tick=self.tick,
            progress=progress, max_records=settings.monitor_batch_records, poll_ms=200,
        )  # fmt: skip
        self.something_open = True

    async def run(self) -> None:
        """Until cancelled."""
        await self._consumer.run()

    async def tick(self, partitions: Mapping[Partition, bool]) -> None:
        """Seldom while no window waits for it: an idle platform writes little, but whether rows stay away is told only
        as far as the log is read."""
        every_s = _ROUND_S if self.something_open else _IDLE_S
        if not partitions or time.monotonic() - self._told < every_s:
            return
        self._told, at = time.monotonic(), now()
        ended = [number for (_, number), at_end in partitions.items() if at_end]
        behind = [number for (_, number), at_end in partitions.items() if not at_end]
        async with self._db.chassis() as session:
            await store.note_read_to_end(session, ended, behind, at)


class OutcomeStream:
    """Counts what followed from decisions."""

    def __init__(
        self, settings: MonitorSettings, db: Database, observing: Observing, burial: Burial, progress: Progress
    ) -> None:
        self._consumer = BatchConsumer(
            settings, db, [OutcomeObserved.topic.name], "monitor.outcomes", observing.fold, burial, progress=progress,
            poll_ms=500,
        )  # fmt: skip

    async def run(self) -> None:
        """Until cancelled."""
        await self._consumer.run()


class Looks:
    """The owner's look at something, again and again: by itself, so that no window waits for it."""

    def __init__(
        self, name: str, every_s: float, look: Callable[[], Awaitable[Mapping[str, str]]], progress: Progress, *,
        within_s: float = LOOK_S,
    ) -> None:  # fmt: skip
        """`look` answers by endpoint why it failed, where it did; what has not ended `within_s` is given up."""
        self._name, self._every_s, self._look, self._progress = name, every_s, look, progress
        self._within_s = within_s
        progress.expect(name, grace_s=3 * every_s)

    async def run(self) -> None:
        """Until cancelled. Nobody waits for the first look, which may take long: the service is ready before it."""
        self._progress.beat(self._name)
        while True:
            if failed := await self._looked():
                self._progress.fail(self._name, "; ".join(f"{name}: {why}" for name, why in failed.items()))
            else:
                self._progress.beat(self._name)
            await asyncio.sleep(self._every_s)

    async def _looked(self) -> Mapping[str, str]:
        bound = asyncio.timeout(self._within_s)
        try:
            async with bound:
                return await self._look()
        except TimeoutError:
            if not bound.expired():
                raise
            log.error("a look hangs and is given up", look=self._name, within_s=self._within_s)
            return {"all endpoints": f"the look had not ended after {self._within_s:g} s and was given up"}


class Rounds:
    """The owner's round: windows that are due, settings that changed elsewhere, old rows."""

    def __init__(
        self, settings: MonitorSettings, db: Database, closing: Closing, versions: Versions, judging: Judging,
        stream: Stream, progress: Progress,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._db = db
        self._closing = closing
        self._versions = versions
        self._judging = judging
        self._stream = stream
        self._progress = progress
        progress.expect("windows", grace_s=15.0)

    async def run(self) -> None:
        """Until cancelled."""
        refreshed, tidied = 0.0, time.monotonic()
        unjudged: Mapping[str, str] = {}
        while True:
            if self._versions.outdated or time.monotonic() - refreshed > _REFRESH_S:
                await self._versions.refresh()
                refreshed, unjudged = time.monotonic(), await self._judging.judge()
            closed = await self._closing.close_due()
            self._stream.something_open = closed.still_open
            if time.monotonic() - tidied > _TIDY_S:
                await self._tidy()
                tidied = time.monotonic()
            if failed := {**unjudged, **closed.failed}:
                self._progress.fail("windows", "; ".join(f"{name}: {why}" for name, why in failed.items()))
            else:
                self._progress.beat("windows")
            await asyncio.sleep(_ROUND_S)

    async def _tidy(self) -> None:
        with use(Context(system("monitor"))):
            async with self._db.transaction() as tx:
                await store.tidy(
                    tx.session, self._settings.kept_counts, timedelta(days=self._settings.windows_kept_days)
                )
                await influences.tidy(tx.session, timedelta(days=self._settings.windows_kept_days))
                await usage.tidy(tx.session, timedelta(days=self._settings.windows_kept_days))
                # An hour longer: a span begins with a full hour.
                await slots.tidy(
                    tx.session, minutes_end(now()), timedelta(days=self._settings.windows_kept_days, hours=1)
                )
                # A day longer than outcomes are taken: what may still be revised is not forgotten.
                kept = timedelta(days=self._settings.outcomes_kept_days + 1)
                await outcomes.tidy(tx.session, kept)
                await comparison.tidy(tx.session, kept)
                await estimates.tidy(tx.session, kept)
                # And another one: a window may begin at the end of its day.
                await slices.tidy(tx.session, timedelta(days=self._settings.outcomes_kept_days + 2))
                await seasons.tidy(tx.session, timedelta(seconds=rhythm.KEPT_S))
                await arrivals.tidy(tx.session, timedelta(seconds=KEPT_S))
                await forget_old_writers(tx.session)
