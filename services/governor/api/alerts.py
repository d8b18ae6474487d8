"""Alerts over HTTP."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from services.governor.usecases import Alerts
from services.kit.auth import allow
from services.kit.http import Body, Page, Who
from services.kit.service import router as new_router

from .inputs import Reason, Text

AlertState = Literal["open", "acknowledged", "resolved"]


class AlertView(BaseModel):
    """What a person should look at, and who does."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    unit: str
    subject: str
    kind: str
    severity: str
    title: str
    detail: str
    todo: str
    source: str
    state: AlertState
    times: int
    episode: int
    """How often it began anew; it is told once in each."""
    raised_at: datetime
    last_at: datetime
    retraining_id: UUID | None
    owner: str | None
    comment: str | None
    acknowledged_at: datetime | None
    resolved_at: datetime | None
    resolution: str | None
    since: datetime | None
    """When what it tells of began, where that is known."""
    how_much: str | None
    segment: str | None
    cost: str | None
    closable: bool
    """Whether it waits for a person to end it: all others end when what they tell of is over."""


class AcknowledgeBody(Body):
    """What whoever takes care of an alert has to say."""

    comment: Reason | None = None


class CloseBody(Body):
    """What was found; it is audited."""

    reason: Reason


def router(alerts: Alerts) -> APIRouter:
    """`/v1/alerts`."""
    routes = new_router(prefix="/v1/alerts", tags=["alerts"])

    @routes.get("")
    async def page(
        caller: Who,
        state: Annotated[tuple[AlertState, ...], Query()] = (),
        subject: Text | None = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        cursor: Text | None = None,
    ) -> Page[AlertView]:
        allow(caller, "governance.read")
        found = await alerts.page(state, subject, limit, cursor)
        return Page[AlertView](items=[AlertView.model_validate(a) for a in found.items], next=found.next)

    @routes.post("/{id}/acknowledge")
    async def acknowledge(id: UUID, caller: Who, body: AcknowledgeBody | None = None) -> AlertView:
        allow(caller, "alert.acknowledge")
        return AlertView.model_validate(await alerts.acknowledge(id, caller, body.comment if body else None))

    @routes.post("/{id}/close")
    async def close(id: UUID, caller: Who, body: CloseBody) -> AlertView:
        allow(caller, "alert.close")
        return AlertView.model_validate(await alerts.close(id, caller, body.reason))

    return routes
