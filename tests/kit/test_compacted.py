"""Compacted state that cannot be read is told, and what was known before still holds."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer

from contracts import ReplicaReported, Service
from services.kit.cloudevents import headers
from services.kit.compacted import CompactedTopic
from services.kit.context import Context, system
from services.kit.health import Progress
from services.kit.ids import now
from services.kit.kafka import Connection
from services.kit.producer import Outgoing, Producer
from services.kit.settings import Settings
from services.kit.testing import eventually, running
from services.kit.transactional import TransactionalStream

PART = "state replica.reported"


def report(endpoint: str, revision: int) -> Outgoing:
    event = ReplicaReported(
        endpoint=endpoint, replica="r", revision=revision, state="ready", slots=1, reported_at=now()
    )
    about = headers(ReplicaReported, "scorer", event.key, Context(system("scorer", "retail")), "retail")
    return ReplicaReported.topic.name, event.key.encode(), event.to_json(), about


def another_body(said: Outgoing) -> Outgoing:
    return said[0], said[1], b'{"endpoint": "of another version"}', said[3]


def another_version(said: Outgoing) -> Outgoing:
    """A body that reads like ours and means something else."""
    about = dict(said[3]) | {"ce_dataschema": b"urn:fairlead:schema:replica.reported:2"}
    return *said[:3], list(about.items())


@pytest.mark.parametrize("strange", [another_body, another_version])
async def test_a_newest_state_that_is_not_understood_is_told_until_a_later_one_is(
    settings_of: Callable[[Service], Settings], strange: Callable[[Outgoing], Outgoing]
) -> None:
    endpoint, progress = f"e-{uuid4().hex[:8]}", Progress()
    topic = CompactedTopic(settings_of("deployer"), ReplicaReported, progress)
    key, seen = f"{endpoint}/r", list[int]()

    async def follow() -> None:
        async for change in topic.changes():
            if change.event and change.event.endpoint == endpoint:
                seen.append(change.event.revision)

    def told() -> str | None:
        part = progress.parts[PART]
        return part.reason if part.failing_since is not None else None

    async with Producer(settings_of("scorer")) as producer, running(follow()):
        await producer.send_all([report(endpoint, 1), strange(report(endpoint, 2))])
        reason = await eventually(told, within=20)
        assert key in str(reason) and key in topic.unread and seen == [1]
        await producer.send_all([report(endpoint, 3)])
        await eventually(lambda: seen == [1, 3] and told() is None, within=20)
    assert not topic.unread


class Starting:
    """Consumers that hang in their start, as with a broker that takes connections and does not answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = asyncio.Event()
        self.stopped = 0

        async def start(_: AIOKafkaConsumer) -> None:
            self.begun.set()
            await asyncio.Event().wait()

        close = AIOKafkaConsumer.stop

        async def stop(consumer: AIOKafkaConsumer) -> None:
            self.stopped += 1
            await close(consumer)

        monkeypatch.setattr(AIOKafkaConsumer, "start", start)
        monkeypatch.setattr(AIOKafkaConsumer, "stop", stop)


async def test_a_follower_that_is_cancelled_in_its_start_closes_its_consumer(
    settings_of: Callable[[Service], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    starting = Starting(monkeypatch)
    topic = CompactedTopic(settings_of("deployer"), ReplicaReported)

    async def follow() -> None:
        async for _ in topic.changes():
            pass

    async with running(follow()):
        await starting.begun.wait()
    assert starting.stopped == 1


async def test_a_transactional_stream_that_is_cancelled_in_its_start_closes_its_consumer(
    settings_of: Callable[[Service], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    starting, connection = Starting(monkeypatch), Connection.read(settings_of("scorer").kafka_properties)
    work: Any = None  # nothing is read
    stream = TransactionalStream(connection, "replica.reported", "scorer.starting", work, [], Progress())
    async with running(stream.run()):
        await starting.begun.wait()
    assert starting.stopped == 1
