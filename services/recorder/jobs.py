"""What runs by itself: the streams, the join, tidying, erasures."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

from contracts import InferenceLogged, OutcomeObserved, OutcomeReported
from services.kit.burial import Burial
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.producer import Producer
from services.kit.stream import BatchConsumer, Partition

from .domain.layout import Kind
from .settings import RecorderSettings
from .store import InUse
from .usecases.compaction import Compaction
from .usecases.erasing import Erasing
from .usecases.filing import Filing
from .usecases.joining import Joining
from .usecases.recording import Recording
from .usecases.retention import Retention
from .usecases.upkeep import Upkeep
from .usecases.withdrawing import Withdrawing

_LOOK_AGAIN_S = 5.0
_TIDY_S = 600.0
_MENDED_S = 60.0
"""After what kept an erasure from being done may be mended."""


class Placing:
    """Between polls of a stream whose batches become files: they get their places.

    As long as nothing is behind records are gathered for a while, so that files are not tiny.
    """

    def __init__(self, kind: Kind, upkeep: Upkeep, flush_s: float, sweep_s: float = _TIDY_S) -> None:
        self._kind: Kind = kind
        self._upkeep = upkeep
        self._flush_s = flush_s
        self._sweep_s = sweep_s
        self._swept: dict[int, float] = {}

    async def tick(self, partitions: Mapping[Partition, bool]) -> None:
        """With the assigned partitions, and whether each is read to its end."""
        with use(Context(system("recorder"))):
            await self._upkeep.place()
            await self._sweep({number for _, number in partitions})
        if all(partitions.values()):
            await asyncio.sleep(self._flush_s)

    async def _sweep(self, assigned: set[int]) -> None:
        """When a partition was just assigned, and again and again: a leftover holds entities, and is young at first."""
        at = time.monotonic()
        last = {number: self._swept.get(number) for number in assigned}
        due = {number for number, swept in last.items() if swept is None or at - swept >= self._sweep_s}
        for partition in due:
            await self._upkeep.sweep_batches(self._kind, partition)
        self._swept = {number: swept for number, swept in last.items() if swept is not None} | dict.fromkeys(due, at)


class Inferences:
    """Records the inference log."""

    def __init__(
        self,
        settings: RecorderSettings,
        db: Database,
        recording: Recording,
        upkeep: Upkeep,
        burial: Burial,
        progress: Progress,
    ) -> None:
        placing = Placing("inferences", upkeep, settings.flush_s)
        self._consumer = BatchConsumer(
            settings, db, [InferenceLogged.topic.name], "recorder", recording.fold, burial, tick=placing.tick,
            progress=progress, max_records=settings.recorder_batch_records,
        )  # fmt: skip

    async def run(self) -> None:
        """Until cancelled."""
        await self._consumer.run()


class Outcomes:
    """Takes outcomes from the open topic."""

    def __init__(
        self, settings: RecorderSettings, db: Database, joining: Joining, burial: Burial, progress: Progress
    ) -> None:
        self._consumer = BatchConsumer(
            settings, db, [OutcomeReported.topic.name], "recorder.outcomes", joining.fold, burial, progress=progress
        )

    async def run(self) -> None:
        """Until cancelled."""
        await self._consumer.run()


class Observed:
    """Writes outcomes that were joined to files."""

    def __init__(
        self, settings: RecorderSettings, db: Database, filing: Filing, upkeep: Upkeep, burial: Burial,
        progress: Progress,
    ) -> None:  # fmt: skip
        placing = Placing("outcomes", upkeep, settings.outcomes_flush_s)
        self._consumer = BatchConsumer(
            settings, db, [OutcomeObserved.topic.name], "recorder.observed", filing.fold, burial, tick=placing.tick,
            progress=progress, max_records=settings.recorder_batch_records,
        )  # fmt: skip

    async def run(self) -> None:
        """Until cancelled."""
        await self._consumer.run()


class Joins:
    """Joins when outcomes or inferences arrived, and every few seconds."""

    def __init__(self, settings: RecorderSettings, joining: Joining, recording: Recording, progress: Progress) -> None:
        self._settings = settings
        self._joining = joining
        self._recording = recording
        self._progress = progress
        progress.expect("join", grace_s=15.0)

    async def run(self) -> None:
        """Until cancelled."""
        async with Producer(self._settings) as producer:
            while True:
                self._joining.reported.clear()
                self._recording.arrived.clear()
                with use(Context(system("recorder"))):
                    await self._all(producer)
                await self._something()

    async def _all(self, producer: Producer) -> None:
        """Until nothing is new: what waits for a decision that is not there is no part of a round."""
        busy = True
        while busy:
            busy = await self._joining.seek()
            while await self._joining.join(producer):
                busy = True
                self._progress.beat("join")
            self._progress.beat("join")

    async def _something(self) -> None:
        waits = [asyncio.create_task(e.wait()) for e in (self._joining.reported, self._recording.arrived)]
        try:
            await asyncio.wait(waits, timeout=_LOOK_AGAIN_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


class Tidying:
    """Every ten minutes: outcomes that shadows missed, those that waited in vain, what is too old, and small files."""

    def __init__(
        self,
        settings: RecorderSettings,
        joining: Joining,
        retention: Retention,
        withdrawing: Withdrawing,
        compaction: Compaction,
        upkeep: Upkeep,
        progress: Progress,
    ) -> None:
        self._patience = timedelta(days=settings.patience_days)
        self._joining = joining
        self._retention = retention
        self._withdrawing = withdrawing
        self._compaction = compaction
        self._upkeep = upkeep
        self._progress = progress
        progress.expect("tidying", grace_s=60.0)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with use(Context(system("recorder"))):
                await self._retention.forget_writers()
                while await self._joining.date():
                    self._progress.beat("tidying")
                while await self._joining.follow() or await self._joining.expire(self._patience):
                    self._progress.beat("tidying")
                await self._joining.count()
                await self._upkeep.place()
                await self._upkeep.sweep()
            in_use = not await self._clear()
            self._progress.beat("tidying")
            await asyncio.sleep(_LOOK_AGAIN_S if in_use else _TIDY_S)

    async def _clear(self) -> bool:
        """What is old goes, what is small is merged. Answers False where somebody else works with the files."""
        with use(Context(system("recorder"))):
            try:
                while await self._retention.forget():
                    self._progress.beat("tidying")
                await self._withdrawing.go_on(lambda: self._progress.beat("tidying"))
                while await self._compaction.step():
                    self._progress.beat("tidying")
            except InUse:
                return False
        return True


class Forgetting:
    """Erasures, when one was asked for and until it is done."""

    def __init__(self, erasing: Erasing, progress: Progress) -> None:
        self._erasing = erasing
        self._progress = progress
        progress.expect("erasures", grace_s=_TIDY_S)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            wait_s = _LOOK_AGAIN_S
            with use(Context(system("recorder"))), suppress(InUse):
                done = await self._erasing.go_on(lambda: self._progress.beat("erasures"))
                wait_s = _LOOK_AGAIN_S if done else _MENDED_S
            self._progress.beat("erasures")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._erasing.asked.wait(), wait_s)
