"""HTTP in: what a setting would have raised."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from contracts import Budget, FeatureEvidence, Name, Season, Tolerance
from services.kit.auth import allow
from services.kit.http import Who
from services.kit.service import router as new_router

from ..domain.trial import Raised, Trial
from ..domain.windows import moment
from ..usecases.trying import Tried, Trying
from .given import SomeSettings

_NOT_TRIED = [
    "data quality, silence and volume",
    "business rules: rows are not kept one by one",
    "performance: labels are not kept one by one",
    "attributions: explained rows are not kept",
    "detectors that were chosen: they see rows that are not kept",
]


class DryRunBody(SomeSettings):
    """A setting to try; what is left out is as it is set now."""

    budget_rows: Budget | None = None
    tolerance: Tolerance | None = None
    season_s: Season | None = None


class RaisedView(BaseModel):
    """An alarm or a note as it would have been told."""

    kind: Literal["alarm", "note"]
    at: datetime
    since: datetime
    statistic: float
    rows_watched: int
    segment: str | None
    """The groups in which it is, where it is in some."""
    features: list[FeatureEvidence]

    @classmethod
    def of(cls, raised: Raised, tolerance: float) -> "RaisedView":
        """With the effects that it would have named."""
        found = raised.finding
        return cls(
            kind=found.kind, at=raised.at, since=moment(found.since_s), statistic=found.statistic,
            rows_watched=found.rows, segment=raised.segment,
            features=[effect.evidence(tolerance) for effect in found.effects],
        )  # fmt: skip


class TrialView(BaseModel):
    """One setting and what it would have raised; an alarm counts as accepted at once."""

    budget_rows: int
    tolerance: float
    season_s: float | None
    alarms: list[RaisedView]
    notes: list[RaisedView]

    @classmethod
    def of(cls, trial: Trial) -> "TrialView":
        """In the order of time."""
        setting = trial.setting
        told = [RaisedView.of(raised, setting.tolerance) for raised in trial.raised]
        return cls(
            budget_rows=setting.budget_rows, tolerance=setting.tolerance, season_s=setting.season_s,
            alarms=[one for one in told if one.kind == "alarm"], notes=[one for one in told if one.kind == "note"],
        )  # fmt: skip


class DryRunView(BaseModel):
    """Two settings over the same recorded windows."""

    endpoint: str
    version: int
    start: datetime | None = Field(serialization_alias="from")
    end: datetime | None = Field(serialization_alias="to")
    windows: int
    rows: int
    present: TrialView
    proposed: TrialView
    not_tried: list[str] = _NOT_TRIED
    """What alarms as well, and is not shown what is recorded."""

    @classmethod
    def of(cls, endpoint: str, tried: Tried) -> "DryRunView":
        """Of an endpoint."""
        return cls(
            endpoint=endpoint, version=tried.version, start=tried.first, end=tried.last,
            windows=tried.proposed.windows, rows=tried.proposed.rows, present=TrialView.of(tried.present),
            proposed=TrialView.of(tried.proposed),
        )  # fmt: skip


def router(trying: Trying) -> APIRouter:
    """The route below `/v1/monitors`."""
    api = new_router(prefix="/v1/monitors", tags=["monitors"])

    @api.post("/{endpoint}/dry-run")
    async def dry_run(endpoint: Name, body: DryRunBody, caller: Who) -> DryRunView:
        """Which alarms a setting would have raised over the recorded windows of the serving version."""
        allow(caller, "monitor.read")
        return DryRunView.of(endpoint, await trying.dry_run(endpoint, body.budget_rows, body.tolerance, body.season_s))

    return api
