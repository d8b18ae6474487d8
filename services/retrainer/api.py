"""HTTP in: retrainings, reproductions and replays."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from contracts import Name, RetrainingRequested
from services.kit.auth import allow
from services.kit.http import Body, Page, Who, page
from services.kit.inputs import Version, as_cursor, from_cursor, moment, moment_of, uuid
from services.kit.openapi import TAKES_KEY
from services.kit.service import router as new_router

from .domain import Job, Kind
from .gateway import Governor
from .usecases import Retrainer, Wish

Moment = Annotated[str | None, Field(max_length=64)]
Limit = Annotated[int, Query(ge=1, le=200)]


class ReproductionAsk(Body):
    """Which version to train once more, from the rows that it was made of."""

    model: Name
    version: Version


class ReplayAsk(Body):
    """Which version to hold against what was decided behind an endpoint, on the recorded rows."""

    endpoint: Name
    model: Name
    version: Version
    of: Name | None = None
    """The model that decided; left out: the same one."""
    since: Moment = None
    until: Moment = None
    against: Version | None = None
    """Only what this version decided; left out: whatever version did."""


class JobView(BaseModel):
    """One retraining, reproduction or replay, and what became of it."""

    id: UUID
    unit: str
    model: str
    version: int
    endpoint: str | None
    use_case: str | None
    since: datetime | None
    requested_by: str
    state: str
    reason: str | None
    attempt: int
    correlation_id: str
    requested_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    result: dict[str, Any]
    wish: dict[str, Any]
    """Of a replay: whose decisions (`of`), until when, against which version."""

    @classmethod
    def of(cls, job: Job) -> "JobView":
        return cls.model_validate(job, from_attributes=True)


def router(retrainer: Retrainer, governor: Governor) -> APIRouter:
    """`/v1/retrainings`, `/v1/reproductions` and `/v1/replays`."""
    both = APIRouter(prefix="/v1")
    both.include_router(_passing(governor))
    api = new_router()
    _retrainings(api, retrainer)
    _reproductions(api, retrainer)
    _replays(api, retrainer)
    both.include_router(api)
    return both


_TEXT = {"type": "string", "minLength": 1}
_ASKED: dict[str, Any] = TAKES_KEY | {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["endpoint", "reason"],
                    "properties": {
                        "endpoint": _TEXT,
                        "reason": _TEXT,
                        "since": {"type": ["string", "null"], "format": "date-time"},
                    },
                }
            }
        },
    }
}


def _passing(governor: Governor) -> APIRouter:
    # A key on a request that is passed on is spent by the governor, so this router takes none.
    passing = APIRouter(tags=["retrainings"])

    @passing.post(
        "/retrainings", status_code=202, openapi_extra=_ASKED, responses={202: {"model": RetrainingRequested}}
    )
    async def request(request: Request, caller: Who) -> Response:
        """Ask for a retraining; the governor decides and the same event follows as after a drift."""
        allow(caller, "retraining.request")
        answer = await governor.ask(await request.body(), request.headers)
        media_type = answer.headers.get("content-type") or "application/json"
        return Response(answer.content, answer.status_code, media_type=media_type)

    return passing


def _retrainings(api: APIRouter, retrainer: Retrainer) -> None:
    @api.get("/retrainings", tags=["retrainings"])
    async def retrainings(
        caller: Who,
        model: Name | None = None,
        endpoint: Name | None = None,
        limit: Limit = 50,
        cursor: str | None = None,
    ) -> Page[JobView]:
        allow(caller, "retraining.read")
        return await _page(retrainer, "retraining", {"model": model, "endpoint": endpoint}, limit, cursor)

    @api.get("/retrainings/{id}", tags=["retrainings"])
    async def retraining(id: UUID, caller: Who) -> JobView:
        allow(caller, "retraining.read")
        return JobView.of(await retrainer.job(id, "retraining"))


def _reproductions(api: APIRouter, retrainer: Retrainer) -> None:
    @api.post("/reproductions", status_code=202, tags=["reproductions"])
    async def reproduce(ask: ReproductionAsk, caller: Who, response: Response) -> JobView:
        """Train a version once more and say whether the same bytes come out."""
        allow(caller, "retraining.request")
        job = await retrainer.reproduce(caller, ask.model, ask.version)
        response.headers["Location"] = f"/v1/reproductions/{job.id}"
        return JobView.of(job)

    @api.get("/reproductions", tags=["reproductions"])
    async def reproductions(
        caller: Who, model: Name | None = None, limit: Limit = 50, cursor: str | None = None
    ) -> Page[JobView]:
        allow(caller, "retraining.read")
        return await _page(retrainer, "reproduction", {"model": model}, limit, cursor)

    @api.get("/reproductions/{id}", tags=["reproductions"])
    async def reproduction(id: UUID, caller: Who) -> JobView:
        allow(caller, "retraining.read")
        return JobView.of(await retrainer.job(id, "reproduction"))


def _replays(api: APIRouter, retrainer: Retrainer) -> None:
    @api.post("/replays", status_code=202, tags=["replays"])
    async def replay(ask: ReplayAsk, caller: Who, response: Response) -> JobView:
        """Score recorded rows with another version and compare it with what was answered, and with the truth."""
        allow(caller, "retraining.request")
        wish = Wish(ask.endpoint, ask.model, ask.version, ask.of, moment_of(ask.since, "since"),
                    moment_of(ask.until, "until"), ask.against)  # fmt: skip
        job = await retrainer.replay(caller, wish)
        response.headers["Location"] = f"/v1/replays/{job.id}"
        return JobView.of(job)

    @api.get("/replays", tags=["replays"])
    async def replays(
        caller: Who,
        model: Name | None = None,
        endpoint: Name | None = None,
        limit: Limit = 50,
        cursor: str | None = None,
    ) -> Page[JobView]:
        allow(caller, "retraining.read")
        return await _page(retrainer, "replay", {"model": model, "endpoint": endpoint}, limit, cursor)

    @api.get("/replays/{id}", tags=["replays"])
    async def one(id: UUID, caller: Who) -> JobView:
        allow(caller, "retraining.read")
        return JobView.of(await retrainer.job(id, "replay"))


async def _page(
    retrainer: Retrainer, kind: Kind, about: Mapping[str, str | None], limit: int, cursor: str | None
) -> Page[JobView]:
    found = await retrainer.jobs(kind, about, from_cursor(cursor, moment, uuid), limit + 1)
    last = found[limit - 1] if len(found) > limit else None
    following = as_cursor(last.requested_at, last.id) if last else None
    return page([JobView.of(job) for job in found], limit, following)
