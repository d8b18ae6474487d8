"""A Kafka client that hangs, or cannot even be stopped, is replaced: the stream goes on from the stored offset."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import client as aiokafka_client

from contracts import OutcomeReported, Service
from services.kit import kafka
from services.kit.burial import Burial
from services.kit.cloudevents import headers
from services.kit.context import Context, system
from services.kit.db import Database, Tx
from services.kit.health import Progress
from services.kit.producer import Producer
from services.kit.settings import Settings
from services.kit.stream import BatchConsumer, Partition, PartitionBatch
from services.kit.testing import eventually, running

from .hanging import Hanging
from .network import Network

ServiceDb = Callable[[Service], Database]
ServiceSettings = Callable[[Service], Settings]
Tick = Callable[[Mapping[Partition, bool]], Awaitable[None]]


class Folded:
    """A stream that remembers which records of its own run were folded, in the order in which they were."""

    def __init__(self, settings: Settings, db: Database, burial: Burial) -> None:
        self.run_id, self.keys, self.progress = uuid4().hex, list[str](), Progress()
        self.at_end = asyncio.Event()
        self._settings, self._db, self._burial = settings, db, burial
        self.name = f"stream recorder.{self.run_id}"

    def stream(self, tick: Tick | None = None, patience_s: float = 2.0) -> BatchConsumer:
        async def ticked(partitions: Mapping[Partition, bool]) -> None:
            if partitions and all(partitions.values()):
                self.at_end.set()
            if tick:
                await tick(partitions)

        return BatchConsumer(
            self._settings, self._db, ["outcome.reported"], f"recorder.{self.run_id}", self._handle, self._burial,
            tick=ticked, progress=self.progress, patience_s=patience_s,
        )  # fmt: skip

    async def _handle(self, _: Tx, batch: PartitionBatch) -> None:
        keys = [(record.key or b"").decode() for record in batch.records]
        self.keys += [key for key in keys if key.startswith(self.run_id)]

    @property
    def failing(self) -> bool:
        part = self.progress.parts[self.name]
        return part.started and part.failing_since is not None

    async def say(self, outsider: Settings, *names: str) -> None:
        context = Context(system("recorder", "retail"))
        async with Producer(outsider) as producer:
            await producer.send_all([
                (
                    "outcome.reported", key.encode(), OutcomeReported(inference_id=key, label=1.0).to_json(),
                    headers(OutcomeReported, "recorder", key, context, "retail"),
                )
                for key in self._keys(*names)
            ])  # fmt: skip

    def _keys(self, *names: str) -> list[str]:
        return [f"{self.run_id}-{name}" for name in names]

    async def folds_once(self, *names: str) -> None:
        """Each of these was folded, none twice, and all that others left in the topic is read."""
        await eventually(lambda: len(self.keys) >= len(names), within=60)
        assert sorted(self.keys) == sorted(self._keys(*names))
        await asyncio.wait_for(self.at_end.wait(), 40)


@pytest.fixture
async def folded(service_db: ServiceDb, settings_of: ServiceSettings) -> AsyncIterator[Folded]:
    settings = settings_of("recorder")
    burial = Burial(settings, "recorder")
    yield Folded(settings, service_db("recorder"), burial)
    await burial.close()


async def test_postgresql_that_goes_away_while_kafka_is_away_does_not_end_the_stream(
    folded: Folded, outsider: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The consumer is stopped while its fetcher waits to try again: aiokafka cancels whoever stops it then."""
    network, gone = Network(), asyncio.Event()
    monkeypatch.setattr(aiokafka_client, "create_conn", network.connect)
    monkeypatch.setattr(kafka, "PULSE_S", 0.3)

    async def tick(_: Mapping[Partition, bool]) -> None:
        if folded.failing and not gone.is_set():
            gone.set()
            raise ConnectionError("PostgreSQL is away")

    async with running(folded.stream(tick, patience_s=30.0).run()):
        await folded.say(outsider, "before")
        await folded.folds_once("before")
        network.cut()
        await asyncio.wait_for(gone.wait(), 20)
        network.mend()
        await folded.say(outsider, "after")
        await folded.folds_once("before", "after")


@pytest.mark.parametrize("calls", [["getmany"], ["position"], ["getmany", "stop"]])
async def test_a_consumer_that_hangs_is_replaced(
    folded: Folded, outsider: Settings, monkeypatch: pytest.MonkeyPatch, calls: list[str]
) -> None:
    """Even one that cannot be stopped: it leaves its partitions to the next, which goes on from the stored offset."""
    hanging = Hanging(monkeypatch)
    for call in calls:
        hanging.at(call)
    async with running(folded.stream().run()):
        await folded.say(outsider, "before")
        await folded.folds_once("before")
        hanging.begin.set()
        await asyncio.wait_for(hanging.hangs.wait(), 10)
        await folded.say(outsider, "after")
        await folded.folds_once("before", "after")


async def test_a_consumer_whose_cluster_does_not_answer_it_is_replaced(
    folded: Folded, outsider: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fetches come back empty and its pulse has stopped, while Kafka answers everybody else."""
    monkeypatch.setattr(kafka, "PULSE_S", 0.3)
    deaf: list[Any] = []
    ask, getmany = kafka.Pulse._ask, AIOKafkaConsumer.getmany

    async def asked(pulse: kafka.Pulse) -> bool:
        return pulse._consumer not in deaf and await ask(pulse)

    async def read(consumer: Any, *args: Any, **options: Any) -> Any:
        if not deaf and folded.keys and folded.at_end.is_set():
            deaf.append(consumer)
        if consumer in deaf:
            await asyncio.sleep(0.1)
            return {}
        return await getmany(consumer, *args, **options)

    monkeypatch.setattr(kafka.Pulse, "_ask", asked)
    monkeypatch.setattr(AIOKafkaConsumer, "getmany", read)
    async with running(folded.stream().run()):
        await folded.say(outsider, "before")
        await folded.folds_once("before")
        await eventually(lambda: folded.failing, within=10)
        await folded.say(outsider, "after")
        await folded.folds_once("before", "after")
        await eventually(lambda: not folded.failing, within=10)
