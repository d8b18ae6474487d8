"""HTTP in: what an endpoint's decisions rest on."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from contracts import Explaining, Name
from services.kit.auth import allow
from services.kit.http import Who
from services.kit.service import router as new_router

from ..usecases.influences import Column, Influences, State, Telling
from . import FindingView


class InfluenceView(BaseModel):
    """How much a column moves decisions, in parts of what all columns did over the reference."""

    column: str
    before: float
    now: float | None
    """None before the first explained decision."""
    effect: float | None
    interval: tuple[float, float] | None
    """Of the effect, 99 %, at all looks."""
    beyond: bool
    """Whether the whole interval is beyond the tolerance."""

    @classmethod
    def of(cls, column: Column, rows: int, tolerance: float) -> "InfluenceView":
        """Of no rows nothing is told."""
        effect = column.effect
        if not rows:
            return cls(column=column.name, before=column.before, now=None, effect=None, interval=None, beyond=False)
        return cls(
            column=column.name, before=round(column.before, 6), now=round(column.before + effect.size, 6),
            effect=round(effect.size, 6), interval=(round(effect.low, 6), round(effect.high, 6)),
            beyond=effect.least > tolerance,
        )  # fmt: skip


class AttributionsView(BaseModel):
    """How the watch of attributions stands."""

    endpoint: str
    version: int
    attributions: Explaining
    state: State
    why: str | None
    drifting: bool
    since: datetime | None
    statistic: float
    threshold: float
    budget_rows: int
    tolerance: float
    method: str | None
    scale: str | None
    output: str | None
    """What is explained of every decision."""
    reference_rows: int
    windows: int
    rows: int
    """Explained decisions of these windows."""
    columns: list[InfluenceView]
    alarms: list[FindingView]
    notes: list[FindingView]

    @classmethod
    def of(cls, told: Influences) -> "AttributionsView":
        """The most influential columns first."""
        settings, alarm, facts = told.endpoint.settings, told.alarm, told.known.facts if told.known else {}
        found = [FindingView.of(finding) for finding in told.findings]
        return cls(
            endpoint=told.endpoint.endpoint, version=told.endpoint.version, attributions=settings.attributions,
            state=told.state, why=told.why, drifting=alarm is not None, since=alarm.event.since if alarm else None,
            statistic=told.statistic, threshold=told.threshold, budget_rows=settings.budget_rows,
            tolerance=settings.attribution_tolerance, method=facts.get("method"), scale=facts.get("scale"),
            output=facts.get("output"), reference_rows=told.reference_rows, windows=told.windows, rows=told.rows,
            columns=[InfluenceView.of(c, told.rows, settings.attribution_tolerance) for c in told.columns],
            alarms=[f for f in found if f.kind == "alarm"], notes=[f for f in found if f.kind == "note"],
        )  # fmt: skip


def router(telling: Telling) -> APIRouter:
    """The route."""
    api = new_router(prefix="/v1/monitors", tags=["monitors"])

    @api.get("/{endpoint}/drift/attributions")
    async def attributions(
        endpoint: Name, caller: Who, windows: Annotated[int, Query(ge=1, le=2_000)] = 60
    ) -> AttributionsView:
        """What decisions rest on, over the newest windows of the serving version; or why that is not known."""
        allow(caller, "monitor.read")
        return AttributionsView.of(await telling.told(endpoint, windows))

    return api
