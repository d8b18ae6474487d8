"""HTTP in: how endpoints are watched and what was found."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from pydantic import AfterValidator, BaseModel, Field

from contracts import (
    DriftDetected,
    FeatureEvidence,
    GivenSettings,
    MonitorReported,
    MonitorSettings,
    Name,
    UsageReported,
)
from services.kit.auth import allow
from services.kit.http import Body, Page, Who, page
from services.kit.ids import now
from services.kit.inputs import as_cursor, from_cursor, moment, name, version
from services.kit.kpis import check_kpi
from services.kit.service import router as new_router

from ..store import Endpoint, FindingRow
from ..store.endpoints import Source
from ..usecases.desired import Desired
from ..usecases.reading import Reading, Standing
from .given import SomeSettings

Limit = Annotated[int, Query(ge=1, le=1000)]


def _can_be_read(expression: str) -> str:
    """Raises CelError."""
    check_kpi(expression)
    return expression


class SettingsBody(SomeSettings, GivenSettings):
    """Settings to override; what is left out stays as it is, of null what the deployment says holds again."""

    kpis: (
        Annotated[
            dict[Annotated[str, Field(max_length=60)], Annotated[str, AfterValidator(_can_be_read)]],
            Field(max_length=20),
        ]
        | None
    ) = None


class AcceptBody(Body):
    """Why what is seen now is the new normal."""

    reason: str = Field(min_length=3, max_length=500)


class FindingView(BaseModel):
    """An alarm, or a note of a change that does not matter."""

    id: UUID
    kind: str
    found_at: datetime
    closed_at: datetime | None
    closed_because: str | None
    event: DriftDetected

    @classmethod
    def of(cls, finding: FindingRow) -> "FindingView":
        return cls.model_validate(finding, from_attributes=True)


class MonitorView(BaseModel):
    """How an endpoint is watched."""

    endpoint: str
    unit: str
    use_case: str
    serving: bool
    model: str
    version: int
    settings: MonitorSettings
    sources: dict[str, Source]
    """By setting: whether it is the default, said by the package that is deployed, set by a person, or learned."""
    overridden: bool
    changed_at: datetime
    season_s: float | None
    """That holds; None for none."""
    learned_season_s: float | None
    """A season that the monitor learned; it holds while `settings` has none."""
    season_learned_at: datetime | None

    @classmethod
    def of(cls, endpoint: Endpoint) -> "MonitorView":
        """With the season as seconds."""
        told = {name: getattr(endpoint, name) for name in MonitorView.model_fields if name != "season_s"}
        return cls(**told, season_s=endpoint.season.period_s)


class StandingView(MonitorView):
    """And how it stands."""

    watched: bool
    phase: str
    rows_watched: int
    statistic: float
    threshold: float
    drifting: bool
    since: datetime | None
    window: MonitorReported | None
    newest_row_at: datetime | None
    age_s: float | None
    """How long ago the newest row came, to the minute; None before the first one."""

    @classmethod
    def at(cls, standing: Standing) -> "StandingView":
        """With the last closed window, where there is one."""
        watch, alarm = standing.watch, standing.alarm
        return cls(
            **MonitorView.of(standing.endpoint).model_dump(), watched=watch is not None,
            phase=watch.phase if watch else "waiting", rows_watched=watch.detector.rows if watch else 0,
            statistic=standing.statistic, threshold=standing.threshold, drifting=alarm is not None,
            since=alarm.event.since if alarm else None, window=standing.last, newest_row_at=standing.newest_row_at,
            age_s=max(0.0, (now() - standing.newest_row_at).total_seconds()) if standing.newest_row_at else None,
        )  # fmt: skip


class DriftView(BaseModel):
    """How far an endpoint is from its baseline, with the evidence of the open alarm and what was found before."""

    endpoint: str
    drifting: bool
    statistic: float
    threshold: float
    budget_rows: int
    tolerance: float
    since: datetime | None
    season_s: float | None
    """That holds; None for none."""
    season_learned_at: datetime | None
    """None where it was set."""
    features: list[FeatureEvidence]
    alarms: list[FindingView]
    notes: list[FindingView]

    @classmethod
    def of(cls, standing: Standing) -> "DriftView":
        """Alarms and notes apart, the newest first; the evidence is the open alarm's."""
        alarm, settings, season = standing.alarm, standing.endpoint.settings, standing.endpoint.season
        learned = settings.season_s is None and season.period_s is not None
        found = [FindingView.of(finding) for finding in standing.findings]
        return cls(
            endpoint=standing.endpoint.endpoint, drifting=alarm is not None, statistic=standing.statistic,
            threshold=standing.threshold, budget_rows=settings.budget_rows, tolerance=settings.tolerance,
            since=alarm.event.since if alarm else None, season_s=season.period_s,
            season_learned_at=standing.endpoint.season_learned_at if learned else None,
            features=list(alarm.event.features) if alarm else [],
            alarms=[f for f in found if f.kind == "alarm"], notes=[f for f in found if f.kind == "note"],
        )  # fmt: skip


def router(reading: Reading, desired: Desired) -> APIRouter:
    """The routes below `/v1/monitors`; each asks for a right, and rows of other units are not there."""
    api = new_router(prefix="/v1/monitors", tags=["monitors"])

    @api.get("")
    async def monitors(caller: Who, limit: Limit = 50, cursor: str | None = None) -> Page[MonitorView]:
        allow(caller, "monitor.read")
        place = from_cursor(cursor, name)
        found = await reading.endpoints(place[0] if place else "", limit + 1)
        following = as_cursor(found[limit - 1].endpoint) if len(found) > limit else None
        return page([MonitorView.of(endpoint) for endpoint in found], limit, following)

    @api.get("/{endpoint}")
    async def monitor(endpoint: Name, caller: Who, response: Response) -> StandingView:
        """The header `ETag` is of its settings."""
        allow(caller, "monitor.read")
        standing = await reading.standing(endpoint)
        response.headers["ETag"] = _tag(standing.endpoint)
        return StandingView.at(standing)

    @api.get("/{endpoint}/windows")
    async def windows(
        endpoint: Name, caller: Who, limit: Limit = 50, cursor: str | None = None
    ) -> Page[MonitorReported]:
        allow(caller, "monitor.read")
        found = await reading.windows(endpoint, from_cursor(cursor, moment, version), limit + 1)
        last = found[limit - 1] if len(found) > limit else None
        return page(found, limit, as_cursor(last.window.start, last.version) if last else None)

    @api.get("/{endpoint}/usage")
    async def usage(endpoint: Name, caller: Who, limit: Limit = 50, cursor: str | None = None) -> Page[UsageReported]:
        allow(caller, "monitor.read")
        found = await reading.usage(endpoint, from_cursor(cursor, moment, name, version, name), limit + 1)
        last = found[limit - 1] if len(found) > limit else None
        return page(found, limit, as_cursor(last.since, last.model, last.version, last.replica) if last else None)

    @api.get("/{endpoint}/drift")
    async def drift(endpoint: Name, caller: Who) -> DriftView:
        allow(caller, "monitor.read")
        return DriftView.of(await reading.standing(endpoint))

    @api.put("/{endpoint}")
    async def configure(
        endpoint: Name, settings: SettingsBody, caller: Who, response: Response,
        if_match: Annotated[str | None, Header(max_length=200)] = None, validate_only: bool = False,
    ) -> MonitorView:  # fmt: skip
        """Override some settings. With `If-Match` only those that have this `ETag`; with `validate_only` nothing is
        changed, and the answer is what would hold."""
        allow(caller, "monitor.configure")
        changed = settings.model_dump(exclude_unset=True)
        after = await desired.configure(
            endpoint, changed, lambda found: _is_seen(found, if_match), keep=not validate_only
        )
        response.headers["ETag"] = _tag(after)
        return MonitorView.of(after)

    @api.post("/{endpoint}/accept")
    async def accept(endpoint: Name, body: AcceptBody, caller: Who) -> MonitorView:
        allow(caller, "monitor.configure")
        return MonitorView.of(await desired.accept(endpoint, body.reason))

    return api


def _tag(endpoint: Endpoint) -> str:
    """An entity tag of its settings: whatever changes them is dated."""
    return f'"{endpoint.changed_at.timestamp():.6f}"'


def _is_seen(endpoint: Endpoint, if_match: str | None) -> bool:
    """Whether a condition holds (RFC 9110, 13.1.1)."""
    return if_match in (None, "*") or _tag(endpoint) in (each.strip() for each in (if_match or "").split(","))
