"""What runs beside requests and events: the ledger's stream of audit rows."""

from contracts import AuditRecorded
from services.kit import deadletters
from services.kit.db import Tx
from services.kit.health import Progress
from services.kit.producer import Producer
from services.kit.settings import Settings
from services.kit.stream import BatchConsumer, PartitionBatch, Record
from services.kit.telemetry import get_logger

from .usecases import Ledger
from .usecases.ledger import Unreadable, read_row

log = get_logger(__name__)

_TOPIC = AuditRecorded.topic.name
_ROWS = 200
"""Audit rows for one transaction: a chain with one row each was 140 times slower than in batches of a hundred."""


class Bookkeeper:
    """Feeds the ledger, its offsets stored with its rows; what is no audit row goes to the dead letters."""

    def __init__(self, settings: Settings, ledger: Ledger, progress: Progress) -> None:
        self._settings = settings
        self._ledger = ledger
        self._progress = progress

    def consumer(self) -> BatchConsumer:
        return BatchConsumer(
            self._settings, self._ledger.db, [_TOPIC], "governor.ledger", self.handle,
            progress=self._progress, max_records=_ROWS,
        )  # fmt: skip

    async def handle(self, tx: Tx, batch: PartitionBatch) -> None:
        rows, unreadable = [], []
        for record in batch.records:
            if deadletters.addressed_to_another(record.headers, "governor"):
                continue
            try:
                rows.append(read_row(record))
            except Unreadable as reason:
                unreadable.append((record, reason))
        if unreadable:
            await self._bury(batch, unreadable)
        if rows:
            await self._ledger.append(tx, rows)

    async def _bury(self, batch: PartitionBatch, records: list[tuple[Record, Unreadable]]) -> None:
        async with Producer(self._settings) as producer:
            await producer.send_all([
                (deadletters.topic_of(_TOPIC), record.key, record.value,
                 deadletters.headers(record.headers, "governor", _TOPIC, batch.partition, record.offset, reason))
                for record, reason in records
            ])  # fmt: skip
        log.error("audit rows that no service wrote", rows=len(records), reason=str(records[0][1]))
