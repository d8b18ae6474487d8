"""The audit ledger over HTTP."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from services.governor.usecases import Ledger
from services.governor.usecases.reports import entry_view
from services.kit.auth import allow
from services.kit.context import EVERY_UNIT
from services.kit.http import Page, Who
from services.kit.service import router as new_router

from .inputs import Moment, Text

_LINES = "application/jsonl"


class EntryView(BaseModel):
    """One fact, in its place in the chain."""

    position: int
    hash: str
    service: str
    number: int
    unit: str
    action: str
    subject: str
    actor: str
    at: datetime
    correlation_id: str
    event_id: str | None
    detail: dict[str, Any]


class BadRecord(BaseModel):
    """The first record that is not as it was sealed, and what is wrong with it."""

    position: int
    reason: str


class Verdict(BaseModel):
    """What walking the whole ledger showed."""

    ok: bool
    records: int
    head: str
    checkpoints: int
    sealed_to: int
    """Records up to here are proved by a signed checkpoint; later ones are only chained and counted."""
    says: str
    first_bad: BadRecord | None


def router(ledger: Ledger) -> APIRouter:
    """`/v1/audit`."""
    routes = new_router(prefix="/v1/audit", tags=["audit"])

    @routes.get("")
    async def page(
        caller: Who,
        subject: Text | None = None,
        actor: Text | None = None,
        action: Text | None = None,
        service: Text | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Text | None = None,
    ) -> Page[EntryView]:
        allow(caller, "audit.read")
        found = await ledger.page(
            limit, cursor, subject=subject, actor=actor, action=action, service=service,
            since=since, until=until,
        )  # fmt: skip
        return Page[EntryView](items=[EntryView.model_validate(entry_view(e)) for e in found.items], next=found.next)

    # The chain runs through the rows of every unit, so only who sees all can check or take it.
    @routes.post("/verify")
    async def verify(caller: Who) -> Verdict:
        allow(caller, "audit.read", EVERY_UNIT)
        return Verdict.model_validate(await ledger.verify())

    @routes.get("/export", response_class=StreamingResponse)
    async def export(caller: Who) -> StreamingResponse:
        allow(caller, "audit.read", EVERY_UNIT)
        return StreamingResponse(ledger.export(), media_type=_LINES)

    @routes.get("/checkpoints", response_class=StreamingResponse)
    async def checkpoints(caller: Who) -> StreamingResponse:
        allow(caller, "audit.read", EVERY_UNIT)
        return StreamingResponse(ledger.checkpoint_file(), media_type=_LINES)

    return routes
