"""HTTP in: what a setting would have raised."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, assert_never

from fastapi import APIRouter
from pydantic import BaseModel, Field

from contracts import Budget, FeatureEvidence, Name, Season, Tolerance
from services.kit.auth import allow
from services.kit.http import Who
from services.kit.service import router as new_router

from ..domain.outcomes.loss import LossFinding
from ..domain.quality import Unusable
from ..domain.trial import Raised, Setting
from ..domain.watch import Finding
from ..domain.windows import moment
from ..usecases.trying import Side, Tried, Trying
from .given import SomeSettings

_NOT_TRIED = [
    "silence and volume: they are watched by the clock, row by row",
    "business rules: rows are not kept one by one",
    "attributions: explained rows are not kept",
    "detectors that were chosen: they see rows that are not kept",
]


class DryRunBody(SomeSettings):
    """A setting to try; what is left out is as it is set now."""

    budget_rows: Budget | None = None
    tolerance: Tolerance | None = None
    season_s: Season | None = None
    quality_alerts: bool | None = None
    quality_tolerance: float | None = Field(None, gt=0, lt=1)
    expected_error: float | None = Field(None, gt=0, lt=1)
    """Null: none is accepted, the model is to err no more than before."""


Dimension = Literal["data", "quality", "performance"]


class RaisedView(BaseModel):
    """An alarm or a note as it would have been told."""

    kind: Literal["alarm", "note"]
    dimension: Dimension
    """What it is about: drift of the data, values that cannot be used, errors."""
    at: datetime
    since: datetime
    statistic: float
    rows_watched: int
    """Since it began: rows, of performance labelled ones."""
    segment: str | None
    """The groups in which it is, where it is in some."""
    features: list[FeatureEvidence]

    @classmethod
    def of(cls, raised: Raised, setting: Setting) -> "RaisedView":
        """With the effects that it would have named."""
        found = raised.finding
        dimension, rows, features = _told(found, setting)
        return cls(
            kind=found.kind, dimension=dimension, at=raised.at, since=moment(found.since_s), statistic=found.statistic,
            rows_watched=rows, segment=raised.segment, features=list(features),
        )  # fmt: skip


def _told(
    found: Finding | Unusable | LossFinding, setting: Setting
) -> tuple[Dimension, int, Sequence[FeatureEvidence]]:  # fmt: skip
    match found:
        case Finding():
            return "data", found.rows, [effect.evidence(setting.tolerance) for effect in found.effects]
        case Unusable():
            return "quality", found.rows, [each.evidence(setting.quality_tolerance) for each in found.departures]
        case LossFinding():
            return "performance", found.effect.now.rows, [found.effect.evidence(setting.tolerance)]
        case _:
            assert_never(found)


class TrialView(BaseModel):
    """One setting and what it would have raised; an alarm counts as accepted at once, but one of data quality."""

    budget_rows: int
    tolerance: float
    season_s: float | None
    quality_alerts: bool
    quality_tolerance: float
    expected_error: float | None
    alarms: list[RaisedView]
    notes: list[RaisedView]

    @classmethod
    def of(cls, side: Side) -> "TrialView":
        """In the order of time."""
        setting = side.setting
        told = [RaisedView.of(raised, setting) for raised in side.raised]
        return cls(
            budget_rows=setting.budget_rows, tolerance=setting.tolerance, season_s=setting.season_s,
            quality_alerts=setting.quality_alerts, quality_tolerance=setting.quality_tolerance,
            expected_error=setting.expected_error,
            alarms=[one for one in told if one.kind == "alarm"], notes=[one for one in told if one.kind == "note"],
        )  # fmt: skip


class DryRunView(BaseModel):
    """Two settings over the same recorded windows and labels."""

    endpoint: str
    version: int
    start: datetime | None = Field(serialization_alias="from")
    end: datetime | None = Field(serialization_alias="to")
    windows: int
    rows: int
    labels: int
    """That the watch of performance was shown: the newest ones, those of a hundred thousand outcomes at most."""
    labels_from: datetime | None
    """When the first of them was observed."""
    present: TrialView
    proposed: TrialView
    not_tried: list[str] = _NOT_TRIED
    """What alarms as well, and is not shown what is recorded."""

    @classmethod
    def of(cls, endpoint: str, tried: Tried) -> "DryRunView":
        """Of an endpoint."""
        return cls(
            endpoint=endpoint, version=tried.version, start=tried.first, end=tried.last,
            windows=tried.proposed.data.windows, rows=tried.proposed.data.rows, labels=tried.proposed.labels.rows,
            labels_from=tried.labels_from, present=TrialView.of(tried.present), proposed=TrialView.of(tried.proposed),
        )  # fmt: skip


def router(trying: Trying) -> APIRouter:
    """The route below `/v1/monitors`."""
    api = new_router(prefix="/v1/monitors", tags=["monitors"])

    @api.post("/{endpoint}/dry-run")
    async def dry_run(endpoint: Name, body: DryRunBody, caller: Who) -> DryRunView:
        """Which alarms a setting would have raised over the recorded windows of the serving version."""
        allow(caller, "monitor.read")
        return DryRunView.of(endpoint, await trying.dry_run(endpoint, body.model_dump(exclude_unset=True)))

    return api
