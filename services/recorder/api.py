"""HTTP in: decisions found again, outcomes, snapshots."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from contracts import Name, OutcomeReported
from services.kit.auth import allow
from services.kit.http import Body, Page, Who, page
from services.kit.inputs import as_cursor, from_cursor, moment, moment_of, name
from services.kit.service import router as new_router

from .store import DecisionRow, OutcomeRow, Wanted
from .usecases.joining import Joining
from .usecases.reading import Decision, Reading
from .usecases.snapshots import Snapshots

Limit = Annotated[int, Query(ge=1, le=1000)]
Said = Annotated[str | None, Query(max_length=200)]


class OutcomeBody(Body):
    """What became true of one decided row."""

    inference_id: str = Field(min_length=1, max_length=100)
    row: int = Field(0, ge=0, lt=2**31)
    label: float | str | None = None
    value: float | None = None


class OutcomesBody(Body):
    """One or many."""

    outcomes: list[OutcomeBody] = Field(min_length=1, max_length=10_000)


class Accepted(BaseModel):
    """How many were taken, and how many of them say something that was not known."""

    accepted: int
    new: int


class SnapshotBody(Body):
    """Which rows to freeze."""

    endpoint: Name
    model: Name
    since: str | None = Field(None, max_length=64)
    unit: Name | None = None
    """Only what this business unit may see; otherwise what the caller may."""


class SnapshotView(BaseModel):
    """A Parquet object in the object store."""

    digest: str
    rows: int
    labelled: int


class DecisionView(BaseModel):
    """A decision in a list."""

    inference_id: str
    endpoint: str
    unit: str
    use_case: str
    model: str
    version: int
    mode: str
    application: str
    entity: str | None
    rows: int
    received_at: datetime
    shadow_of: str | None
    """The decision that was told, where this is what a shadow would have decided."""

    @classmethod
    def of(cls, row: DecisionRow) -> "DecisionView":
        return cls.model_validate(row, from_attributes=True)


class RowView(BaseModel):
    """One decided row: what the model saw and said."""

    row: int
    features: dict[str, float | str | None]
    prediction: float | str | None
    score: float | None
    unread: Any = None
    """In row 0: request and response as they were logged, where they do not fit the model's schema."""


class OutcomeView(BaseModel):
    """What followed."""

    row: int
    label: float | str | None
    value: float | None
    reported_by: str
    reported_at: datetime
    observed_at: datetime | None

    @classmethod
    def of(cls, outcome: OutcomeRow) -> "OutcomeView":
        return cls.model_validate(outcome, from_attributes=True)


class WholeDecision(DecisionView):
    """A decision with all that is known of it; at most its first 1,000 rows."""

    variant: str
    request_id: str | None
    correlation_id: str | None
    latency_ms: float
    sampled: bool
    """False: its endpoint logs the payloads of a share of its inferences, and this is none of them."""
    decided: list[RowView]
    outcomes: list[OutcomeView]

    @classmethod
    def whole(cls, decision: Decision) -> "WholeDecision":
        """What all rows have in common is the first row's."""
        first = decision.rows[0]
        common = {name: first[name] for name in ("variant", "request_id", "correlation_id", "latency_ms")}
        return cls(
            **DecisionView.of(decision.index).model_dump(), **common, sampled=decision.sampled,
            decided=[RowView.model_validate(row) for row in decision.rows],
            outcomes=[OutcomeView.of(outcome) for outcome in decision.outcomes],
        )  # fmt: skip


def router(reading: Reading, joining: Joining, snapshots: Snapshots) -> APIRouter:
    """The routes of decisions, outcomes and snapshots; each asks for a right, and rows of other units are not there."""
    api = new_router(prefix="/v1", tags=["decisions"])

    @api.get("/decisions/{inference_id}")
    async def decision(inference_id: Annotated[str, Field(max_length=100)], caller: Who) -> WholeDecision:
        allow(caller, "decision.read")
        return WholeDecision.whole(await reading.decision(inference_id))

    @api.get("/decisions")
    async def decisions(
        caller: Who,
        use_case: Said = None,
        application: Said = None,
        entity: Said = None,
        endpoint: Said = None,
        start: Annotated[str | None, Query(alias="from", max_length=64)] = None,
        end: Annotated[str | None, Query(alias="to", max_length=64)] = None,
        limit: Limit = 50,
        cursor: Annotated[str | None, Query(max_length=400)] = None,
    ) -> Page[DecisionView]:
        allow(caller, "decision.read")
        wanted = Wanted(use_case, application, entity, endpoint, moment_of(start, "from"), moment_of(end, "to"))
        found = await reading.decisions(wanted, from_cursor(cursor, moment, name), limit + 1)
        last = found[limit - 1] if len(found) > limit else None
        following = as_cursor(last.received_at, last.inference_id) if last else None
        return page([DecisionView.of(row) for row in found], limit, following)

    @api.post("/outcomes", status_code=202)
    async def outcomes(body: OutcomesBody, caller: Who) -> Accepted:
        allow(caller, "outcome.report")
        events = [OutcomeReported(**outcome.model_dump()) for outcome in body.outcomes]
        return Accepted(accepted=len(events), new=await joining.report(caller, events))

    @api.post("/snapshots", status_code=201)
    async def snapshot(body: SnapshotBody, caller: Who) -> SnapshotView:
        allow(caller, "snapshot.make", body.unit)
        made = await snapshots.make(body.endpoint, body.model, moment_of(body.since, "since"), body.unit)
        return SnapshotView.model_validate(made, from_attributes=True)

    return api
