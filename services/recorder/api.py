"""HTTP in: decisions, outcomes, snapshots."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from contracts import Name, OutcomeReported
from services.kit.auth import allow
from services.kit.db import as_cursor, from_cursor
from services.kit.errors import Invalid
from services.kit.http import Body, Page, Who, page
from services.kit.service import router as new_router

from .usecases import Reading

Limit = Annotated[int, Query(ge=1, le=500)]
Id = Annotated[str, Path(max_length=200)]
Word = Annotated[str | None, Query(max_length=200)]


class OutcomeBody(Body):
    """What became true of one decided row."""

    inference_id: Annotated[str, Field(min_length=1, max_length=200)]
    row: Annotated[int, Field(ge=0)] = 0
    label: float | int | str | None = None
    value: float | int | None = None


class OutcomesBody(Body):
    """Many outcomes at once."""

    outcomes: Annotated[list[OutcomeBody], Field(min_length=1, max_length=10_000)]


class SnapshotBody(BaseModel):
    """Which rows to freeze."""

    model_config = ConfigDict(extra="forbid")

    endpoint: Name
    model: Name
    since: AwareDatetime | None = None


class SnapshotView(BaseModel):
    """A snapshot in the object store: the model's columns, `label`, `inference_id`, `row`, `received_at`."""

    digest: str
    rows: int


class OutcomeView(BaseModel):
    """What followed from one row."""

    row: int
    label: Any
    value: float | None
    observed_at: datetime


class RowView(BaseModel):
    """One decided row."""

    row: int
    features: dict[str, Any] | None
    prediction: Any
    score: float | None


class DecisionItem(BaseModel):
    """Which version decided, when, for whom."""

    inference_id: str
    endpoint: str
    use_case: str
    unit: str
    model: str
    version: int
    variant: str
    mode: str
    application: str
    entity: str | None
    request_id: str | None
    correlation_id: str
    received_at: datetime
    latency_ms: float
    rows: int


class DecisionView(DecisionItem):
    """A decision with its rows (the first 1,000 of a batch's) and what followed from them."""

    decided: list[RowView]
    outcomes: list[OutcomeView]


class Reported(BaseModel):
    """How many outcomes were new, and how many wait for their inference."""

    accepted: int
    new: int
    waiting: int


def router(reading: Reading) -> APIRouter:
    api = new_router(prefix="/v1", tags=["decisions"])

    @api.get("/decisions/{inference_id}")
    async def decision(inference_id: Id, caller: Who) -> DecisionView:
        allow(caller, "decision.read")
        return DecisionView.model_validate(await reading.decision(inference_id))

    @api.get("/decisions")
    async def decisions(
        caller: Who, use_case: Word = None, application: Word = None, entity: Word = None, endpoint: Word = None,
        start: Annotated[AwareDatetime | None, Query(alias="from")] = None,
        end: Annotated[AwareDatetime | None, Query(alias="to")] = None,
        limit: Limit = 50, cursor: Annotated[str | None, Query(max_length=500)] = None,
    ) -> Page[DecisionItem]:  # fmt: skip
        allow(caller, "decision.read")
        filters = {"use_case": use_case, "application": application, "entity": entity, "endpoint": endpoint}
        found = await reading.search(filters | {"start": start, "end": end} | _place(cursor), limit + 1)
        last = found[limit - 1] if len(found) > limit else None
        following = as_cursor(last["received_at"].isoformat(), last["inference_id"]) if last else None
        return page([DecisionItem.model_validate(each) for each in found], limit, following)

    @api.post("/outcomes", status_code=202)
    async def outcomes(body: OutcomesBody, caller: Who) -> Reported:
        allow(caller, "outcome.report")
        given = [OutcomeReported(**each.model_dump()) for each in body.outcomes]
        new, waiting = await reading.report(caller, given)
        return Reported(accepted=len(given), new=new, waiting=waiting)

    @api.post("/snapshots", status_code=201)
    async def snapshot(body: SnapshotBody, caller: Who) -> SnapshotView:
        made = await reading.snapshot(caller, body.endpoint, body.model, body.since)
        return SnapshotView(digest=made.digest, rows=made.rows)

    return api


def _place(cursor: str | None) -> dict[str, Any]:
    values = from_cursor(cursor, 2)
    if values is None:
        return {}
    try:
        return {"before": datetime.fromisoformat(values[0]), "before_id": str(values[1])}
    except (TypeError, ValueError):
        raise Invalid("this cursor was not made by this list", "cursor") from None
