"""The answers that an endpoint's stream gave: remembered from its own results topic, where they are true."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.kit.kafka import Connection
from services.kit.reader import TopicReader
from services.kit.stream import Record

from .domain import Answered, at, key_of, place

_ANSWER = b"inference.completed"
_MARKER = 1
"""The offset that the end of a transaction takes; another one takes two at least."""
_GAP = 2_000
"""Answers that stand closer together than this are read in one go."""


def header(headers: Sequence[tuple[str, bytes]], name: str) -> bytes | None:
    """The first header of a name."""
    return next((value for header, value in headers if header == name), None)


@dataclass
class History:
    """Which inferences were answered, and where. State is rebuilt from the topic; nothing else is stored.

    A partition whose lane runs here is told of each commit (`committed`); all others are followed by reading.
    """

    connection: Connection
    topic: str
    answered: Answered = field(default_factory=Answered)
    _reader: TopicReader | None = None
    _next: dict[int, int] = field(default_factory=dict[int, int])
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def catch_up(self, partition: int | None = None) -> None:
        """Read what was answered since the last look: everywhere, or where the lane of a partition answers. A fenced
        partition is then complete."""
        async with self._lock:
            reader = await self._started()
            partitions = reader.partitions()
            for known in partitions:
                if partition is None or known == partition % len(partitions) or known not in self._next:
                    await self._follow(reader, known)

    async def close(self) -> None:
        """Disconnect; what is remembered stays."""
        if self._reader:
            await self._reader.stop()

    async def _started(self) -> TopicReader:
        if self._reader is None:
            reader = TopicReader(self.connection, self.topic)
            await reader.start()
            self._reader = reader
        return self._reader

    async def _follow(self, reader: TopicReader, partition: int) -> None:
        day = int(time.time() * 1000) - self.answered.keep_ms
        first, end = await reader.bounds(partition, day)
        share = max(1, self.answered.limit // len(reader.partitions()))
        start = self._next.get(partition, max(first, end - share))
        async for records in reader.read(partition, start, end):
            self._remember(partition, records)
        self._next[partition] = max(end, start)

    def _remember(self, partition: int, records: list[Record]) -> None:
        keys: list[int] = []
        places: list[int] = []
        for record in records:
            if header(record.headers, "ce_type") == _ANSWER and (id := header(record.headers, "ce_inferenceid")):
                keys.append(key_of(id.decode()))
                places.append(place(partition, record.offset))
        if keys:
            self.answered.add(keys, places, records[-1].timestamp_ms)

    def committed(self, partition: int, keys: list[int], offsets: list[int], written: Sequence[int]) -> bool:
        """A lane of this process gave these answers, among all that it has `written` to the partition. Answers whether
        everything up to there is known: where lanes share a partition, another one may have written between."""
        self.answered.add(keys, [place(partition, offset) for offset in offsets], int(time.time() * 1000))
        known, first, end = self._next.get(partition, -1), written[0], written[-1] + 1
        if end > known:
            if known < 0 or not known <= first <= known + _MARKER or end - first != len(written):
                return False
            self._next[partition] = end
        return True

    async def answers(self, places: dict[int, int]) -> dict[int, Record]:
        """The records at these places, by the same keys; a place that retention emptied is left out."""
        wanted = {at(where): key for key, where in places.items()}
        found: dict[int, Record] = {}
        async with self._lock:
            reader = await self._started()
            for partition, start, end in _runs(sorted(wanted)):
                async for records in reader.read(partition, start, end):
                    found.update(
                        (wanted[partition, record.offset], record)
                        for record in records
                        if (partition, record.offset) in wanted
                    )
        return found


def _runs(places: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Sorted places as few stretches (partition, first, end)."""
    runs: list[tuple[int, int, int]] = []
    for partition, offset in places:
        if runs and runs[-1][0] == partition and offset - runs[-1][2] < _GAP:
            runs[-1] = (partition, runs[-1][1], offset + 1)
        else:
            runs.append((partition, offset, offset + 1))
    return runs
