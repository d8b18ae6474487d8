"""What runs by itself: both streams, the join, tidying."""

import asyncio
import time
from collections.abc import Mapping
from datetime import timedelta

from contracts import InferenceLogged, OutcomeReported
from services.kit.burial import Burial
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.producer import Producer
from services.kit.repeats import forget_old_writers
from services.kit.stream import BatchConsumer, Partition

from . import store
from .files import Files
from .settings import RecorderSettings
from .usecases.joining import Joining
from .usecases.recording import Recording

_LOOK_AGAIN_S = 5.0
_TIDY_S = 600.0


class Inferences:
    """Records the inference log; gathers for a while as long as nothing is behind, so that files are not tiny."""

    def __init__(
        self, settings: RecorderSettings, db: Database, recording: Recording, burial: Burial, progress: Progress
    ) -> None:
        self._flush_s = settings.flush_s
        self._recording = recording
        self._burial = burial
        self._assigned: set[int] = set()
        self._consumer = BatchConsumer(
            settings, db, [InferenceLogged.topic.name], "recorder", recording.fold, burial, tick=self._tick,
            progress=progress, max_records=settings.batch_records,
        )  # fmt: skip

    async def run(self) -> None:
        try:
            await self._consumer.run()
        finally:
            await self._burial.close()

    async def _tick(self, partitions: Mapping[Partition, bool]) -> None:
        with use(Context(system("recorder"))):
            await self._recording.place()
            assigned = {number for _, number in partitions}
            for partition in assigned - self._assigned:
                await self._recording.sweep(partition)
            self._assigned = assigned
        if all(partitions.values()):
            await asyncio.sleep(self._flush_s)


class Outcomes:
    """Takes outcomes from the open topic."""

    def __init__(
        self, settings: RecorderSettings, db: Database, joining: Joining, burial: Burial, progress: Progress
    ) -> None:
        self._consumer = BatchConsumer(
            settings, db, [OutcomeReported.topic.name], "recorder.outcomes", joining.fold, burial, progress=progress
        )

    async def run(self) -> None:
        await self._consumer.run()


class Joins:
    """Joins when outcomes or inferences arrived, and every few seconds; removes what is too old."""

    def __init__(
        self, settings: RecorderSettings, db: Database, joining: Joining, recording: Recording, files: Files,
        progress: Progress,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._db = db
        self._joining = joining
        self._recording = recording
        self._files = files
        self._progress = progress
        progress.expect("join", grace_s=15.0)

    async def run(self) -> None:
        tidied = time.monotonic()
        async with Producer(self._settings) as producer:
            while True:
                self._joining.reported.clear()
                self._recording.arrived.clear()
                with use(Context(system("recorder"))):
                    while await self._joining.join(producer):
                        self._progress.beat("join")
                    if time.monotonic() - tidied > _TIDY_S:
                        await self._tidy()
                        tidied = time.monotonic()
                self._progress.beat("join")
                await self._something()

    async def _something(self) -> None:
        waits = [asyncio.create_task(e.wait()) for e in (self._joining.reported, self._recording.arrived)]
        try:
            await asyncio.wait(waits, timeout=_LOOK_AGAIN_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        # What a stream has folded is visible once its transaction has ended.
        await asyncio.sleep(0.1)

    async def _tidy(self) -> None:
        await self._joining.expire(timedelta(days=self._settings.patience_days))
        async with self._db.transaction() as tx:
            await forget_old_writers(tx.session)
        while await self._forget():
            self._progress.beat("join")

    async def _forget(self) -> bool:
        """Remove some of what is too old; answers whether there was any."""
        async with self._db.transaction() as tx:
            gone = await store.forget(tx.session, timedelta(days=self._settings.kept_days))
            if gone:
                tx.record("inferences.removed", "retention", files=len(gone), days=self._settings.kept_days)
            # Before the commit: a file that nothing refers to any more would lie there for ever.
            for path in gone:
                await asyncio.to_thread(self._files.remove, path)
        return bool(gone)
