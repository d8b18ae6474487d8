"""A platform for the benchmarks alone: real Kafka, real PostgreSQL and the scorer, on free ports, in a new home."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
from aiokafka import AIOKafkaProducer

from contracts import (
    DeploymentChanged,
    Format,
    Grant,
    ModelSchema,
    MonitorSettings,
    Service,
    Signature,
    Statement,
    Variant,
)  # fmt: skip
from deploy.embedded import kafka as embedded_kafka
from deploy.embedded import postgres as embedded_postgres
from deploy.embedded import secrets
from deploy.embedded.home import Home
from deploy.embedded.plan import Outside, service_part
from deploy.embedded.problem import Problem
from deploy.embedded.standalone import free_home, running, wait_ready
from services.kit.cloudevents import headers
from services.kit.context import Context, system
from services.kit.ids import now
from services.kit.kafka import Connection
from services.kit.migrate import migrate, store_urls, stored_passwords
from services.kit.objects import Objects
from services.kit.provision import connect, endpoint_topics, ensure_topics, provision, read_properties
from services.kit.rights import PRINCIPALS
from services.kit.settings import Settings
from services.kit.signing import Signer, canonical

from .model import Model

SERVER_CORE, LOAD_CORE = 0, min(1, (os.cpu_count() or 1) - 1)


@dataclass
class Stage:
    """A running scorer host and what one needs to talk to it."""

    home: Home
    scorer: int
    """The host's process id."""
    revision: int = 0
    settings: Settings = field(init=False)

    def __post_init__(self) -> None:
        self.settings = Settings(home=self.home.path, port=self.home.port)

    @property
    def url(self) -> str:
        return self.home.url("scorer")

    @property
    def token(self) -> str:
        return (self.home.path / "tokens" / "application.jwt").read_text().strip()

    def connection(self, principal: str) -> Connection:
        return Connection.read(self.home.client_properties(principal))

    def child(self, module: str) -> psutil.Process:
        """A process of the host by the module that it runs."""
        for process in psutil.Process(self.scorer).children(recursive=True):
            if module in process.cmdline():
                return process
        raise LookupError(f"the scorer runs no {module}")

    def metric(self, name: str, process: str = "") -> float:
        """The sum of a metric's samples, of one of the host's processes or of all, as they are shown now."""
        page = httpx.get(f"{self.url}/metrics", timeout=10).text
        lines = [line for line in page.splitlines() if line.startswith(name) and process in line]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def topics(self, endpoint: str) -> None:
        ensure_topics(connect(self.connection(secrets.LAUNCHER).properties), endpoint_topics(endpoint))

    async def serve(self, endpoint: str, model: Model, *, streaming: bool = False) -> None:
        """Say `deployment.changed` as the deployer does, with a grant as the governor gives it."""
        digest = await Objects(self.settings).put(model.package)
        self.revision += 1
        change = deployment(
            self.home, endpoint, digest, format=model.format, schema=model.schema, revision=self.revision,
            streaming=streaming,
        )  # fmt: skip
        said = headers(DeploymentChanged, "deployer", endpoint, Context(system("deployer")), "retail")
        async with AIOKafkaProducer(**self.connection("deployer").aiokafka(), enable_idempotence=True) as producer:
            await producer.send_and_wait(
                DeploymentChanged.topic.name, change.to_json(), key=endpoint.encode(), headers=said
            )  # fmt: skip


def deployment(
    home: Home, endpoint: str, digest: str, *, format: Format, schema: ModelSchema, baseline: str | None = None,
    revision: int = 1, streaming: bool = False,
) -> DeploymentChanged:  # fmt: skip
    """The state of an endpoint with one version, granted and signed as governor and deployer do it."""
    keys, at = home.path / "keys", now()
    statement = Statement(
        approval_id=uuid4(), deployment_id=uuid4(), endpoint=endpoint, use_case="bench", model="census", version=1,
        digest=digest, policy_version="bench", evidence_digest=digest, requested_by="engineer",
        granted_by="compliance", granted_at=at, expires_at=at + timedelta(hours=1),
    )  # fmt: skip
    signed = Signer(keys / "governor.key", "governor").sign(canonical(statement))
    variant = Variant(
        name="champion", model="census", version=1, digest=digest, format=format, model_schema=schema,
        baseline_digest=baseline, grant=Grant(statement=statement, signature=signed),
    )  # fmt: skip
    change = DeploymentChanged(
        endpoint=endpoint, unit="retail", use_case="bench", revision=revision, state="serving",
        streaming=streaming, variants=(variant,), monitor=MonitorSettings(),
        signature=Signature(key_id="", value=""),
    )  # fmt: skip
    signature = Signer(keys / "deployer.key", "deployer").sign(canonical(change, without=frozenset({"signature"})))
    return change.model_copy(update={"signature": signature})


@contextmanager
def stage(folder: Path, **environment: str) -> Iterator[Stage]:
    """Everything up, the scorer with these settings; it ends with the block. Parts that are not measured are kept off
    the server's core."""
    with ground(folder) as home, service(home, "scorer", **environment) as host:
        pin(host.pid, LOAD_CORE)
        yield Stage(home, host.pid)


@contextmanager
def ground(folder: Path) -> Iterator[Home]:
    """Kafka and PostgreSQL with all that services need, off the server's core."""
    home = free_home(folder)
    secrets.make_secrets(home)
    secrets.write_tokens(home)
    secrets.write_embedded_clients(home)
    with ExitStack() as up:
        broker = up.enter_context(running(embedded_kafka.part(home)))
        database = up.enter_context(running(embedded_postgres.part(home)))
        for process in (broker, database):
            pin(process.pid, LOAD_CORE)
        clients = {name: secrets.read_client_properties(home, name) for name in PRINCIPALS}
        launcher = read_properties(home.client_properties(secrets.LAUNCHER))
        provision(launcher, {name: client["sasl.password"] for name, client in clients.items()}, 60)
        server = embedded_postgres.administrator_url(home).rpartition("/")[0]
        store_urls(home.path, asyncio.run(migrate(f"{server}/fairlead", stored_passwords(home.path))))
        yield home


@contextmanager
def service(home: Home, name: Service, **environment: str) -> "Iterator[subprocess.Popen[bytes]]":
    """One service, ready, as the launcher starts it, with these settings; it ends with the block."""
    part = service_part(home, Outside(), name)
    part.log.parent.mkdir(parents=True, exist_ok=True)
    with part.log.open("ab") as log:
        process = subprocess.Popen(
            part.argv, env=os.environ | part.environment | environment, cwd=part.folder, stdout=log, stderr=log
        )  # fmt: skip
    try:
        wait_ready(part, process)
        yield process
    except Problem:
        print(part.log.read_text()[-4000:], file=sys.stderr)
        raise
    finally:
        process.terminate()
        process.wait(30)


def pin(pid: int, core: int) -> None:
    """A process, its threads and its children on one core."""
    process = psutil.Process(pid)
    for each in (process, *process.children(recursive=True)):
        for thread in each.threads():
            if sys.platform == "linux":
                os.sched_setaffinity(thread.id, {core})
