"""Exactly once from a topic to topics: a transaction for each micro-batch, fenced by a static id for each partition.

Correctness rests on one rule, whoever owns a partition and whatever the group believes: committed offsets are read
only after the partition's transactional id was initialised, which ends every earlier transaction under that id and
fences its producer. A transaction therefore starts where the last committed one ended, or fails.
"""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from . import poison
from .again import Backoff
from .errors import Unavailable
from .health import Progress
from .kafka import IDLE_FETCH_MS, LONG_S, PATIENCE_S, Connection, Pulse, close, partitions_of, within
from .telemetry import STREAM_LAG, STREAM_RECORDS, get_logger
from .transaction_output import BATCH_BYTES, Output, Placed

log = get_logger(__name__)

_ATTEMPTS = 3
_IDLE_MS = 1000
"""How long a lane waits for records before it looks around; what comes is read at once."""


class Incoming(Protocol):
    """A record as the client read it: making another object of each would cost more than reading it."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class Work(Protocol):
    """What is done with the records of one partition after the other."""

    async def opened(self, partition: int) -> None:
        """The partition is fenced: nobody else can write its results. Bring state up to date."""
        ...

    async def handle(self, partition: int, records: Sequence[Incoming], out: "Output") -> None:
        """Put the results of all records into `out`. Nothing is visible before the transaction commits."""
        ...

    def reject(self, partition: int, record: Incoming, error: Exception, out: "Output") -> None:
        """A record that `handle` cannot survive, even alone: say so in `out`."""
        ...

    async def committed(self, partition: int, placed: dict[tuple[str, int], list[Placed]]) -> None:
        """The transaction of the last `handle` is durable."""
        ...

    def dropped(self, partition: int) -> None:
        """The transaction of the last `handle` may or may not have happened: `opened` comes next."""
        ...


class Lane:
    """One input partition: its consumer's share, its producer, and where its records come next."""

    def __init__(self, stream: "TransactionalStream", consumer: AIOKafkaConsumer, tp: TopicPartition) -> None:
        self._stream = stream
        self._consumer = consumer
        self._tp = tp
        self._stopping = asyncio.Event()
        self._limit = stream.max_records
        self._failures = 0
        self._reading = False
        self._refused: tuple[int, Exception] | None = None
        """The offset of a record whose results the broker does not take."""
        self._task = asyncio.create_task(self._run(), name=f"lane {tp.topic}/{tp.partition}")

    @property
    def task(self) -> "asyncio.Task[None]":
        """Ends when the lane does, with what ended it."""
        return self._task

    async def stop(self, grace_s: float = 4.0) -> None:
        """Finish the transaction in hand, or give it up: the next owner fences it."""
        self._stopping.set()
        if self._reading:  # nothing is in hand; aiokafka holds a read back until the join that waits here has ended
            self._task.cancel()
        _, pending = await asyncio.wait([self._task], timeout=grace_s)
        for task in pending:
            task.cancel()
            await asyncio.wait([task], timeout=grace_s)
        if self._task.done() and not self._task.cancelled() and (error := self._task.exception()):
            log.info("a lane had ended", topic=self._tp.topic, partition=self._tp.partition, error=repr(error)[:300])

    async def _run(self) -> None:
        backoff = Backoff(0.2)
        while not self._stopping.is_set():
            producer = self._stream.producer(self._tp.partition)
            try:
                await self._open(producer)
                await self._pump(producer)
            except ConsumerBroken:
                raise
            except (KafkaError, OSError, TimeoutError, AssertionError, Unavailable) as error:
                # aiokafka asserts the states of its transactions: a fatal producer shows as AssertionError.
                self._stream.trouble(self._tp.partition, error)
            finally:
                self._stream.work.dropped(self._tp.partition)
                await close(producer)
            await _sleep(self._stopping, backoff.pause())

    async def _open(self, producer: AIOKafkaProducer) -> None:
        """Fence, then read the committed offset, then seek: never in another order (DECISIONS 8)."""
        self._consumer.pause(self._tp)
        await asyncio.wait_for(producer.start(), 60)
        await self._stream.work.opened(self._tp.partition)
        with _asking():
            async with within(self._stream.patience_s, "finding the committed place"):
                committed = await self._consumer.committed(self._tp)
            if committed is None:
                async with within(self._stream.patience_s, "finding the beginning"):
                    await self._consumer.seek_to_beginning(self._tp)
            else:
                self._consumer.seek(self._tp, committed)
        self._consumer.resume(self._tp)

    async def _pump(self, producer: AIOKafkaProducer) -> None:
        pending: Sequence[Incoming] = ()
        while not self._stopping.is_set():
            pending = pending or await self._read()
            if not pending:
                continue
            if taken := await self._turn(producer, pending[: self._limit]):
                pending = pending[taken:]
                self._limit = min(self._limit * 2, self._stream.max_records)

    async def _read(self) -> Sequence[Incoming]:
        patience_s = self._stream.patience_s
        self._reading = True
        try:
            with _asking():
                found = await poison.read(
                    self._consumer, self._tp, self._limit, timeout_ms=_IDLE_MS, patience_s=patience_s
                )
        finally:
            self._reading = False
        await self._stream.tell_progress(fetched=bool(found))
        if end := self._consumer.highwater(self._tp):
            with _asking():
                async with within(patience_s, "finding a position"):
                    position = await self._consumer.position(self._tp)
            STREAM_LAG.labels(self._tp.topic, str(self._tp.partition)).set(max(0, end - position))
        return found

    async def _turn(self, producer: AIOKafkaProducer, records: Sequence[Incoming]) -> int:
        """One transaction over these records; answers how many are done, 0 to try again with fewer."""
        out = Output(producer, self._stream.partitions)
        if failure := await self._handle(records, out):
            if not await self._gives_up(records):
                return 0
            out = Output(producer, self._stream.partitions)
            self._stream.work.reject(self._tp.partition, records[0], failure, out)
        try:
            await self._commit(producer, records, out)
        except MessageSizeTooLargeError as error:  # the lane opens again, with fewer: the producer lost count
            self._limit = max(1, len(records) // 4)
            self._refused = (records[0].offset, error) if len(records) == 1 else None
            raise
        self._failures, self._refused = 0, None
        return len(records)

    async def _handle(self, records: Sequence[Incoming], out: Output) -> Exception | None:
        """Let the work handle them; answers what is wrong with them, whatever they do to it: the stream goes on."""
        if self._refused and self._refused[0] == records[0].offset and len(records) == 1:
            self._failures = _ATTEMPTS
            return self._refused[1]
        try:
            await self._stream.work.handle(self._tp.partition, records, out)
        except (KafkaError, OSError, TimeoutError, Unavailable):
            raise  # something that the work needs is away: no record's fault
        except Exception as error:
            log.exception("a micro-batch failed", topic=self._tp.topic, records=len(records), offset=records[0].offset)
            self._failures += 1
            return error
        return None

    async def _gives_up(self, records: Sequence[Incoming]) -> bool:
        """Whether the record is to be rejected: it failed alone, and often enough."""
        if len(records) > 1:
            self._limit = max(1, len(records) // 4)
            return False
        if self._failures < _ATTEMPTS:
            await _sleep(self._stopping, 0.2 * self._failures)
            return False
        return True

    async def _commit(self, producer: AIOKafkaProducer, records: Sequence[Incoming], out: Output) -> None:
        await producer.begin_transaction()
        placed = await out.send()
        await producer.send_offsets_to_transaction({self._tp: records[-1].offset + 1}, self._stream.group)
        await producer.commit_transaction()
        STREAM_RECORDS.labels(self._tp.topic).inc(len(records))
        await self._stream.work.committed(self._tp.partition, placed)


class ConsumerBroken(Exception):
    """The consumer itself failed: all lanes stop and a new one joins the group."""


class TransactionalStream:
    """One input topic, worked through exactly once by every process that runs it under the same group."""

    def __init__(
        self,
        connection: Connection,
        topic: str,
        group: str,
        work: Work,
        outputs: Sequence[str],
        progress: Progress,
        *,
        max_records: int = 5_000,
        session_timeout_ms: int = 6_000,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.topic, self.group, self.work, self.progress, self.max_records = topic, group, work, progress, max_records
        self.patience_s = patience_s
        self.part = f"stream {topic}"
        self.partitions: dict[str, int] = {}
        self._connection = connection
        self._outputs = outputs
        self._session_timeout_ms = session_timeout_ms
        self._lanes: dict[TopicPartition, Lane] = {}
        self._pulse: Pulse | None = None

    @property
    def owned(self) -> set[int]:
        """The partitions that this process works on now."""
        return {tp.partition for tp in self._lanes}

    async def run(self) -> None:
        """Until cancelled; a broker that is away is waited for without bound."""
        backoff = Backoff(0.5)
        while True:
            try:
                await self._live()
            except Exception as error:
                self.progress.fail(self.part, repr(error))
                expected = isinstance(error, (KafkaError, OSError, ConsumerBroken))
                log.warning("the stream starts again", topic=self.topic, exc_info=None if expected else error,
                            error=repr(error)[:300])  # fmt: skip
            await asyncio.sleep(backoff.pause())

    def producer(self, partition: int) -> AIOKafkaProducer:
        """A producer under the partition's static id; an abandoned transaction hides others' rows for 10 s at most."""
        return AIOKafkaProducer(
            **self._connection.aiokafka(), transactional_id=f"{self.group}.{partition}", transaction_timeout_ms=10_000,
            max_batch_size=BATCH_BYTES, request_timeout_ms=15_000, client_id=f"{self.group}.{partition}",
        )  # fmt: skip

    def trouble(self, partition: int, error: BaseException) -> None:
        """A lane failed and opens again."""
        self.progress.fail(self.part, f"partition {partition}: {error!r}")
        log.warning("a lane opens again", topic=self.topic, partition=partition, error=repr(error)[:300])

    async def tell_progress(self, *, fetched: bool) -> None:
        """The consumer was read; where it gave nothing, only a cluster that answers is progress.

        Raises ConsumerBroken where it has not answered for long: it may well answer another consumer.
        """
        if self._pulse and fetched:
            self._pulse.felt()
        if self._pulse is None or await self._pulse.beats():
            self.progress.beat(self.part)
            return
        self.progress.fail(self.part, "Kafka does not answer")
        try:
            self._pulse.endure(self.patience_s)
        except TimeoutError as error:  # a lane would take it for its own trouble, and keep the consumer
            raise ConsumerBroken(str(error)) from error

    async def _live(self) -> None:
        consumer = AIOKafkaConsumer(
            **self._connection.aiokafka(), group_id=self.group, enable_auto_commit=False, auto_offset_reset="earliest",
            isolation_level="read_committed", session_timeout_ms=self._session_timeout_ms, heartbeat_interval_ms=1_500,
            max_partition_fetch_bytes=4 * 1024 * 1024, metadata_max_age_ms=30_000, client_id=self.group,
            fetch_max_wait_ms=IDLE_FETCH_MS,
        )  # fmt: skip
        try:  # a start that is cancelled has tasks and connections too
            async with within(LONG_S, "reaching the cluster"):
                await consumer.start()
            await self._learn_partitions(consumer)
            self._pulse = Pulse(consumer)
            consumer.subscribe([self.topic], listener=_Listener(self, consumer))
            await self._watch(consumer)
        finally:
            await self.release()
            await close(consumer)

    async def _learn_partitions(self, consumer: AIOKafkaConsumer) -> None:
        """Wait until the deployer has made every topic: a consumer that subscribes earlier looks again only minutes
        later."""
        names = (self.topic, *self._outputs)
        while True:
            found = [tp.topic for tp in await partitions_of(consumer, *names)]
            counts = {name: found.count(name) for name in names}
            missing = [name for name, count in counts.items() if not count]
            if not missing:
                self.partitions = counts
                return
            self.progress.fail(self.part, f"no topic {', '.join(missing)}")
            await asyncio.sleep(0.5)

    async def _watch(self, consumer: AIOKafkaConsumer) -> None:
        """Lanes and the group run by themselves; here only their end is seen, which is never meant.

        Raises what ended them, or ConsumerBroken.
        """
        group = asyncio.create_task(self._follow(consumer), name=f"group {self.group}")
        try:
            while True:
                await asyncio.wait([group, *self._tasks()], timeout=1, return_when=asyncio.FIRST_EXCEPTION)
                for task in (group, *self._tasks()):  # those of now: lanes that were released have ended as they should
                    if task.done():
                        raise (None if task.cancelled() else task.exception()) or ConsumerBroken(
                            f"{task.get_name()} ended"
                        )
        finally:
            group.cancel()

    def _tasks(self) -> "list[asyncio.Task[None]]":
        return [lane.task for lane in self._lanes.values()]

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        """Surfaces the group's errors. A join waits for the other members, and for those that died: it takes long."""
        nowhere = TopicPartition(self.topic, -1)
        while True:
            # Without a partition it would take the records of a lane that opens meanwhile.
            with _asking():
                async with within(LONG_S, "joining the group"):
                    await consumer.getmany(nowhere, timeout_ms=0)
            if not self._lanes:
                await self.tell_progress(fetched=False)
            await asyncio.sleep(1.0 if self._lanes else 0.2)

    def take(self, consumer: AIOKafkaConsumer, assigned: set[TopicPartition]) -> None:
        """Start a lane for each partition. It opens outside of the join, which must not wait for transactions."""
        consumer.pause(*assigned)
        for tp in assigned:
            self._lanes[tp] = Lane(self, consumer, tp)

    async def release(self) -> None:
        """Stop all lanes: each finishes its transaction or leaves it to be fenced."""
        lanes, self._lanes = list(self._lanes.values()), {}
        await asyncio.gather(*(lane.stop() for lane in lanes))


class _Listener(ConsumerRebalanceListener):
    def __init__(self, stream: TransactionalStream, consumer: AIOKafkaConsumer) -> None:
        self._stream = stream
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        await self._stream.release()

    async def on_partitions_assigned(self, assigned: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._stream.take(self._consumer, assigned)


@contextmanager
def _asking() -> Generator[None]:
    """Something is asked of the consumer. Raises ConsumerBroken where it fails or hangs: another takes its place."""
    try:
        yield
    except (KafkaError, TimeoutError) as error:
        raise ConsumerBroken(repr(error)) from error


async def _sleep(stopping: asyncio.Event, seconds: float) -> None:
    """Wait, but no longer than until we are told to stop."""
    waiter = asyncio.create_task(stopping.wait())
    await asyncio.wait([waiter], timeout=seconds)
    waiter.cancel()
