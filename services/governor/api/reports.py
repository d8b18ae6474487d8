"""Figures and reports over HTTP."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from contracts import Name
from services.governor.usecases import Reports
from services.kit.auth import allow
from services.kit.http import Who
from services.kit.service import router as new_router

from .inputs import Text


class Kpis(BaseModel):
    """The figures of what the caller may see. Times are seconds; None where nothing has happened yet."""

    models: int
    versions: int
    retired_versions: int
    use_cases: int
    endpoints: int
    pending_approvals: int
    granted_approvals: int
    rejected_approvals: int
    drifts: int
    open_alerts: int
    retrainings: int
    retrainings_running: int
    promotions: int
    ready_to_business_s: float | None = Field(description="Median time from registration to the first serving replica")
    request_to_decision_s: float | None = Field(description="Median time from the question to a person to their answer")
    oldest_serving_s: float | None = Field(description="Age of the oldest version that serves")


def router(reports: Reports) -> APIRouter:
    """`/v1/kpis` and `/v1/reports`."""
    routes = new_router(prefix="/v1", tags=["reports"])

    @routes.get("/kpis")
    async def kpis(caller: Who) -> Kpis:
        allow(caller, "governance.read")
        return Kpis.model_validate(await reports.kpis())

    @routes.get("/reports/{kind}", response_model=None)
    async def report(
        kind: Literal["history"],
        caller: Who,
        model: Annotated[Name, Query()],
        format: Literal["json", "markdown"] = "json",
        limit: Annotated[int, Query(ge=1, le=5000, description="Versions, decisions and facts at a time")] = 5000,
        cursor: Text | None = None,
    ) -> Response:
        allow(caller, "audit.read")
        told: dict[str, Any] = await reports.report(kind, model, limit, cursor)
        if format == "markdown":
            return Response(told["markdown"], media_type="text/markdown; charset=utf-8")
        return JSONResponse(told)

    return routes
