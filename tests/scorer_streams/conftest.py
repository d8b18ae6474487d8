"""A scorer's home beside a real broker, streaming endpoints with their topics, and processes that can be killed."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from contracts import DeploymentChanged, ModelSchema, Variant
from deploy.embedded.home import Home
from services.kit.kafka import Connection, partitions_of
from services.kit.provision import connect, endpoint_topics, ensure_topics
from services.scorer.files import write_atomically
from tests.scorer.making import NUMBERS, House, classifier

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Stage:
    """One scorer host's home, what it shall serve, and its child processes."""

    house: House
    operator: Connection
    database: str = ""
    desired: dict[str, Any] = field(default_factory=dict[str, Any])
    withdrawn: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list["subprocess.Popen[bytes]"])

    def serve(self, endpoint: str, model: bytes, schema: ModelSchema = NUMBERS, **more: Any) -> None:
        """Write the desired state as the host's agent would."""
        self.say(self.house.serving(endpoint, model, schema, **more))

    def say(self, change: DeploymentChanged) -> None:
        """Write a desired state, whatever it holds."""
        endpoint = change.endpoint
        self.desired[endpoint] = orjson.loads(change.to_json())
        self._write()

    def withdraw(self, endpoint: str, variant: Variant) -> None:
        """Write that a version's approval is withdrawn, before the deployer has said what takes its place."""
        self.withdrawn.setdefault(endpoint, []).append(str(variant.grant.statement.approval_id))
        self._write()

    def _write(self) -> None:
        state = {"caught_up": True, "endpoints": self.desired, "floors": {}, "withdrawn": self.withdrawn}
        write_atomically(self.house.settings.desired_path, orjson.dumps(state))

    def start(self, process: str, **environment: str) -> "subprocess.Popen[bytes]":
        """`streams` or `batches`, as the host starts it."""
        settings = self.house.settings
        own = {
            "FAIRLEAD_HOME": str(settings.home), "FAIRLEAD_KAFKA_PROPERTIES": str(settings.kafka_properties),
            "FAIRLEAD_SERVICE_DATABASE": self.database,
        }  # fmt: skip
        log = settings.home / f"{process}.log"
        with log.open("ab") as out:
            made = subprocess.Popen(
                [sys.executable, "-m", f"services.scorer.{process}"], cwd=ROOT, env=os.environ | own | environment,
                stdout=out, stderr=out,
            )  # fmt: skip
        self.processes.append(made)
        return made

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes:
            process.wait(20)


@pytest.fixture
def stage(installation: Home, kafka: Path, tmp_path: Path) -> Iterator[Stage]:
    home = tmp_path / "scorer"
    house = House(home, kafka_properties=installation.client_properties("scorer"))
    shutil.copytree(installation.path / "secrets", home / "secrets", dirs_exist_ok=True)
    made = Stage(house, Connection.read(installation.client_properties("operator")))
    yield made
    made.stop()


@pytest.fixture
def streaming(stage: Stage, kafka: Path) -> Callable[..., str]:
    """`streaming()`: a fresh endpoint with its pair of topics, served in the desired state."""

    def make(
        model: bytes | None = None, schema: ModelSchema = NUMBERS, partitions: int | None = None, **more: Any
    ) -> str:
        name = f"loans-{uuid4().hex[:8]}"
        topics = [replace(topic, partitions=partitions or topic.partitions) for topic in endpoint_topics(name)]
        ensure_topics(connect(Connection.read(kafka).properties), topics)
        stage.serve(name, model or classifier(), schema, streaming=True, **more)
        return name

    return make


@pytest.fixture
async def producer(stage: Stage) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(**stage.operator.aiokafka(), enable_idempotence=True, linger_ms=5) as made:
        yield made


def request(row: list[float], **more: Any) -> bytes:
    """A V2 request of one row."""
    tensor = {"name": "X", "datatype": "FP32", "shape": [1, len(row)], "data": row}
    return orjson.dumps({"inputs": [tensor]} | more)


def headers(id: str, source: str = "/till/7", **more: str) -> list[tuple[str, bytes]]:
    said = {
        "ce_specversion": "1.0", "ce_type": "inference.requested", "ce_id": id, "ce_source": source,
        "content-type": "application/json",
    } | more  # fmt: skip
    return [(name, value.encode()) for name, value in said.items()]


def rows(count: int) -> list[list[float]]:
    return np.random.default_rng(3).normal(size=(count, 3)).round(3).tolist()


@dataclass
class Topic:
    """A topic read from its start, committed records only."""

    records: list[ConsumerRecord[Any, Any]] = field(default_factory=list[Any])

    def headers(self) -> list[dict[str, str]]:
        return [{name: value.decode() for name, value in record.headers} for record in self.records]

    def keys(self) -> list[str]:
        return [(record.key or b"").decode() for record in self.records]

    def values(self) -> list[bytes]:
        """What the records hold; nothing for one without a value."""
        return [record.value or b"" for record in self.records]

    def bodies(self) -> list[dict[str, Any]]:
        return [orjson.loads(value) for value in self.values()]


async def read(connection: Connection, topic: str, where: Callable[[dict[str, bytes]], bool] | None = None) -> Topic:
    """Everything that is committed now."""
    consumer = AIOKafkaConsumer(
        **connection.aiokafka(), enable_auto_commit=False, isolation_level="read_committed",
        auto_offset_reset="earliest",
    )  # fmt: skip
    found = Topic()
    async with consumer:
        places = await partitions_of(consumer, topic)
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        await consumer.seek_to_beginning(*places)
        while any([await consumer.position(tp) < ends[tp] for tp in places]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found.records += [r for r in records if where is None or where(dict(r.headers))]
    return found
