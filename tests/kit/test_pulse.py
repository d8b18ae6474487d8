"""Readiness tells of a Kafka that is away, though its clients wait for it in silence."""

from collections.abc import Callable
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import client as aiokafka_client

from contracts import ReplicaReported, Service, UseCaseRegistered
from services.kit import kafka
from services.kit.burial import Burial
from services.kit.bus import Bus, on
from services.kit.compacted import CompactedTopic
from services.kit.db import Database, Tx
from services.kit.health import Progress
from services.kit.settings import Settings
from services.kit.stream import BatchConsumer, PartitionBatch
from services.kit.testing import eventually, running

from .network import Network

ServiceDb = Callable[[Service], Database]
ServiceSettings = Callable[[Service], Settings]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    made = Network()
    monkeypatch.setattr(aiokafka_client, "create_conn", made.connect)
    monkeypatch.setattr(kafka, "PULSE_S", 0.3)
    return made


async def tells_of_a_cut(progress: Progress, part: str, network: Network) -> None:
    """The part is well, fails while the network is cut, and is well again."""

    def failing() -> bool:
        return progress.parts[part].failing_since is not None

    await eventually(lambda: progress.parts[part].started and not failing(), within=30)
    network.cut()
    await eventually(failing, within=20)
    assert progress.parts[part].reason == "Kafka does not answer"
    network.mend()
    await eventually(lambda: not failing(), within=30)


async def test_the_bus_tells_that_kafka_is_away(
    service_db: ServiceDb, settings_of: ServiceSettings, network: Network
) -> None:
    async def hear(_: UseCaseRegistered) -> None: ...

    progress = Progress()
    bus = Bus(settings_of("governor"), "governor", service_db("governor"), [on(UseCaseRegistered, hear)], progress)
    async with running(bus.run()):
        await tells_of_a_cut(progress, "bus cluster", network)


async def test_a_batch_stream_tells_that_kafka_is_away(
    service_db: ServiceDb, settings_of: ServiceSettings, network: Network
) -> None:
    async def handle(_: Tx, batch: PartitionBatch) -> None: ...

    settings, progress, group = settings_of("recorder"), Progress(), f"recorder.{uuid4().hex}"
    burial = Burial(settings, "recorder")
    stream = BatchConsumer(
        settings, service_db("recorder"), ["outcome.reported"], group, handle, burial, progress=progress
    )
    async with running(stream.run()):
        await tells_of_a_cut(progress, f"stream {group}", network)
    await burial.close()


async def test_a_compacted_topic_tells_that_kafka_is_away(settings_of: ServiceSettings, network: Network) -> None:
    progress = Progress()
    topic = CompactedTopic(settings_of("deployer"), ReplicaReported, progress)

    async def follow() -> None:
        async for _ in topic.changes():
            pass

    async with running(follow()):
        await tells_of_a_cut(progress, "state replica.reported", network)


async def test_only_an_idle_consumer_lets_its_fetches_wait_long(
    settings_of: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle partition's fetch would hold up those that have records."""
    connection = kafka.Connection.read(settings_of("recorder").kafka_properties)
    consumer = AIOKafkaConsumer(**connection.aiokafka(), fetch_max_wait_ms=kafka.IDLE_FETCH_MS)
    await consumer.start()
    pulse, fetcher = kafka.Pulse(consumer), consumer._fetcher
    assert fetcher is not None
    assert fetcher._fetch_max_wait_ms == kafka.IDLE_FETCH_MS
    pulse.felt()
    await pulse.beats()
    assert fetcher._fetch_max_wait_ms == kafka.BUSY_FETCH_MS
    monkeypatch.setattr(kafka, "_IDLE_S", 0.0)
    await pulse.beats()
    assert fetcher._fetch_max_wait_ms == kafka.IDLE_FETCH_MS
    await kafka.close(consumer)
