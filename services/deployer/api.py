"""HTTP in: deployments and endpoints."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from contracts import ModelSchema, MonitorSettings, Name, Role, Routing, Strategy, Variant
from services.kit.auth import allow
from services.kit.http import Body, Page, Who, page
from services.kit.inputs import as_cursor, from_cursor, moment, name, uuid
from services.kit.service import router as new_router

from .domain import Deployment, Endpoint
from .usecases import Ask, Deployer

Weight = Annotated[float, Field(gt=0, lt=1)]
Limit = Annotated[int, Query(ge=1, le=200)]


class DeploymentAsk(Body):
    """What shall run where."""

    endpoint: Name
    use_case: Name
    model: Name
    version: Annotated[int, Field(ge=1, lt=2**31)]
    strategy: Strategy = "direct"
    streaming: bool = False
    variant: Name | None = None
    """What it shall be called beside the champion; left out: after its strategy."""
    weight: Weight | None = None
    """Its share of the requests, for the strategies canary and ab."""


class VariantBody(Body):
    """Which of an endpoint's versions; left out: the one that there can be no doubt about."""

    variant: Name | None = None


class WeightBody(VariantBody):
    """Another share of the requests."""

    weight: Weight


class LogAsk(Body):
    """What an endpoint's log shall hold."""

    payload_sample: float = Field(ge=0, le=1)
    """The share of inferences whose requests and responses are kept."""


class DeploymentView(BaseModel):
    """One ask and what became of it."""

    id: UUID
    endpoint: str
    use_case: str
    unit: str
    model: str
    version: int
    digest: str
    strategy: str
    streaming: bool
    variant: str
    weight: float | None
    state: str
    reason: str | None
    requested_by: str
    approval_id: UUID | None
    retraining_id: UUID | None
    revision: int | None
    requested_at: datetime
    changed_at: datetime

    @classmethod
    def of(cls, deployment: Deployment) -> "DeploymentView":
        """A deployment as a caller sees it; the grant's signature is nobody's business here."""
        return cls.model_validate(deployment, from_attributes=True)


class ReplicaView(BaseModel):
    """What one scorer host has loaded."""

    replica: str
    revision: int
    state: str
    reason: str | None
    reported_at: datetime


class VariantView(BaseModel):
    """One version in an endpoint."""

    name: str
    role: Role
    model: str
    version: int
    digest: str
    weight: float
    granted_by: str
    deployment_id: UUID

    @classmethod
    def of(cls, variant: Variant) -> "VariantView":
        """A version as a caller sees it."""
        statement = variant.grant.statement
        return cls(
            name=variant.name, role=variant.role, model=variant.model, version=variant.version, digest=variant.digest,
            weight=variant.weight, granted_by=statement.granted_by, deployment_id=statement.deployment_id,
        )  # fmt: skip


class EndpointView(BaseModel):
    """What an endpoint shall look like, and what its replicas say."""

    endpoint: str
    use_case: str
    unit: str
    state: str
    revision: int
    streaming: bool
    model: str
    version: int
    digest: str
    model_schema: ModelSchema
    granted_by: str
    deployment_id: UUID
    monitor: MonitorSettings
    changed_at: datetime
    variants: list[VariantView]
    """The champion first, then what stands beside it."""
    routing: Routing | None
    """How requests are shared out, while more than one version is live."""
    replicas: list[ReplicaView] = []

    @classmethod
    def of(cls, endpoint: Endpoint, replicas: list[ReplicaView] | None = None) -> "EndpointView":
        """An endpoint as a caller sees it, with what its replicas say where that was asked for."""
        variant = endpoint.variant
        return cls(
            endpoint=endpoint.endpoint, use_case=endpoint.use_case, unit=endpoint.unit, state=endpoint.state,
            revision=endpoint.revision, streaming=endpoint.streaming, model=variant.model, version=variant.version,
            digest=variant.digest, model_schema=variant.model_schema, granted_by=variant.grant.statement.granted_by,
            deployment_id=endpoint.deployment_id, monitor=endpoint.monitor, changed_at=endpoint.changed_at,
            variants=[VariantView.of(variant) for variant in endpoint.variants], routing=endpoint.routing,
            replicas=replicas or [],
        )  # fmt: skip


def router(deployer: Deployer) -> APIRouter:
    """The service's routes."""
    api = new_router(prefix="/v1", tags=["deployments"])
    _deployments(api, deployer)
    _endpoints(api, deployer)
    return api


def _deployments(api: APIRouter, deployer: Deployer) -> None:
    @api.post("/deployments", status_code=202)
    async def request(ask: DeploymentAsk, caller: Who, response: Response) -> DeploymentView:
        allow(caller, "deployment.request")
        deployment = await deployer.request(caller, Ask(**ask.model_dump()))
        response.headers["Location"] = f"/v1/deployments/{deployment.id}"
        return DeploymentView.of(deployment)

    @api.get("/deployments")
    async def deployments(
        caller: Who, endpoint: Name | None = None, limit: Limit = 50, cursor: str | None = None
    ) -> Page[DeploymentView]:
        allow(caller, "deployment.read")
        found = await deployer.deployments(endpoint, from_cursor(cursor, moment, uuid), limit + 1)
        last = found[limit - 1] if len(found) > limit else None
        following = as_cursor(last.requested_at, last.id) if last else None
        return page([DeploymentView.of(d) for d in found], limit, following)

    @api.get("/deployments/{id}")
    async def deployment(id: UUID, caller: Who) -> DeploymentView:
        allow(caller, "deployment.read")
        return DeploymentView.of(await deployer.deployment(id))


def _endpoints(api: APIRouter, deployer: Deployer) -> None:
    @api.get("/endpoints")
    async def endpoints(caller: Who, limit: Limit = 50, cursor: str | None = None) -> Page[EndpointView]:
        allow(caller, "deployment.read")
        place = from_cursor(cursor, name)
        found = await deployer.endpoints(place[0] if place else "", limit + 1)
        following = as_cursor(found[limit - 1].endpoint) if len(found) > limit else None
        return page([EndpointView.of(e) for e in found], limit, following)

    @api.get("/endpoints/{endpoint}")
    async def endpoint(endpoint: Name, caller: Who) -> EndpointView:
        allow(caller, "deployment.read")
        found, replicas = await deployer.endpoint(endpoint)
        views = [ReplicaView.model_validate(r, from_attributes=True) for r in replicas]
        return EndpointView.of(found, views)

    @api.post("/endpoints/{endpoint}/rollback", status_code=202)
    async def rollback(endpoint: Name, caller: Who, body: VariantBody | None = None) -> EndpointView:
        allow(caller, "endpoint.rollback")
        return EndpointView.of(await deployer.roll_back(caller, endpoint, body.variant if body else None))

    @api.post("/endpoints/{endpoint}/promote", status_code=202)
    async def promote(endpoint: Name, caller: Who, body: VariantBody | None = None) -> EndpointView:
        allow(caller, "endpoint.rollback")
        return EndpointView.of(await deployer.promote(caller, endpoint, body.variant if body else None))

    @api.post("/endpoints/{endpoint}/weight", status_code=202)
    async def weigh(endpoint: Name, caller: Who, body: WeightBody) -> EndpointView:
        allow(caller, "endpoint.rollback")
        return EndpointView.of(await deployer.weigh(caller, endpoint, body.variant, body.weight))

    @api.put("/endpoints/{endpoint}/log", status_code=202)
    async def log(endpoint: Name, asked: LogAsk, caller: Who) -> EndpointView:
        allow(caller, "endpoint.configure")
        return EndpointView.of(await deployer.sample(caller, endpoint, asked.payload_sample))

    @api.delete("/endpoints/{endpoint}", status_code=202)
    async def remove(endpoint: Name, caller: Who) -> EndpointView:
        allow(caller, "endpoint.rollback")
        return EndpointView.of(await deployer.remove(caller, endpoint))
