"""A transactional stream whose Kafka client hangs goes on with another one, from the committed place."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from contracts import OutcomeReported, Service
from services.kit import transactional
from services.kit.cloudevents import headers
from services.kit.context import Context, system
from services.kit.health import Progress
from services.kit.kafka import Connection, Pulse, _hang_up
from services.kit.producer import Producer
from services.kit.settings import Settings
from services.kit.testing import eventually, running
from services.kit.transactional import Incoming, TransactionalStream
from services.kit.watch import reading

from .hanging import Hanging


class Remembering:
    """Work that writes nothing and remembers which records of its own were committed."""

    def __init__(self) -> None:
        self.mine, self.done = uuid4().hex, list[str]()
        self._in_hand: dict[int, list[str]] = {}

    async def opened(self, partition: int) -> None: ...

    async def handle(self, partition: int, records: Sequence[Incoming], out: Any) -> None:
        keys = [(record.key or b"").decode() for record in records]
        self._in_hand[partition] = [key.removeprefix(self.mine) for key in keys if key.startswith(self.mine)]

    def reject(self, partition: int, record: Incoming, error: Exception, out: Any) -> None: ...

    async def committed(self, partition: int, placed: Any) -> None:
        self.done += self._in_hand[partition]

    def dropped(self, partition: int) -> None: ...

    async def say(self, outsider: Settings, name: str) -> None:
        about = headers(OutcomeReported, "recorder", name, Context(system("recorder", "retail")), "retail")
        event = OutcomeReported(inference_id=self.mine + name, label=1.0)
        async with Producer(outsider) as producer:
            await producer.send_all([("outcome.reported", event.inference_id.encode(), event.to_json(), about)])


@pytest.mark.parametrize("call", ["getmany", "position"])
async def test_a_consumer_that_hangs_is_replaced(
    kafka: Path,
    settings_of: Callable[[Service], Settings],
    outsider: Settings,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
) -> None:
    work, hanging = Remembering(), Hanging(monkeypatch)
    hanging.at(call)
    stream = TransactionalStream(
        Connection.read(kafka), "outcome.reported", f"scorer.{work.mine}", work, [], Progress(), patience_s=2.0
    )
    async with running(stream.run()):
        await work.say(outsider, "before")
        await eventually(lambda: work.done == ["before"], within=60)
        hanging.begin.set()
        await asyncio.wait_for(hanging.hangs.wait(), 20)
        await work.say(outsider, "after")
        await eventually(lambda: work.done == ["before", "after"], within=60)


async def test_a_join_that_waits_for_a_dead_member_is_waited_for(
    kafka: Path, outsider: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes as long as the dead one's session: a consumer given up meanwhile would be the next dead member."""
    work, topic, connection, joined = Remembering(), "outcome.reported", Connection.read(kafka), list[Any]()
    group = f"scorer.{work.mine}"
    dying = AIOKafkaConsumer(topic, **connection.aiokafka(), group_id=group, session_timeout_ms=8_000)
    await dying.start()
    await _die(dying)

    def pulse_of(consumer: AIOKafkaConsumer) -> Pulse:
        joined.append(consumer)
        return Pulse(consumer)

    monkeypatch.setattr(transactional, "Pulse", pulse_of)
    stream = TransactionalStream(connection, topic, group, work, [], Progress(), patience_s=2.0)
    async with running(stream.run()):
        await work.say(outsider, "one")
        await eventually(lambda: work.done == ["one"], within=40)
    assert len(joined) == 1


async def test_an_abandoned_transaction_hides_others_records_for_seconds_alone(kafka: Path) -> None:
    """Kafka's own default would hide them for a minute."""
    work, topic, connection = Remembering(), "outcome.reported", Connection.read(kafka)
    stream = TransactionalStream(connection, topic, f"scorer.{work.mine}", work, [topic], Progress())
    dying = stream.producer(0)
    await dying.start()
    await dying.begin_transaction()
    hidden = await dying.send_and_wait(topic, b"{}", work.mine.encode(), partition=0)
    await _die(dying)
    async with reading(connection) as consumer, AIOKafkaProducer(**connection.aiokafka()) as other:
        seen = await other.send_and_wait(topic, b"{}", work.mine.encode(), partition=0)
        consumer.assign([place := TopicPartition(topic, 0)])
        consumer.seek(place, hidden.offset)
        async with asyncio.timeout(40):
            assert (await consumer.getone(place)).offset == seen.offset


async def _die(producer: Any) -> None:
    """As a killed process does: without a farewell."""
    producer._closed = True
    await _hang_up(producer, asyncio.create_task(asyncio.sleep(0)))
