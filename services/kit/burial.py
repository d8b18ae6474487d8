"""Dead letters of batch streams: what a batch handler cannot read goes to `dlq.<topic>` before its offset moves."""

import asyncio
from collections.abc import Sequence

from contracts import Service

from . import deadletters
from .producer import Outgoing, Producer
from .settings import Settings
from .stream import PartitionBatch, Record
from .telemetry import EVENTS_HANDLED, get_logger

log = get_logger(__name__)


class Burial:
    """Writes dead letters; one that was written before its batch was rolled back is written again."""

    def __init__(self, settings: Settings, service: Service) -> None:
        self._settings = settings
        self._service: Service = service
        self._name = service.encode()
        self._producer: Producer | None = None
        self._lock = asyncio.Lock()

    async def bury(self, batch: PartitionBatch, letters: Sequence[tuple[Record, BaseException | str]]) -> None:
        """Acknowledged by the broker when this returns; errors of an absent broker go up and delay the stream."""
        if not letters:
            return
        for record, reason in letters:
            log.error("dead letter", topic=batch.topic, offset=record.offset, reason=str(reason)[:500])
        async with self._lock:
            await self._send([self._letter(batch, record, reason) for record, reason in letters])
        EVENTS_HANDLED.labels(batch.topic, "dead").inc(len(letters))

    async def _send(self, letters: Sequence[Outgoing]) -> None:
        try:
            await (await self._open()).send_all(letters)
        except Exception:
            await self._give_back()  # one that failed for good fails at all that follows: the next try takes a new one
            raise

    def _letter(self, batch: PartitionBatch, record: Record, reason: BaseException | str) -> Outgoing:
        place = (self._service, batch.topic, batch.partition, record.offset)
        value, headers = deadletters.letter(record.value, record.headers, *place, reason)
        return deadletters.topic_of(batch.topic), record.key, value, headers

    def for_another(self, record: Record) -> bool:
        """Whether this is a replayed dead letter of another service."""
        return record.addressee is not None and record.addressee != self._name

    async def _open(self) -> Producer:
        if self._producer is None:
            self._producer = await Producer(self._settings, max_request_size=deadletters.LARGEST_LETTER).__aenter__()
        return self._producer

    async def close(self) -> None:
        """Close the producer, when no letter is on its way."""
        async with self._lock:
            await self._give_back()

    async def _give_back(self) -> None:
        producer, self._producer = self._producer, None
        if producer:
            await producer.__aexit__(None, None, None)
