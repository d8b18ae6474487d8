"""The event bus: one FastStream consumer per service over its control topics, with failures handled by class."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from math import inf
from typing import Any, TypeVar

from aiokafka import TopicPartition
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage
from pydantic import ValidationError

from contracts import Envelope, Event, Service

from . import deadletters, inbox, kafka
from .away import is_away
from .cloudevents import check_version, envelope
from .context import Claim, Context, Place, system, use
from .db import AlreadyHandled, Database
from .errors import Invalid, NotYet, Refusal
from .health import Progress
from .parked import Parking
from .settings import Settings
from .telemetry import EVENTS_HANDLED, get_logger

log = get_logger(__name__)

_ATTEMPTS = 3
_PAUSE_S = 5.0
_CLUSTER = "bus cluster"
_FAREWELL_S = 25.0
"""FastStream gives a handler in hand 15 s to end."""

_envelope: ContextVar[Envelope] = ContextVar("fairlead_envelope")


def current_envelope() -> Envelope:
    """The envelope of the event that is being handled."""
    return _envelope.get()


@dataclass(frozen=True)
class Subscription:
    """One reaction of a service: an event and the use case that it starts."""

    event: type[Event]
    handle: Callable[[Any], Awaitable[object]]


E = TypeVar("E", bound=Event)


def on(event: type[E], handle: Callable[[E], Awaitable[object]]) -> Subscription:
    """React to an event: `on(ModelRegistered, governor.start_life_cycle)`."""
    return Subscription(event, handle)


@dataclass(frozen=True)
class Delivery:
    """A record as it came, or as it was parked."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: float = inf
    """Of the record; one that was parked has none."""
    end: int | None = None
    """Of the partition when the record was read; None where that is not known."""

    @property
    def place(self) -> Place:
        return Place(self.topic, self.partition, self.offset, self.end)


class HalfDone(Exception):
    """A handler failed after its transaction: another try would find the event handled and end as if all were well."""


class Deaf(Exception):
    """The bus runs and consumes nothing."""


class Bus:
    """Delivers events to use cases: each has its effect once, none is skipped silently."""

    def __init__(
        self,
        settings: Settings,
        service: Service,
        db: Database,
        subscriptions: Iterable[Subscription],
        progress: Progress,
    ) -> None:
        self._service: Service = service
        self._db = db
        self._progress = progress
        self._table = {s.event.topic.name: s for s in subscriptions}
        self._parking = Parking(db, self._work, self._bury)
        connection = kafka.Connection.read(settings.kafka_properties)
        self._broker = KafkaBroker(
            connection.bootstrap,
            security=connection.faststream(), enable_idempotence=True, acks="all", logger=None, client_id=service,
            max_request_size=deadletters.LARGEST_LETTER,
        )  # fmt: skip
        self._subscriber = None
        if self._table:
            # One consumer over all control topics: thirty idle consumers cost twice what eight do.
            self._subscriber = self._broker.subscriber(
                *self._table, group_id=service, auto_offset_reset="earliest", isolation_level="read_committed",
                ack_policy=AckPolicy.MANUAL, no_reply=True, parser=_unparsed, decoder=_undecoded,
                fetch_max_wait_ms=kafka.IDLE_FETCH_MS,
            )  # fmt: skip
            self._subscriber(self._receive)
            progress.expect(_CLUSTER, grace_s=10.0)
        progress.expect("bus", grace_s=10.0)

    async def run(self) -> None:
        """Consume until cancelled. Raises what a new bus may cure: a silent cluster, a consumption that ended."""
        delay = 0.2
        while True:
            try:
                await self._broker.start()
                break
            except Exception as error:
                if not kafka.is_away(error):
                    raise
                self._progress.fail("bus", f"Kafka is away: {error}")
                await asyncio.sleep(delay)
                delay = min(delay * 2, _PAUSE_S)
        self._progress.beat("bus")
        jobs = [asyncio.create_task(job(), name=f"bus {job.__name__}") for job in (self._parking.run, self._watch)]
        try:
            ended, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            for job in ended:
                job.result()
        finally:
            for job in jobs:
                job.cancel()
            await self._close()

    async def _close(self) -> None:
        """FastStream waits for aiokafka's farewells, which may have no end."""
        if self._subscriber and self._subscriber.consumer:
            await kafka.close(self._subscriber.consumer, self._subscriber.stop(), within_s=_FAREWELL_S)
            self._subscriber.consumer = None
        ending = asyncio.create_task(self._broker.stop())
        await asyncio.wait([ending], timeout=_FAREWELL_S)
        ending.cancel()

    async def _watch(self) -> None:
        """FastStream waits for a cluster that is away and tells nobody. Raises what another consumer may cure."""
        if self._subscriber is None or self._subscriber.consumer is None:
            await asyncio.Event().wait()  # nothing is consumed
            return
        pulse = kafka.Pulse(self._subscriber.consumer)
        while True:
            if all(task.done() for task in self._subscriber.tasks):
                # Something that a handler awaited was cancelled: FastStream takes it for its own end.
                raise Deaf("nothing is consumed any more")
            # A part of its own: it must not cover what `bus` says of its handlers.
            if await pulse.beats():
                self._progress.beat(_CLUSTER)
            else:
                self._progress.fail(_CLUSTER, "Kafka does not answer")
                pulse.endure(kafka.PATIENCE_S)
            await asyncio.sleep(kafka.PULSE_S)

    async def _receive(self, message: KafkaMessage) -> None:
        record: Any = message.raw_message
        delivery = Delivery(
            record.topic, record.partition, record.offset, record.key or b"", record.value,
            tuple((name, value or b"") for name, value in record.headers),
            record.timestamp, self._end(record),
        )  # fmt: skip
        self._progress.work("bus")
        try:
            await self._settle(delivery)
        except Exception as error:
            if not is_away(error):
                log.error("a delivery failed outside its handler", exc_info=error)
            # Infrastructure is away: the record is not acknowledged and comes again, for as long as it takes.
            self._progress.fail("bus", f"{type(error).__name__}: {error}")
            await asyncio.sleep(_PAUSE_S / 5)
            await message.nack()
        else:
            self._progress.beat("bus")
            await message.ack()

    def _end(self, record: Any) -> int | None:
        consumer = self._subscriber.consumer if self._subscriber else None
        place = TopicPartition(record.topic, record.partition)
        return consumer.highwater(place) if consumer and place in consumer.assignment() else None

    async def _settle(self, delivery: Delivery) -> None:
        """Handle, park or bury; raises only where infrastructure is away."""
        if delivery.value is None or deadletters.addressed_to_another(delivery.headers, self._service):
            return
        if await self._is_an_old_repeat(delivery):
            EVENTS_HANDLED.labels(delivery.topic, "repeat").inc()
            return
        try:
            await self._handle_or_park(delivery)
        except Exception as error:
            if is_away(error):
                raise
            await self._bury(delivery, error)  # also what cannot even be parked: a key or a header with a NUL

    async def _is_an_old_repeat(self, delivery: Delivery) -> bool:
        """Whether it was settled so long ago that its id is forgotten: a group that was away reads from the start."""
        if not inbox.may_have_forgotten(time.time() - delivery.timestamp_ms / 1000):
            return False
        async with self._db.chassis() as session:
            return await inbox.passed(session, delivery.place)

    async def _handle_or_park(self, delivery: Delivery) -> None:
        if await self._parking.holds(delivery):
            await self._parking.park(delivery, "waits behind an earlier event of its key")
            return
        try:
            await self._work(delivery)
        except NotYet as reason:
            await self._parking.park(delivery, str(reason))
            EVENTS_HANDLED.labels(delivery.topic, "parked").inc()
        else:
            await self._parking.something_arrived()

    async def _work(self, delivery: Delivery) -> None:
        """Let the use case have its effect. Raises NotYet, Refusal, HalfDone, or what went wrong three times."""
        subscription, about, event = self._decode(delivery)
        for attempt in range(1, _ATTEMPTS + 1):
            claim = Claim(f"{about.source} {about.id}", delivery.place)
            caller = system(self._service, about.unit)
            story = {"correlation_id": about.correlation_id, "traceparent": about.traceparent}
            token = _envelope.set(about)
            try:
                with use(Context(caller, claim=claim, **{k: v for k, v in story.items() if v})):
                    await subscription.handle(event)
                EVENTS_HANDLED.labels(delivery.topic, "handled").inc()
                return
            except AlreadyHandled:
                EVENTS_HANDLED.labels(delivery.topic, "repeat").inc()
                return
            except Exception as error:
                if claim.taken:
                    raise HalfDone(f"its transaction is done, what followed is not: {error!r}") from error
                if isinstance(error, (NotYet, Refusal)) or is_away(error) or attempt == _ATTEMPTS:
                    raise
                log.warning(
                    "a handler failed and is tried again", topic=delivery.topic, attempt=attempt, exc_info=error
                )
                await asyncio.sleep(0.1 * 4**attempt)
            finally:
                _envelope.reset(token)

    def _decode(self, delivery: Delivery) -> tuple[Subscription, Envelope, Event]:
        about = envelope(delivery.headers)
        subscription = self._table[delivery.topic]
        event = subscription.event
        if about.type != event.type():
            raise Invalid(f"{delivery.topic} carries {event.type()}, not {about.type[:80]}")
        check_version(event, about.dataschema)
        try:
            return subscription, about, event.from_json(delivery.value or b"")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the body"
            raise Invalid(f"{where}: {first['msg']}", where) from None

    async def _bury(self, delivery: Delivery, error: BaseException) -> None:
        """Into the dead-letter topic, with the reason."""
        log.error("dead letter", topic=delivery.topic, offset=delivery.offset, reason=str(error)[:500], exc_info=error)
        place = (self._service, delivery.topic, delivery.partition, delivery.offset)
        value, headers = deadletters.letter(delivery.value, delivery.headers, *place, error)
        await self._broker.publish(
            value,
            deadletters.topic_of(delivery.topic),
            key=delivery.key,
            headers={name: content.decode(errors="replace") for name, content in headers},
        )
        EVENTS_HANDLED.labels(delivery.topic, "dead").inc()


async def _unparsed(record: Any, parse: Callable[[Any], Awaitable[KafkaMessage]]) -> KafkaMessage:
    """FastStream would decode headers and skip a record where one is none or no UTF-8: we read them ourselves."""
    message = await parse(replace(record, headers=()))
    message.raw_message = record
    return message


async def _undecoded(message: KafkaMessage) -> Any:
    """FastStream would decode by content type and fail before our middleware: we validate the body ourselves."""
    return message
