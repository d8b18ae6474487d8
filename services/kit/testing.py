"""Helpers of tests: wait for what must become true, and see what was said around an action."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

from aiokafka import AIOKafkaConsumer

from contracts import Envelope, Event

from .cloudevents import envelope
from .kafka import Connection, partitions_of
from .settings import Settings

T = TypeVar("T")
E = TypeVar("E", bound=Event)


@overload
async def eventually(check: Callable[[], Awaitable[T | None]], within: float = 5.0, every: float = 0.05) -> T: ...
@overload
async def eventually(check: Callable[[], T | None], within: float = 5.0, every: float = 0.05) -> T: ...
async def eventually(check: Callable[[], Any], within: float = 5.0, every: float = 0.05) -> Any:
    """The first truthy answer of `check`; fails with the last answer or error when none comes in time."""
    deadline, last = time.monotonic() + within, None
    while True:
        try:
            answer = check()
            last = await answer if asyncio.iscoroutine(answer) or isinstance(answer, asyncio.Future) else answer
            if last:
                return last
        except (AssertionError, LookupError, OSError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s; at last: {last!r}")
        await asyncio.sleep(every)


@asynccontextmanager
async def running(*coroutines: Awaitable[object]) -> AsyncIterator[None]:
    """Run things beside a block, and end them after it; what broke one of them breaks the block."""
    tasks = [asyncio.ensure_future(c) for c in coroutines]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Seen:
    """Events of some topics, in the order in which they came."""

    events: list[tuple[Envelope, Event]] = field(default_factory=list[tuple[Envelope, Event]])

    def of(self, kind: type[E]) -> list[E]:
        """Those of one kind."""
        return [event for _, event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def expect_events(
    settings: Settings, *kinds: type[Event], within: float = 10.0, where: Callable[[Any], bool] = lambda _: True,
    times: int = 1,
) -> AsyncIterator[Seen]:  # fmt: skip
    """Run a block and wait until each of `kinds` was said at least once, or so many times, since it began.

    Events for which `where` does not hold are passed over: topics are shared with whoever else is at work.
    """
    consumer = AIOKafkaConsumer(
        **Connection.read(settings.kafka_properties).aiokafka(),
        enable_auto_commit=False, isolation_level="read_committed",
    )  # fmt: skip
    by_topic = {kind.topic.name: kind for kind in kinds}
    seen = Seen()
    try:
        await consumer.start()
        await _assign_at_end(consumer, list(by_topic))
        yield seen
        deadline = time.monotonic() + within
        while missing := [k.type() for k in kinds if len(seen.of(k)) < times]:
            if time.monotonic() > deadline:
                raise AssertionError(f"not said within {within} s: {', '.join(missing)}")
            await _read(consumer, by_topic, seen, where)
    finally:
        await consumer.stop()


async def _assign_at_end(consumer: AIOKafkaConsumer, topics: list[str]) -> None:
    tops = await partitions_of(consumer, *topics)
    consumer.assign(tops)
    ends = await consumer.end_offsets(tops)
    for tp in tops:
        consumer.seek(tp, ends[tp])


async def _read(
    consumer: AIOKafkaConsumer, by_topic: dict[str, type[Event]], seen: Seen, where: Callable[[Any], bool]
) -> None:
    for tp, records in (await consumer.getmany(timeout_ms=200)).items():
        for record in records:
            if record.value is not None:
                event = by_topic[tp.topic].from_json(record.value)
                if where(event):
                    seen.events.append((envelope(record.headers), event))
