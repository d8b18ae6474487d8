"""A whole scorer host beside a real broker: parent, workers, agent, forwarder and the rest."""

import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
from aiokafka import AIOKafkaConsumer

from contracts import DeploymentChanged, InferenceLogged
from services.kit.cloudevents import headers
from services.kit.context import Context, system
from services.kit.kafka import Connection, partitions_of
from services.kit.objects import Objects
from services.kit.producer import Producer
from services.kit.testing import eventually
from services.scorer.settings import ScorerSettings

from .living import HERE, bearer, rows
from .making import House, package


class Host:
    """`python -m services.scorer` in a home of its own."""

    def __init__(self, house: House, clients: dict[str, Path], database: str, **environment: str) -> None:
        self.house = house
        self._clients = clients
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = os.environ | {
            "FAIRLEAD_HOME": str(house.home), "FAIRLEAD_PORT": str(self.port - 3),
            "FAIRLEAD_KAFKA_PROPERTIES": str(clients["scorer"]), "FAIRLEAD_SERVICE_DATABASE": database,
        } | environment  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None
        self.accepted: list[str] = []
        """The ids of what `infer` got an answer to."""
        self.broken = 0
        """Requests of `infer` without an answer: they may be logged or not."""

    def start(self) -> None:
        with (self.house.home / "host.log").open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.scorer"], cwd=HERE, env=self._environment, stdout=out, stderr=out
            )

    def stop(self) -> int:
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(25)

    def child(self, module: str) -> psutil.Process | None:
        """A child by its module, or None while it is away."""
        assert self.process
        for child in psutil.Process(self.process.pid).children():
            try:
                if child.cmdline()[-1] == f"services.scorer.{module}":
                    return child
            except psutil.Error:
                continue
        return None

    async def kill(self, module: str) -> None:
        """kill -9, as soon as there is one."""
        child = await eventually(lambda: self.child(module), within=20)
        child.kill()

    async def deploy(self, endpoint: str, model: bytes, **more: Any) -> DeploymentChanged:
        """What the deployer does: the package is in the object store, the desired state on the topic."""
        digest = await Objects(self.house.settings).put(package(model))
        version = more.pop("version", 1)
        change = self.house.change(endpoint, self.house.variant(endpoint, digest, version), **more)
        await self.say(change)
        return change

    async def say(self, *changes: DeploymentChanged) -> None:
        settings = ScorerSettings(home=self.house.home, kafka_properties=self._clients["deployer"])
        async with Producer(settings) as producer:
            await producer.send_all([
                (change.topic.name, change.endpoint.encode(), change.to_json(),
                 headers(DeploymentChanged, "deployer", change.endpoint, Context(system("deployer")), change.unit))
                for change in changes
            ])  # fmt: skip

    async def serves(self, endpoint: str, version: str = "1", within: float = 60) -> None:
        async def check() -> bool:
            answer = await self.infer(endpoint)
            return answer.status_code == 200 and answer.json()["model_version"] == version

        await eventually(check, within=within)

    async def infer(self, endpoint: str, body: Any = None) -> httpx.Response:
        content = orjson.dumps(body or rows([1, 1, 1]))
        async with httpx.AsyncClient(headers=bearer(self.house.token())) as client:
            try:
                answer = await client.post(f"{self.url}/v2/models/{endpoint}/infer", content=content)
            except httpx.TransportError as error:
                self.broken += 1
                raise OSError(str(error)) from error
        if answer.status_code == 200:
            self.accepted.append(answer.headers["fairlead-inference-id"])
        return answer

    def log_text(self) -> str:
        return (self.house.home / "host.log").read_text()


class Log:
    """`inference.logged`, read as the operator may: records of one endpoint, repeats removed by writer and number."""

    def __init__(self, properties: Path, endpoint: str) -> None:
        self._connection = Connection.read(properties)
        self._endpoint = endpoint.encode()
        self._highest: dict[tuple[int, str], int] = {}
        self.distinct: list[tuple[dict[str, str], InferenceLogged]] = []
        self.repeats = 0

    async def read(self) -> "Log":
        """Everything that is there now."""
        consumer = AIOKafkaConsumer(**self._connection.aiokafka(), isolation_level="read_committed")
        await consumer.start()
        try:
            tops = await partitions_of(consumer, InferenceLogged.topic.name)
            consumer.assign(tops)
            await consumer.seek_to_beginning(*tops)
            ends = await consumer.end_offsets(tops)
            while any([await consumer.position(tp) < ends[tp] for tp in tops]):
                for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                    for record in records:
                        self._take(tp.partition, dict(record.headers), record.value)
        finally:
            await consumer.stop()
        return self

    def _take(self, partition: int, said: dict[str, bytes], value: bytes | None) -> None:
        if value is None or said.get("ce_subject") != self._endpoint:  # other tests say broken things here
            return
        event = InferenceLogged.from_json(value)
        if event.seq <= self._highest.get((partition, event.writer), 0):
            self.repeats += 1
            return
        self._highest[partition, event.writer] = event.seq
        self.distinct.append(({name: raw.decode() for name, raw in said.items()}, event))

    @property
    def ids(self) -> list[str]:
        return [event.inference_id for _, event in self.distinct]


def _free_port() -> int:
    """A port that nothing uses, with the seven before and after it as little used."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) != 0:
                return port
