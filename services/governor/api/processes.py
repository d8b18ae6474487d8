"""Processes, templates, policies and retrainings over HTTP."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from contracts import Name, RetrainingRequested
from services.governor.usecases import Reports, Retrainings
from services.kit.auth import allow
from services.kit.http import Body, Page, Who
from services.kit.service import router as new_router

from .inputs import Moment, Reason, Text


class ProcessView(BaseModel):
    """One instance of a template."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    template: str
    state: Literal["running", "ended"]
    outcome: str | None
    unit: str
    endpoint: str
    use_case: str
    model: str
    version: int
    deployment_id: UUID | None
    retraining_id: UUID | None
    requested_by: str
    correlation_id: str
    awaits: tuple[str, ...]
    due: datetime | None
    started_at: datetime
    ended_at: datetime | None


class StepView(BaseModel):
    """One element of the diagram on the way of a process."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    state: Literal["done", "waiting", "cancelled"]
    at: datetime


class ProcessDetail(ProcessView):
    """An instance with its way through the diagram."""

    steps: tuple[StepView, ...]
    approval_id: UUID | None
    policy_version: str | None


class TemplateView(BaseModel):
    """A life cycle that can be followed."""

    name: str
    title: str
    gates: tuple[str, ...]


class RetrainingBody(Body):
    """Which endpoint's model shall be trained anew, and why."""

    endpoint: Name
    reason: Reason
    since: Annotated[Moment, Field(strict=False)] | None = None
    """Learn from what was recorded since then; without it from all that is kept."""


def router(reports: Reports, retrainings: Retrainings) -> APIRouter:
    """`/v1/processes`, `/v1/templates`, `/v1/policies`, `/v1/retrainings`."""
    routes = new_router(prefix="/v1", tags=["processes"])
    _processes(routes, reports)
    _rules(routes, reports)

    @routes.post("/retrainings", status_code=202)
    async def retrain(body: RetrainingBody, caller: Who) -> RetrainingRequested:
        allow(caller, "retraining.request")
        return await retrainings.ask(caller, body.endpoint, body.reason, body.since)

    return routes


def _processes(routes: APIRouter, reports: Reports) -> None:
    @routes.get("/processes")
    async def page(
        caller: Who,
        model: Text | None = None,
        use_case: Text | None = None,
        endpoint: Text | None = None,
        state: Literal["running", "ended"] | None = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        cursor: Text | None = None,
    ) -> Page[ProcessView]:
        allow(caller, "governance.read")
        found = await reports.processes(limit, cursor, model=model, use_case=use_case, endpoint=endpoint, state=state)
        return Page[ProcessView](items=[ProcessView.model_validate(p) for p in found.items], next=found.next)

    @routes.get("/processes/{id}")
    async def get(id: UUID, caller: Who) -> ProcessDetail:
        allow(caller, "governance.read")
        process, steps, approval_id = await reports.process(id)
        return ProcessDetail(
            **ProcessView.model_validate(process).model_dump(),
            steps=tuple(StepView.model_validate(step) for step in steps),
            approval_id=approval_id,
            policy_version=process.facts.get("policy_version"),
        )


def _rules(routes: APIRouter, reports: Reports) -> None:
    @routes.get("/templates")
    async def templates(caller: Who) -> Page[TemplateView]:
        allow(caller, "governance.read")
        views = [TemplateView(name=t.name, title=t.title, gates=tuple(sorted(t.gates))) for t in reports.templates]
        return Page[TemplateView](items=views)

    @routes.get("/templates/{name}", response_class=Response, responses={200: {"content": {"application/xml": {}}}})
    async def template(name: str, caller: Who) -> Response:
        allow(caller, "governance.read")
        return Response(reports.template(name).xml, media_type="application/xml")

    @routes.get("/policies")
    async def policies(caller: Who, version: Text | None = None) -> dict[str, Any]:
        allow(caller, "governance.read")
        return await reports.policies(version)
