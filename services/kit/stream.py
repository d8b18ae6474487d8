"""The batch stream: records in batches over plain aiokafka, their offsets committed with the state they belong to."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import event_of

from . import deadletters, kafka, poison
from .again import Backoff
from .away import is_away
from .cloudevents import check_version
from .context import Context, system, use
from .db import Database, Tx
from .errors import Invalid
from .health import Progress
from .settings import Settings
from .telemetry import STREAM_LAG, STREAM_RECORDS, get_logger

if TYPE_CHECKING:
    from .burial import Burial

log = get_logger(__name__)

_ATTEMPTS = 3
Partition = tuple[str, int]
Places = dict[TopicPartition, int]


@dataclass(slots=True)
class Record:
    """One record as it lies in Kafka. Not frozen, as nothing is that is made for each record: it would cost thrice."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    addressee: bytes | None = None
    """The service that a replayed dead letter is for; None for all other records."""
    dataschema: bytes | None = None
    """Of which version it says that it is."""


def taken(found: Any) -> Record:
    """A record as the client gives it; its headers are looked through once, as all that read it ask whom it is for, and
    of which version it is."""
    headers = found.headers
    named = dict(headers)
    if None in named.values():
        headers = [(name, value or b"") for name, value in headers]
    addressee = deadletters.addressee(headers) if deadletters.FOR in named else None
    return Record(
        found.offset, found.timestamp, found.key, found.value, headers, addressee, named.get("ce_dataschema")
    )  # fmt: skip


@dataclass(frozen=True)
class PartitionBatch:
    """Consecutive records of one partition."""

    topic: str
    partition: int
    first: int
    """The offset that was next before this batch: what the stored state ends at."""
    next: int
    """The offset that is next after it."""
    end: int
    """The partition's end when the batch was read: `next >= end` says that it is read to its end."""
    records: Sequence[Record]

    def halves(self) -> "tuple[PartitionBatch, PartitionBatch]":
        """The same records as two batches, one after the other."""
        left, right = self.records[: len(self.records) // 2], self.records[len(self.records) // 2 :]
        middle = left[-1].offset + 1
        return replace(self, records=left, next=middle), replace(self, records=right, first=middle)


class Moved(Exception):
    """Another worker advanced this partition: this one lost it and must not write."""


class TooMuch(Exception):
    """A handler would hold more of a batch in memory than it should; raised of several records only."""


Handler = Callable[[Tx, PartitionBatch], Awaitable[None]]
Tick = Callable[[Mapping[Partition, bool]], Awaitable[None]]
"""Called between polls with the assigned partitions and whether each is read to its end."""


class BatchConsumer:
    """Exactly-once folding: `handle` writes state in the transaction that also moves the offset.

    Kafka's group only assigns partitions. The truth about positions is in PostgreSQL, advanced by compare-and-set,
    so a worker that was stalled past its session cannot write over its successor. A record that makes `handle` fail
    whatever its company is a dead letter, and so is one of a version that is not understood here: it stops nobody. A
    Kafka client that has not answered for `patience_s` is
    replaced, and the next one goes on from the stored offsets.
    """

    def __init__(
        self,
        settings: Settings,
        db: Database,
        topics: Sequence[str],
        group: str,
        handle: Handler,
        burial: "Burial",
        *,
        tick: Tick | None = None,
        progress: Progress | None = None,
        max_records: int = 2000,
        poll_ms: int = 500,
        pause_ms: int = 0,
        patience_s: float = kafka.PATIENCE_S,
    ) -> None:
        self._settings = settings
        self._db = db
        self._topics = list(topics)
        self._group = group
        self._handle = handle
        self._burial = burial
        self._tick = tick
        self._progress = progress or Progress()
        self._max_records = max_records
        self._poll_ms = poll_ms
        self._pause_s = pause_ms / 1000  # lets records collect, where a batch becomes a file
        self._patience_s = patience_s
        self._name = f"stream {group}"
        self._progress.expect(self._name, grace_s=15.0)

    async def run(self) -> None:
        """Consume until cancelled; Kafka or PostgreSQL being away, or a partition that moved, only delays."""
        backoff = Backoff(0.2)
        while True:
            try:
                await self._consume()
            except Exception as error:
                if not (isinstance(error, Moved) or is_away(error)):
                    raise
                self._progress.fail(self._name, f"{type(error).__name__}: {error}")
                log.warning("a stream is delayed", group=self._group, error=str(error)[:200])
                await asyncio.sleep(backoff.pause())

    async def _consume(self) -> None:
        connection = kafka.Connection.read(self._settings.kafka_properties)
        consumer = AIOKafkaConsumer(
            **connection.aiokafka(), group_id=self._group, enable_auto_commit=False, auto_offset_reset="earliest",
            isolation_level="read_committed", fetch_max_wait_ms=kafka.IDLE_FETCH_MS,
            max_partition_fetch_bytes=4 * 1024 * 1024,
        )  # fmt: skip
        listener, pulse = _SeekOnAssignment(consumer, self._positions), kafka.Pulse(consumer)
        consumer.subscribe(self._topics, listener=listener)
        try:
            async with kafka.within(kafka.LONG_S, "joining the group"):
                await consumer.start()
            while True:
                fetched = await self._poll(consumer, listener)
                await self._tell_progress(pulse, fetched)
                await self._between_polls(consumer, listener)
                if fetched and self._pause_s:
                    await asyncio.sleep(self._pause_s)
        finally:
            await kafka.close(consumer)

    async def _poll(self, consumer: AIOKafkaConsumer, listener: "_SeekOnAssignment") -> bool:
        """Fold what there is; answers whether there was something."""
        places = listener.sought()
        self._progress.work(self._name)
        fetched = await self._fetch(consumer, listener)
        for tp, records in fetched.items():
            if listener.places is places and tp in places and records:
                await self._fold(consumer, tp, records, places)
        if listener.places is not places:
            # Assigned anew meanwhile: what was read may be from what the group committed, not from our place.
            listener.seek()
        return bool(fetched)

    async def _fetch(
        self, consumer: AIOKafkaConsumer, listener: "_SeekOnAssignment"
    ) -> Mapping[TopicPartition, Sequence[Any]]:
        try:
            # While the group is assigned anew, aiokafka waits for the assignment, not for its timeout.
            async with kafka.within(self._patience_s, "a fetch"):
                return await consumer.getmany(timeout_ms=self._poll_ms, max_records=self._max_records)
        except UnicodeDecodeError:
            listener.seek()  # what other partitions had given is lost with the failed call
            return {tp: await poison.narrow(consumer, tp, self._max_records) for tp in list(listener.sought())}

    async def _fold(
        self, consumer: AIOKafkaConsumer, tp: TopicPartition, records: Sequence[Any], places: Places
    ) -> None:
        first = places[tp]
        if records[0].offset < first:
            await self._start_over(tp, first, records[0].offset)
        highwater = consumer.highwater(tp) or records[-1].offset + 1
        batch = PartitionBatch(
            tp.topic, tp.partition, first, records[-1].offset + 1, highwater,
            list(map(taken, records)),
        )  # fmt: skip
        with use(Context(system(self._db.service))):
            await self._settle(batch)
        places[tp] = batch.next
        STREAM_RECORDS.labels(tp.topic).inc(len(records))
        STREAM_LAG.labels(tp.topic, tp.partition).set(max(0, highwater - batch.next))

    async def _settle(self, batch: PartitionBatch) -> None:
        """Fold a batch; where that fails, its halves, down to the record that cannot be folded."""
        self._progress.work(self._name)
        try:
            await self._commit(batch, self._handle_understood)
        except Exception as error:
            if isinstance(error, Moved) or is_away(error):
                raise
            if len(batch.records) == 1:
                await self._settle_one(batch, error)
                return
            if not isinstance(error, TooMuch):
                log.warning(
                    "a batch failed and is halved", topic=batch.topic, records=len(batch.records), error=repr(error)
                )
            for half in batch.halves():
                await self._settle(half)

    async def _settle_one(self, batch: PartitionBatch, error: Exception) -> None:
        """A few tries, then a dead letter."""
        for attempt in range(1, _ATTEMPTS):
            await asyncio.sleep(0.1 * 4**attempt)
            try:
                await self._commit(batch, self._handle_understood)
                return
            except Exception as again:
                if isinstance(again, Moved) or is_away(again):
                    raise
                error = again

        async def give_up(_: Tx, batch: PartitionBatch) -> None:
            await self._burial.bury(batch, [(batch.records[0], error)])

        await self._commit(batch, give_up)

    async def _handle_understood(self, tx: Tx, batch: PartitionBatch) -> None:
        """Let the handler have the records of a version that is understood here; the others are dead letters."""
        letters = self._strange(batch)
        if letters:
            strange = {record.offset for record, _ in letters}
            batch = replace(batch, records=[record for record in batch.records if record.offset not in strange])
        await self._handle(tx, batch)
        await self._burial.bury(batch, letters)

    def _strange(self, batch: PartitionBatch) -> list[tuple[Record, BaseException | str]]:
        """The records of another major version than ours, with what is to be said of each."""
        letters: list[tuple[Record, BaseException | str]] = []
        event = event_of(batch.topic)
        if event is None:
            return letters
        ours = event.schema_id().encode()
        for record in batch.records:
            said = record.dataschema
            if said == ours or said is None or record.value is None or self._burial.for_another(record):
                continue
            try:
                check_version(event, said.decode(errors="replace"))
            except Invalid as reason:
                letters.append((record, reason))
        return letters

    async def _commit(self, batch: PartitionBatch, handle: Handler) -> None:
        async with self._db.transaction() as tx:
            await self._advance(tx.session, batch)
            await handle(tx, batch)

    async def _start_over(self, tp: TopicPartition, stored: int, found: int) -> None:
        """The topic is younger than what is stored of it (it was made anew): read it from its beginning."""
        log.error("a topic is shorter than what was read of it", topic=tp.topic, partition=tp.partition, stored=stored)
        moved = (
            "UPDATE stream_offset SET next = :found WHERE name = :name AND topic = :topic AND partition = :partition"
        )
        place = {"name": self._group, "topic": tp.topic, "partition": tp.partition, "found": found}
        async with self._db.chassis() as session:
            await session.execute(text(moved + " AND next = :stored"), place | {"stored": stored})
        raise Moved(f"{tp.topic}[{tp.partition}] begins again at {found}")

    async def _tell_progress(self, pulse: kafka.Pulse, fetched: bool) -> None:
        if fetched:
            pulse.felt()
        if await pulse.beats():
            self._progress.beat(self._name)
            return
        self._progress.fail(self._name, "Kafka does not answer")
        pulse.endure(self._patience_s)

    async def _between_polls(self, consumer: AIOKafkaConsumer, listener: "_SeekOnAssignment") -> None:
        # aiokafka's positions, not ours: they also pass the markers that end transactions.
        async with kafka.within(self._patience_s, "finding a position"):
            read = {tp: await consumer.position(tp) for tp in listener.sought()}
        if self._tick:
            await self._tick({(tp.topic, tp.partition): _is_end(consumer.highwater(tp), at) for tp, at in read.items()})
        # For onlookers only: dashboards read the group's lag from Kafka.
        if read and read != listener.told:
            listener.told = read
            await _tell_group(consumer, read)

    async def _positions(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        select = "SELECT topic, partition, next FROM stream_offset WHERE name = :name"
        async with self._db.chassis() as session:
            rows = {
                TopicPartition(r.topic, r.partition): int(r.next)
                for r in await session.execute(text(select), {"name": self._group})
            }
        return {tp: rows.get(tp, 0) for tp in partitions}

    async def _advance(self, session: AsyncSession, batch: PartitionBatch) -> None:
        """Move the stored offset from `first` to `next`. Raises Moved when it is not at `first`."""
        advance = """
            INSERT INTO stream_offset AS stored (name, topic, partition, next)
            VALUES (:name, :topic, :partition, :next)
            ON CONFLICT (name, topic, partition) DO UPDATE SET next = :next WHERE stored.next = :first
            RETURNING next
        """
        place = {"name": self._group, "topic": batch.topic, "partition": batch.partition}
        moved = await session.execute(text(advance), place | {"next": batch.next, "first": batch.first})
        if moved.first() is None:
            raise Moved(f"{batch.topic}[{batch.partition}] is no longer at {batch.first}")


class _SeekOnAssignment(ConsumerRebalanceListener):
    """Kafka's own committed offsets are never asked: each assigned partition is sought explicitly, 0 too."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        positions: Callable[[Sequence[TopicPartition]], Awaitable[Places]],
    ) -> None:
        self._consumer = consumer
        self._positions = positions
        self._failed: Exception | None = None
        self.places: Places = {}
        """Another mapping after each assignment: what was read under one says nothing under the next."""
        self.told: Places = {}
        """What the group was told last: an idle stream need not say it again at each poll."""

    def sought(self) -> Places:
        """The next offsets of this worker's partitions, empty until they were sought. Raises what prevented it."""
        if self._failed:
            raise self._failed
        return self.places

    def seek(self) -> None:
        """Read on from our own places, whatever was read since they were assigned."""
        for tp, offset in self.places.items():
            self._consumer.seek(tp, offset)

    async def on_partitions_revoked(self, revoked: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Nothing to flush: state and offsets committed together."""
        self.places = {}

    async def on_partitions_assigned(self, assigned: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            positions = await self._positions(sorted(assigned))
        except Exception as error:  # noqa: BLE001 - aiokafka would log it and read on from another place
            self._failed = error
            return
        self.places = positions
        self.seek()


def _is_end(highwater: int | None, position: int) -> bool:
    """Whether a partition is read to its end: an empty one is, one that was never fetched is not known to be."""
    return highwater is not None and position >= highwater


async def _tell_group(consumer: AIOKafkaConsumer, positions: dict[TopicPartition, int]) -> None:
    try:
        # aiokafka would look for the group's coordinator for as long as Kafka is away.
        await asyncio.wait_for(consumer.commit(positions), 5)
    except (kafka.KafkaError, TimeoutError) as error:
        log.debug("the group's offsets are not told", error=str(error)[:200])
