"""Explanations end with the decisions that they are about: when those are erased, and when they are too old."""

import asyncio
from datetime import timedelta

from pydantic import ValidationError

from contracts import DecisionsErased
from services.kit.burial import Burial
from services.kit.context import Context, system, use
from services.kit.db import Database, Tx
from services.kit.health import Progress
from services.kit.stream import BatchConsumer, PartitionBatch, Record

from ..settings import ScorerSettings
from . import store

GROUP = "scorer.explanations.erased"
_TIDY_S = 3600.0


class Forgetting:
    """Hears `decisions.erased`; offsets are stored with what they did."""

    def __init__(self, settings: ScorerSettings, db: Database, burial: Burial, progress: Progress) -> None:
        self._db = db
        self._burial = burial
        self._kept = timedelta(days=settings.decisions_kept_days)
        self._consumer = BatchConsumer(
            settings,
            db,
            [DecisionsErased.topic.name],
            GROUP,
            self.hear,
            burial,
            progress=progress,
        )

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._consumer.run())
            tasks.create_task(self._tidy())

    async def hear(self, tx: Tx, batch: PartitionBatch) -> None:
        """Remove what is told of decisions that were erased."""
        unreadable: list[tuple[Record, BaseException | str]] = []
        for record in batch.records:
            if self._burial.for_another(record):
                continue
            try:
                event = DecisionsErased.from_json(record.value or b"")
            except ValidationError as error:
                unreadable.append((record, error))
                continue
            gone = await store.erase(tx.session, event.inference_ids)
            if gone:
                tx.record("explanations.erased", str(event.erasure_id), explanations=gone)
        await self._burial.bury(batch, unreadable)

    async def forget(self) -> None:
        """What is older than decisions may be."""
        with use(Context(system("scorer"))):
            async with self._db.transaction() as tx:
                await store.forget(tx.session, self._kept)

    async def _tidy(self) -> None:
        while True:
            await self.forget()
            await asyncio.sleep(_TIDY_S)
