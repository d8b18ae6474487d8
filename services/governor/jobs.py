"""What runs beside requests and events: the ledger's stream of audit rows."""

from contracts import AuditRecorded
from services.kit.burial import Burial
from services.kit.db import Tx
from services.kit.health import Progress
from services.kit.settings import Settings
from services.kit.stream import BatchConsumer, PartitionBatch, Record

from .usecases import Ledger
from .usecases.ledger import Unreadable, read_row

_TOPIC = AuditRecorded.topic.name
_ROWS = 200
"""Audit rows for one transaction: a chain with one row each was 140 times slower than in batches of a hundred."""


class Bookkeeper:
    """Feeds the ledger, its offsets stored with its rows; what is no audit row goes to the dead letters."""

    def __init__(self, settings: Settings, ledger: Ledger, burial: Burial, progress: Progress) -> None:
        self._settings = settings
        self._ledger = ledger
        self._progress = progress
        self._burial = burial

    async def run(self) -> None:
        """Consume until cancelled."""
        consumer = BatchConsumer(
            self._settings, self._ledger.db, [_TOPIC], "governor.ledger", self.handle, self._burial,
            progress=self._progress, max_records=_ROWS,
        )  # fmt: skip
        await consumer.run()

    async def handle(self, tx: Tx, batch: PartitionBatch) -> None:
        """Chain the audit rows of a batch; bury what is none."""
        rows: list[tuple[AuditRecorded, bytes]] = []
        unreadable: list[tuple[Record, BaseException | str]] = []
        for record in batch.records:
            if self._burial.for_another(record):
                continue
            try:
                rows.append(read_row(record))
            except Unreadable as reason:
                unreadable.append((record, reason))
        await self._burial.bury(batch, unreadable)
        if rows:
            await self._ledger.append(tx, rows)
