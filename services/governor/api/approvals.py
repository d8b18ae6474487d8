"""Approvals over HTTP."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from contracts import Gate, Grant
from services.governor.domain.approval import State
from services.governor.usecases import Approvals
from services.kit.auth import allow
from services.kit.http import Body, Page, Who
from services.kit.service import router as new_router

from .inputs import Reason, Text


class ApprovalView(BaseModel):
    """What is asked, on which evidence, and what became of it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    process_id: UUID
    deployment_id: UUID
    unit: str
    endpoint: str
    use_case: str
    model: str
    version: int
    digest: str
    requested_by: str
    also_asked_by: tuple[str, ...]
    requested_at: datetime
    state: State
    decided_by: str | None
    decided_at: datetime | None
    reason: str | None
    policy_version: str
    evidence_digest: str
    gates: tuple[Gate, ...]
    grant: Grant | None


class DecisionBody(Body):
    """A person's answer to a request, and why."""

    decision: Literal["grant", "reject"]
    reason: Reason


class ReasonBody(Body):
    """Why a grant no longer stands."""

    reason: Reason


def router(approvals: Approvals) -> APIRouter:
    """`/v1/approvals`."""
    routes = new_router(prefix="/v1/approvals", tags=["approvals"])

    @routes.get("")
    async def page(
        caller: Who,
        state: State | None = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        cursor: Text | None = None,
    ) -> Page[ApprovalView]:
        allow(caller, "approval.read")
        found = await approvals.page(state, limit, cursor)
        return Page[ApprovalView](items=[ApprovalView.model_validate(a) for a in found.items], next=found.next)

    @routes.get("/{id}")
    async def get(id: UUID, caller: Who) -> ApprovalView:
        allow(caller, "approval.read")
        return ApprovalView.model_validate(await approvals.get(id))

    @routes.post("/{id}/decision")
    async def decide(id: UUID, body: DecisionBody, caller: Who) -> ApprovalView:
        allow(caller, "approval.decide")
        return ApprovalView.model_validate(await approvals.decide(id, caller, body.decision, body.reason))

    @routes.post("/{id}/revoke")
    async def revoke(id: UUID, body: ReasonBody, caller: Who) -> ApprovalView:
        allow(caller, "approval.decide")
        return ApprovalView.model_validate(await approvals.revoke(id, caller, body.reason))

    return routes
