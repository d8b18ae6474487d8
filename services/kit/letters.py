"""Dead letters from the operator's side: which wait, and giving them to their service again."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from . import deadletters
from .errors import Conflict, Invalid
from .kafka import Connection
from .topics import REPLAYED, administering, committed, scattered
from .watch import Positions, Seen, Wanted, answering, at, newest, onwards

_AT_ONCE = 500
_COUNTED = 1_000
_LARGEST = 8 * 1024 * 1024
_NOTED_LIMIT = 3500
"""Kafka keeps 4 KiB beside a committed offset."""
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Mark:
    """What of a partition of dead letters has been replayed: all below `below`, and single ones beyond."""

    below: int = 0
    single: frozenset[int] = frozenset()

    def covers(self, offset: int) -> bool:
        """Whether the record at this offset was replayed."""
        return offset < self.below or offset in self.single

    def with_(self, offsets: Iterable[int]) -> "Mark":
        """The mark after these were replayed too; single ones that reach `below` are folded into it."""
        single, below = set(self.single) | set(offsets), self.below
        while below in single:
            below += 1
        return Mark(below, frozenset(n for n in single if n >= below))

    def from_(self, start: int) -> "Mark":
        """The mark where the topic's retention has removed everything before `start`."""
        return Mark(max(self.below, start), self.single).with_(())

    @property
    def noted(self) -> str:
        """The single ones as they are kept beside the committed offset."""
        return ",".join(_base36(n) for n in sorted(self.single))


@dataclass(frozen=True)
class Letter:
    """A dead letter, and whether it has been replayed."""

    record: Seen
    replayed: bool

    @property
    def source(self) -> str:
        """The topic that it came from."""
        return self.record.header("__connect.errors.topic")

    @property
    def service(self) -> str:
        """Who could not handle it."""
        return self.record.header(deadletters.FROM)

    def why_not(self) -> str | None:
        """Why this one cannot be given out again from here; None where nothing is against it."""
        record = self.record
        if deadletters.topic_of(self.source) != record.topic or not self.service:
            return f"{record.topic} {record.partition}:{record.offset} names no source"
        if record.header(deadletters.LEFT_OUT):
            place = f"{record.header('__connect.errors.partition')}:{record.header('__connect.errors.offset')}"
            return f"{self.source} {place} is too large to be replayed from here"
        return None


class DeadLetters:
    """Reads and replays `dlq.*`; the marks are committed offsets of a group of the console's own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = asyncio.Lock()

    async def waiting(
        self, topics: Iterable[str], limit: int, wanted: Wanted = lambda _: True, below: Positions | None = None
    ) -> tuple[list[Letter], Positions]:
        """Wanted dead letters, newest first, and below which offsets older ones lie (`newest`). Raises NotFound."""
        asked = [topic for topic in topics if topic.startswith("dlq.")]
        if not asked:
            return [], {}
        (found, rest), marks = await asyncio.gather(
            newest(self._connection, asked, limit, wanted, below), self._marks()
        )
        return [_letter(record, marks) for record in found], rest

    async def counted(self, topics: Sequence[str], wanted: Wanted) -> Counter[str]:
        """How many wanted letters wait in each topic, as far as the newest thousand of all. Raises NotFound."""
        if not topics:
            return Counter()
        marks = await self._marks()
        waits: Wanted = lambda record: wanted(record) and not _letter(record, marks).replayed  # noqa: E731
        found, _ = await newest(self._connection, topics, _COUNTED, waits)
        return Counter(record.topic for record in found)

    async def unreplayed(self, topic: str) -> AsyncGenerator[list[Letter]]:
        """All letters of a topic that nobody has given out again, the oldest first, some at a time. Raises NotFound."""
        _check(topic)
        marks = await self._marks()
        start = {partition: mark.below for (name, partition), mark in marks.items() if name == topic}
        async with aclosing(onwards(self._connection, topic, start, _AT_ONCE)) as parts:
            async for part in parts:
                yield [letter for letter in (_letter(record, marks) for record in part) if not letter.replayed]

    async def pick(self, topic: str, places: Iterable[tuple[int, int]]) -> list[Letter]:
        """The letters at (partition, offset). Raises NotFound, Invalid."""
        _check(topic)
        found, marks = await asyncio.gather(at(self._connection, topic, places), self._marks())
        return [_letter(record, marks) for record in found]

    async def replay(self, letters: Iterable[Letter]) -> int:
        """Write letters into their source topics, addressed to the service that gave each up; mark them.

        A replay may be repeated: services recognise what they have handled. Raises Invalid for a record that
        does not name its source, Conflict where too many single ones are marked.
        """
        chosen = list(letters)
        if reasons := [reason for letter in chosen if (reason := letter.why_not())]:
            raise Invalid(reasons[0])
        if not chosen:
            return 0
        async with self._lock:
            marks = _marked(await self._marks(), chosen)
            with answering():
                await self._write(chosen)
                await self._save(marks)
        return len(chosen)

    async def _write(self, letters: list[Letter]) -> None:
        producer = AIOKafkaProducer(
            **self._connection.aiokafka(), enable_idempotence=True, acks="all", max_request_size=_LARGEST
        )
        try:
            await producer.start()
            for letter in letters:
                headers = deadletters.source_headers(letter.record.headers, letter.service)
                await producer.send_and_wait(letter.source, letter.record.value, letter.record.key, headers=headers)
        finally:
            await producer.stop()

    async def _marks(self) -> dict[tuple[str, int], Mark]:
        with answering():
            async with administering(self._connection) as admin:
                found = await committed(admin, REPLAYED)
        return {place: Mark(offset, frozenset(scattered(noted))) for place, (offset, noted) in found.items()}

    async def _save(self, marks: Mapping[tuple[str, int], Mark]) -> None:
        consumer = AIOKafkaConsumer(**self._connection.aiokafka(), group_id=REPLAYED, enable_auto_commit=False)
        try:
            await consumer.start()
            places = {TopicPartition(*place): mark for place, mark in marks.items()}
            consumer.assign(list(places))
            starts = await consumer.beginning_offsets(list(places))
            settled = {tp: mark.from_(starts[tp]) for tp, mark in places.items()}
            await consumer.commit({tp: OffsetAndMetadata(m.below, m.noted) for tp, m in settled.items()})
        finally:
            await consumer.stop()


def _letter(record: Seen, marks: Mapping[tuple[str, int], Mark]) -> Letter:
    return Letter(record, marks.get((record.topic, record.partition), Mark()).covers(record.offset))


def _marked(marks: Mapping[tuple[str, int], Mark], letters: Iterable[Letter]) -> dict[tuple[str, int], Mark]:
    changed: dict[tuple[str, int], Mark] = {}
    for letter in letters:
        place = (letter.record.topic, letter.record.partition)
        changed[place] = changed.get(place, marks.get(place, Mark())).with_([letter.record.offset])
    for (topic, _), mark in changed.items():
        if len(mark.noted) > _NOTED_LIMIT:
            raise Conflict(f"too many single records of {topic} have been replayed: replay the oldest ones first")
    return changed


def _check(topic: str) -> None:
    if not topic.startswith("dlq."):
        raise Invalid(f"{topic[:80]} is not a topic of dead letters: their names begin with dlq.", "topic")


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits or "0"
