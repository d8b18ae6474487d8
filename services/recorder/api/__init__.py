"""HTTP in: decisions found again, outcomes, snapshots, erasures."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from contracts import Name, OutcomeReported
from services.kit.auth import allow
from services.kit.context import EVERY_UNIT
from services.kit.http import Body, Page, Who, page
from services.kit.inputs import Version, as_cursor, from_cursor, moment, moment_of, name
from services.kit.service import router as new_router

from ..store import Wanted
from ..usecases.erasing import Asked, Erasing
from ..usecases.joining import Joining
from ..usecases.reading import Reading
from ..usecases.snapshots import Snapshots
from .views import ErasureView, KnownSnapshot, ListedDecision, SnapshotView, UnmetView, WholeDecision

Limit = Annotated[int, Query(ge=1, le=1000)]
Said = Annotated[str | None, Query(max_length=256)]
"""As long as an entity may be that is decided about."""
Time = Annotated[str | None, Query(max_length=64)]


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


class ErasureBody(Body):
    """Whom to forget."""

    entity: str = Field(min_length=1, max_length=1_000)
    use_case: Name | None = None
    """Only what was decided for this use case."""
    unit: Name | None = None
    """Only in this business unit; otherwise in the caller's one, or in all."""
    reason: str = Field(min_length=1, max_length=500)
    """Stays in the ledger for good: it may not name the entity."""


def router(reading: Reading, joining: Joining, snapshots: Snapshots, erasing: Erasing) -> APIRouter:
    """All routes; each asks for a right, and rows of other units are not there."""
    api = new_router(prefix="/v1", tags=["decisions"])
    _decisions(api, reading)
    _outcomes(api, joining)
    _snapshots(api, snapshots)
    _erasures(api, erasing)
    return api


def _decisions(api: APIRouter, reading: Reading) -> None:
    @api.get("/decisions/{inference_id}")
    async def decision(
        inference_id: Annotated[str, Field(max_length=100)],
        caller: Who,
        row: Annotated[
            int, Query(ge=0, le=2**31 - 1, description="The first of the rows to answer, 1,000 at most")
        ] = 0,
    ) -> WholeDecision:
        allow(caller, "decision.read")
        found = await reading.decision(inference_id, row)
        return WholeDecision.whole(found)

    @api.get("/decisions")
    async def decisions(
        caller: Who,
        use_case: Said = None,
        application: Said = None,
        entity: Annotated[str | None, Query(max_length=1_000)] = None,
        endpoint: Said = None,
        start: Annotated[Time, Query(alias="from")] = None,
        end: Annotated[Time, Query(alias="to")] = None,
        model: Said = None,
        version: Annotated[Version | None, Query()] = None,
        variant: Said = None,
        mode: Said = None,
        outcome: Annotated[Literal["known", "unknown"] | None, Query()] = None,
        label: Said = None,
        limit: Limit = 50,
        cursor: Annotated[str | None, Query(max_length=400)] = None,
    ) -> Page[ListedDecision]:
        allow(caller, "decision.read")
        wanted = Wanted(
            use_case, application, entity, endpoint, moment_of(start, "from"), moment_of(end, "to"), model, version,
            variant, mode, outcome, label,
        )  # fmt: skip
        found = await reading.decisions(wanted, from_cursor(cursor, moment, name), limit + 1)
        last = found[limit - 1][0] if len(found) > limit else None
        following = as_cursor(last.received_at, last.inference_id) if last else None
        return page([ListedDecision.listed(*each) for each in found], limit, following)


def _outcomes(api: APIRouter, joining: Joining) -> None:
    @api.post("/outcomes", status_code=202)
    async def outcomes(body: OutcomesBody, caller: Who) -> Accepted:
        allow(caller, "outcome.report")
        events = [OutcomeReported(**outcome.model_dump()) for outcome in body.outcomes]
        return Accepted(accepted=len(events), new=await joining.report(caller, events))

    @api.get("/outcomes/unmet")
    async def unmet(caller: Who) -> list[UnmetView]:
        """Reports whose decisions are not recorded, by who reported them: for those who see every business unit."""
        allow(caller, "decision.read", EVERY_UNIT)
        return [UnmetView.model_validate(each, from_attributes=True) for each in await joining.unmet()]


def _snapshots(api: APIRouter, snapshots: Snapshots) -> None:
    @api.post("/snapshots", status_code=201)
    async def snapshot(body: SnapshotBody, caller: Who) -> SnapshotView:
        allow(caller, "snapshot.make", body.unit)
        made = await snapshots.make(body.endpoint, body.model, moment_of(body.since, "since"), body.unit)
        return SnapshotView.model_validate(made, from_attributes=True)

    @api.get("/snapshots/{digest}")
    async def known_snapshot(digest: Annotated[str, Field(max_length=100)], caller: Who) -> KnownSnapshot:
        allow(caller, "snapshot.make")
        return KnownSnapshot.model_validate(await snapshots.look(digest), from_attributes=True)


def _erasures(api: APIRouter, erasing: Erasing) -> None:
    async def shown(id: UUID) -> ErasureView:
        found, left = await erasing.look(id)
        return ErasureView.of(found, left, erasing.elsewhere(found))

    @api.post("/erasures", status_code=202)
    async def erase(body: ErasureBody, caller: Who, response: Response) -> ErasureView:
        allow(caller, "decision.erase", body.unit)
        asked = await erasing.ask(caller, Asked(body.entity, body.use_case, body.unit, body.reason))
        response.headers["location"] = f"/v1/erasures/{asked.id}"
        return await shown(asked.id)

    @api.get("/erasures/{erasure_id}")
    async def erasure(erasure_id: UUID, caller: Who) -> ErasureView:
        allow(caller, "decision.erase")
        return await shown(erasure_id)
