"""Silences of alerts over HTTP."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from contracts import Name
from services.governor.domain.silence import Silence
from services.governor.usecases import Silences
from services.governor.usecases.silences import Ask
from services.kit.auth import allow
from services.kit.http import Body, Page, Who
from services.kit.ids import now
from services.kit.service import router as new_router

from .inputs import AlertKind, Moment, Reason, Text, Unit

SilenceState = Literal["coming", "active", "over"]
_Moment = Annotated[Moment, Field(strict=False)]


class SilenceBody(Body):
    """What shall not be told, and until when."""

    unit: Unit | None = None
    """Whose alerts; left out: the endpoint's unit, else the caller's."""
    endpoint: Name | None = None
    kind: AlertKind | None = None
    """With an endpoint: of that kind about it; alone: of that kind about anything of the unit."""
    starts_at: _Moment | None = None
    """Left out: now."""
    ends_at: _Moment
    comment: Reason


class SilenceView(BaseModel):
    """A maintenance window."""

    id: UUID
    unit: str
    endpoint: str | None
    kind: str | None
    starts_at: datetime
    ends_at: datetime
    state: SilenceState
    comment: str
    author: str
    made_at: datetime
    ended_by: str | None

    @classmethod
    def of(cls, silence: Silence) -> "SilenceView":
        """As a caller sees it now."""
        return cls.model_validate({**vars(silence), "state": silence.state(now())})


def router(silences: Silences) -> APIRouter:
    """`/v1/alert-silences`."""
    routes = new_router(prefix="/v1/alert-silences", tags=["alerts"])

    @routes.post("", status_code=201)
    async def make(body: SilenceBody, caller: Who, response: Response) -> SilenceView:
        """Alerts are raised and kept meanwhile; those that are open at its end are told then."""
        allow(caller, "alert.configure")
        made = await silences.make(caller, Ask(**{name: getattr(body, name) for name in SilenceBody.model_fields}))
        response.headers["Location"] = f"/v1/alert-silences/{made.id}"
        return SilenceView.of(made)

    @routes.get("")
    async def page(
        caller: Who,
        state: Annotated[tuple[SilenceState, ...], Query()] = (),
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        cursor: Text | None = None,
    ) -> Page[SilenceView]:
        allow(caller, "governance.read")
        found = await silences.page(state, limit, cursor)
        return Page[SilenceView](items=[SilenceView.of(each) for each in found.items], next=found.next)

    @routes.get("/{id}")
    async def get(id: UUID, caller: Who) -> SilenceView:
        allow(caller, "governance.read")
        return SilenceView.of(await silences.get(id))

    @routes.post("/{id}/end")
    async def end(id: UUID, caller: Who) -> SilenceView:
        """Now, and not when it said: what is open is told."""
        allow(caller, "alert.configure")
        return SilenceView.of(await silences.end(caller, id))

    return routes
