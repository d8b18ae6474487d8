"""Builders of what the deployer works with."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts import (
    ApprovalGranted,
    Grant,
    ModelRegistered,
    ModelSchema,
    ReplicaReported,
    Scan,
    Service,
    Statement,
    TensorSpec,
    Training,
    UseCaseRegistered,
)
from services.deployer.domain import Deployment
from services.deployer.jobs import TendTopics
from services.deployer.usecases import Ask, Deployer, EndpointTopics
from services.kit.context import Caller, Context, system, use
from services.kit.db import Database
from services.kit.ids import uuid7
from services.kit.provision import ProvisionRefused
from services.kit.signing import KeyRing, Signer, canonical

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
ENGINEER = Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"}))
OTHER_UNIT = Caller("other-unit", "person", frozenset({"engineer"}), frozenset({"wealth"}))
SCHEMA = ModelSchema(
    inputs=(TensorSpec(name="X", datatype="FP32", shape=(-1, 3)),),
    outputs=(TensorSpec(name="label", datatype="INT64", shape=(-1,)),),
    prediction="label",
)


def registered(version: int = 1, **other: Any) -> ModelRegistered:
    values: dict[str, Any] = {
        "model": "credit", "version": version, "unit": "retail", "digest": f"sha256:{version:064x}", "format": "onnx",
        "executes_code": False, "model_schema": SCHEMA, "baseline_digest": None,
        "scan": Scan(verdict="clean", scanner="s"), "training": Training(), "retrainable": False, "registered_by": "d",
    }  # fmt: skip
    return ModelRegistered(**(values | other))


def use_case(name: str = "lending", unit: str = "retail") -> UseCaseRegistered:
    return UseCaseRegistered(use_case=name, title="t", unit=unit, owner="o", risk_tier=1, purpose="p")


def report(endpoint: str, revision: int, state: Any = "ready", **other: Any) -> ReplicaReported:
    values: dict[str, Any] = {
        "replica": "scorer-1",
        "slots": 1,
        "reported_at": NOW + timedelta(seconds=revision),
    } | other
    return ReplicaReported(endpoint=endpoint, revision=revision, state=state, **values)


class OpenedStreams:
    """Remembers which endpoints' topics were asked for, and does what else the story wants meanwhile."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, str]] = []
        self.closed: list[str] = []
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def open(self, endpoint: str, unit: str) -> None:
        if self.meanwhile:
            await self.meanwhile()
        self.opened.append((endpoint, unit))

    async def close(self, endpoint: str) -> None:
        if self.meanwhile:
            await self.meanwhile()
        self.closed.append(endpoint)

    def refuse(self, reason: str) -> None:
        """From now on Kafka will not have it."""

        async def refused() -> None:
            raise ProvisionRefused(reason)

        self.meanwhile = refused


class House:
    """A deployer with its store, a governor's key, and the moves of a story."""

    def __init__(self, db: Database, home: Path) -> None:
        self.db = db
        self.governor = Signer(home / "keys" / "governor.key", "governor")
        self.keys = KeyRing(home / "keys" / "public")
        self.streams = OpenedStreams()
        self.now = NOW
        signer = Signer(home / "keys" / "deployer.key", "deployer")
        self.deployer = Deployer(db, signer, self.keys, clock=lambda: self.now)
        self.topics = TendTopics(db, EndpointTopics(db, signer, self.streams, clock=lambda: self.now))

    async def tends(self) -> None:
        """The deployer looks after the topics of its endpoints once."""
        with use(Context(system("deployer"))):
            await self.topics.once()

    async def removes(self, endpoint: str = "credit") -> None:
        with use(Context(ENGINEER)):
            await self.deployer.remove(ENGINEER, endpoint)

    async def rolls_back(self, endpoint: str = "credit") -> None:
        with use(Context(ENGINEER)):
            await self.deployer.roll_back(ENGINEER, endpoint)

    async def hears(self, handle: Callable[[Any], Any], event: Any, unit: str = "retail", story: str = "") -> None:
        with use(Context(system("deployer", unit), story or str(uuid7()))):
            await handle(event)

    async def knows(self, *versions: ModelRegistered) -> None:
        await self.hears(self.deployer.learn_use_case, use_case())
        for version in versions or (registered(1),):
            await self.hears(self.deployer.learn_version, version)

    async def asks(
        self, endpoint: str = "credit", version: int = 1, caller: Caller = ENGINEER, **other: Any
    ) -> Deployment:
        values: dict[str, Any] = {"use_case": "lending", "model": "credit", "strategy": "direct", "streaming": False}
        with use(Context(caller)):
            return await self.deployer.request(caller, Ask(endpoint=endpoint, version=version, **(values | other)))

    def grant(self, deployment: Deployment, **other: Any) -> Grant:
        values: dict[str, Any] = {
            "approval_id": uuid4(), "deployment_id": deployment.id, "endpoint": deployment.endpoint,
            "use_case": deployment.use_case, "model": deployment.model, "version": deployment.version,
            "digest": deployment.digest, "policy_version": "1", "evidence_digest": "sha256:" + "e" * 64,
            "requested_by": deployment.requested_by, "granted_by": "compliance", "granted_at": NOW,
            "expires_at": NOW + timedelta(days=7),
        }  # fmt: skip
        statement = Statement(**(values | other))
        return Grant(statement=statement, signature=self.governor.sign(canonical(statement)))

    async def is_granted(self, deployment: Deployment, grant: Grant | None = None, story: str = "") -> None:
        grant = grant or self.grant(deployment)
        event = ApprovalGranted(
            approval_id=grant.statement.approval_id, deployment_id=deployment.id, endpoint=deployment.endpoint,
            grant=grant, reason="fine",
        )  # fmt: skip
        await self.hears(self.deployer.roll_out, event, deployment.unit, story)

    async def serves(self, version: int = 1, endpoint: str = "credit") -> Deployment:
        """Ask, grant, and let the replica say that it is ready."""
        self.now += timedelta(minutes=1)
        deployment = await self.asks(endpoint, version)
        await self.is_granted(deployment)
        await self.hears(self.deployer.note_replica, report(endpoint, (await self.endpoint(endpoint)).revision), "*")
        return await self.deployment(deployment.id)

    async def deployment(self, id: UUID) -> Deployment:
        with use(Context(ENGINEER)):
            return await self.deployer.deployment(id)

    async def endpoint(self, name: str = "credit") -> Any:
        with use(Context(ENGINEER)):
            return (await self.deployer.endpoint(name))[0]


@pytest.fixture
def house(service_db: Callable[[Service], Database], home: Path) -> House:
    return House(service_db("deployer"), home)
