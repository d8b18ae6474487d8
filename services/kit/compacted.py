"""State that lives in a compacted topic: read from its start, without a group, by every process that needs it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from pydantic import ValidationError

from contracts import Envelope, Event

from .again import Backoff
from .cloudevents import check_version, envelope
from .errors import Invalid
from .health import Progress
from .kafka import IDLE_FETCH_MS, PATIENCE_S, Connection, Pulse, close, is_away, partitions_of
from .settings import Settings
from .telemetry import COMPACTED_UNREAD, get_logger

log = get_logger(__name__)

E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Change(Generic[E]):
    """The newest state of a key; `event` is None where the key was removed."""

    key: str
    event: E | None
    envelope: Envelope | None
    offset: int


class CompactedTopic(Generic[E]):
    """Follows a compacted topic for ever; `caught_up` is set once everything that was there has been seen.

    A newest state that is not understood changes nothing: what was known of its key before still holds. It is told
    until a later record of the key is understood: by a metric, in `unread`, and to `progress` where there is one.
    """

    def __init__(self, settings: Settings, event: type[E], progress: Progress | None = None) -> None:
        self._settings = settings
        self._event = event
        self._progress = progress
        self._name = f"state {event.topic.name}"
        self.caught_up = asyncio.Event()
        self.unread: dict[str, str] = {}
        """By key, why its newest state is not understood."""
        if progress:
            progress.expect(self._name, grace_s=15.0)

    async def changes(self) -> AsyncIterator[Change[E]]:
        """Every change, from the topic's start; after an interruption from where it was."""
        positions: dict[TopicPartition, int] = {}
        backoff = Backoff(0.2)
        while True:
            try:
                async for change in self._follow(positions):
                    yield change
            except Exception as error:
                if not is_away(error):
                    raise
                if self._progress:
                    self._progress.fail(self._name, f"{type(error).__name__}: {error}")
                log.warning("a compacted topic is away", topic=self._event.topic.name, error=str(error)[:200])
                await asyncio.sleep(backoff.pause())

    async def _follow(self, positions: dict[TopicPartition, int]) -> AsyncIterator[Change[E]]:
        connection = Connection.read(self._settings.kafka_properties)
        consumer = AIOKafkaConsumer(
            **connection.aiokafka(), enable_auto_commit=False, auto_offset_reset="earliest",
            isolation_level="read_committed", fetch_max_wait_ms=IDLE_FETCH_MS,
        )  # fmt: skip
        try:  # a start that is cancelled has tasks and connections too
            await consumer.start()
            name = self._event.topic.name
            while not (tops := await partitions_of(consumer, name)):
                await asyncio.sleep(0.5)
            consumer.assign(tops)
            beginnings, ends = await consumer.beginning_offsets(tops), await consumer.end_offsets(tops)
            for tp in tops:
                positions.setdefault(tp, beginnings[tp])
                consumer.seek(tp, positions[tp])
            pulse = Pulse(consumer)
            while True:
                # The position moves over compacted records and transaction markers; the last record's offset does not.
                if not self.caught_up.is_set() and all([await consumer.position(tp) >= ends[tp] for tp in tops]):
                    self.caught_up.set()
                self._tell(await pulse.beats())
                pulse.endure(PATIENCE_S)
                found = await consumer.getmany(timeout_ms=1000)
                if found:
                    pulse.felt()
                for tp, records in found.items():
                    for record in records:
                        if change := self._change(record):
                            yield change
                        positions[tp] = record.offset + 1
        finally:
            await close(consumer)

    def _change(self, record: object) -> Change[E] | None:
        key = (getattr(record, "key", None) or b"").decode(errors="replace")
        value, offset = getattr(record, "value", None), getattr(record, "offset", 0)
        try:
            about = None if value is None else envelope(getattr(record, "headers", ()))
            if about:
                check_version(self._event, about.dataschema)
            event = None if value is None else self._event.from_json(value)
            self.unread.pop(key, None)
            return Change(key, event, about, offset)
        except (ValidationError, Invalid) as error:
            self.unread[key] = f"at offset {offset}: {str(error)[:200]}"
            log.error(
                "a compacted record is not understood",
                topic=self._event.topic.name,
                offset=offset,
                reason=str(error)[:500],
            )
            return None

    def _tell(self, answered: bool) -> None:
        COMPACTED_UNREAD.labels(self._event.topic.name).set(len(self.unread))
        if self._progress is None:
            return
        if self.unread:
            key, reason = next(iter(self.unread.items()))
            self._progress.fail(self._name, f"the newest state of {key[:80]} is not understood {reason}")
        elif not answered:
            self._progress.fail(self._name, "Kafka does not answer")
        elif self.caught_up.is_set():
            self._progress.beat(self._name)


class Following(Generic[E]):
    """A job of a service: hand every state of a compacted topic to a use case, for as long as the service runs."""

    def __init__(
        self, settings: Settings, event: type[E], learn: Callable[[Change[E]], Awaitable[None]], progress: Progress
    ) -> None:
        self._topic = CompactedTopic(settings, event, progress)
        self._learn = learn

    async def run(self) -> None:
        """Follow until cancelled."""
        async for change in self._topic.changes():
            await self._learn(change)
