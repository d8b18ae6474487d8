"""What one transaction writes: records in prebuilt batches, each topic and partition for itself."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer

from .recordbatch import Header, Record, RecordBatch, block

BATCH_BYTES = 900_000
"""Below the broker's largest message set (1 MiB), so that one record's overhead never tips a batch over it."""


@dataclass(frozen=True)
class Placed:
    """Records that one transaction wrote side by side; `base_offset` is -1 where the broker did not say."""

    base_offset: int
    count: int


class Target:
    """The records of one transaction for one partition, written into prebuilt batches as they come."""

    def __init__(self) -> None:
        self.batches = [RecordBatch(BATCH_BYTES, transactional=True)]
        self.count = 0

    def extend(self, records: Sequence[Record]) -> int:
        """Append records; answers the first one's place among this transaction's records of the partition."""
        place = self.count
        self.count += len(records)
        while (taken := self.batches[-1].extend(records)) < len(records):
            records = records[taken:]
            self.batches.append(RecordBatch(BATCH_BYTES, transactional=True))
        return place


class Output:
    """What one transaction writes."""

    def __init__(self, producer: AIOKafkaProducer, partitions: dict[str, int]) -> None:
        self._producer = producer
        self._partitions = partitions
        self._targets: dict[tuple[str, int], Target] = {}

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; the stream was told its name at the start."""
        return self._partitions[topic]

    def to(self, topic: str, partition: int) -> Target:
        """Where records of this partition go."""
        where = (topic, partition)
        if where not in self._targets:
            self._targets[where] = Target()
        return self._targets[where]

    def add(self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Sequence[Header]) -> int:
        """Append a record; answers its place among this transaction's records of that partition."""
        return self.to(topic, partition).extend([(key, value, block(headers))])

    async def send(self) -> dict[tuple[str, int], list[Placed]]:
        """Write everything and wait for the broker. Raises the first failure: then the transaction must not commit."""
        written = {where: target.batches for where, target in self._targets.items() if target.count}
        results = await asyncio.gather(*(self._send_to(where, batches) for where, batches in written.items()))
        return dict(zip(written, results, strict=True))

    async def _send_to(self, where: tuple[str, int], batches: list[RecordBatch]) -> list[Placed]:
        topic, partition = where
        sent = [await self._producer.send_batch(batch.builder, topic, partition=partition) for batch in batches]
        done = await asyncio.gather(*sent)
        return [Placed(meta.offset, batch.count) for meta, batch in zip(done, batches, strict=True)]
