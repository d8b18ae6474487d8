"""HTTP in: what followed from an endpoint's decisions, and how right they were."""

from collections.abc import Sequence
from math import log
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from contracts import Name, Window
from services.kit.auth import allow
from services.kit.http import Who
from services.kit.inputs import Moment
from services.kit.service import router as new_router

from ..domain.budget import of_performance
from ..domain.outcomes.estimate import Estimate
from ..domain.outcomes.fairness import LEAST_ROWS, Verdict
from ..domain.outcomes.intervals import ALPHA
from ..domain.outcomes.labelled import Task
from ..domain.outcomes.performance import Statistic
from ..usecases.outcomes import Figures, Outcomes, Performance
from . import FindingView

Limit = Annotated[int, Query(ge=1, le=1000)]
Since = Annotated[Moment | None, Query()]
Segment = Annotated[str | None, Query(max_length=200)]


class StatisticView(BaseModel):
    """One figure with its interval; where it is not told, why."""

    name: str
    of: str | None
    value: float | None
    interval: tuple[float, float] | None
    rows: int
    why: str | None

    @classmethod
    def of_all(cls, statistics: Sequence[Statistic]) -> "list[StatisticView]":
        return [cls.model_validate(each, from_attributes=True) for each in statistics]


class GroupView(BaseModel):
    """One group of a segment."""

    group: str
    labelled: int
    statistics: list[StatisticView]


class EstimateView(BaseModel):
    """What the decisions are expected to be worth, by their scores alone (or the errors so far), labelled or not."""

    rows: int
    """That have a score, or are numbers."""
    learned: int
    """Labelled rows of the version behind the calibration (of numbers: the errors)."""
    calibrated: bool
    """Whether labels corrected the scores; else they are taken at their word."""
    covers: Literal["chance of the rows and calibration", "chance of the rows"]
    """What the intervals have the doubt of. None has that of a changed meaning of the rows (concept drift)."""
    statistics: list[StatisticView]

    @classmethod
    def of(cls, each: Estimate) -> "EstimateView":
        return cls(
            rows=each.rows, learned=each.learned, calibrated=each.calibrated,
            covers="chance of the rows and calibration" if each.calibrated else "chance of the rows",
            statistics=StatisticView.of_all(each.statistics),
        )  # fmt: skip


class FiguresView(BaseModel):
    """One variant's decisions in a span of time."""

    window: Window
    """Its rows are those with an outcome."""
    version: int
    variant: str
    task: Task
    decided: int | None
    labelled: int
    """Whose decision and truth are known."""
    undecided: int
    """With an outcome, but the decision is not known: its payload was not logged, or could not be read."""
    coverage: float | None
    """Labelled rows of the rows decided."""
    statistics: list[StatisticView]
    estimated: EstimateView | None
    """None where nothing can be estimated: no score is logged, or the version has no baseline."""
    groups: list[GroupView]

    @classmethod
    def of(cls, each: Figures) -> "FiguresView":
        groups = [
            GroupView(group=name, labelled=labelled, statistics=StatisticView.of_all(statistics))
            for name, (labelled, statistics) in each.groups.items()
        ]
        return cls(
            window=Window(**{"from": each.start, "to": each.end}, rows=each.outcomes), version=each.version,
            variant=each.variant, task=each.task, decided=each.decided, labelled=each.labelled,
            undecided=each.undecided, coverage=min(1.0, each.labelled / each.decided) if each.decided else None,
            statistics=StatisticView.of_all(each.statistics), groups=groups,
            estimated=EstimateView.of(each.estimated) if each.estimated else None,
        )  # fmt: skip


class PerformanceView(BaseModel):
    """How right an endpoint was: over all, and by window."""

    endpoint: str
    confidence: float
    """Of every interval, at all looks together."""
    window_s: float
    segments: list[str]
    """By whose groups figures may be asked for, as `segment`."""
    overall: list[FiguresView]
    windows: list[FiguresView]
    worse: bool
    """Whether an alarm about performance is open."""
    statistic: float
    """Logarithm of the evidence that the serving version errs more than before; an alarm needs the threshold."""
    threshold: float
    alarms: list[FindingView]
    notes: list[FindingView]

    @classmethod
    def of(cls, found: Performance) -> "PerformanceView":
        return cls(
            endpoint=found.endpoint.endpoint, confidence=1 - ALPHA,
            window_s=found.endpoint.settings.outcome_window_s, segments=list(found.segments),
            overall=[FiguresView.of(f) for f in found.overall],
            windows=[FiguresView.of(f) for f in found.windows], statistic=found.statistic,
            threshold=log(of_performance(found.endpoint.budget_rows)),
            worse=any(f.is_open for f in found.findings),
            alarms=[FindingView.of(f) for f in found.findings if f.kind == "alarm"],
            notes=[FindingView.of(f) for f in found.findings if f.kind == "note"],
        )  # fmt: skip


class RateView(BaseModel):
    """One rate of one group."""

    group: str
    value: float
    interval: tuple[float, float]
    rows: int


class MeasureView(BaseModel):
    """One definition of fairness, judged by its interval."""

    name: str
    value: float | None
    interval: tuple[float, float] | None
    bound: float
    verdict: Verdict
    rates: list[RateView]
    too_few: list[str]
    why: str | None


class AttributeView(BaseModel):
    """How one variant treats the groups of one protected attribute."""

    version: int
    variant: str
    attribute: str
    favourable: str | None
    labelled: int
    measures: list[MeasureView]
    why: str | None


class FairnessView(BaseModel):
    """How an endpoint treats groups."""

    endpoint: str
    confidence: float
    basis: str = "rows whose outcome is known"
    least_rows: int = LEAST_ROWS
    """Of a group, or nothing is told of it."""
    attributes: list[AttributeView]


def router(outcomes: Outcomes) -> APIRouter:
    """Below `/v1/monitors/{endpoint}`."""
    api = new_router(prefix="/v1/monitors", tags=["monitors"])

    @api.get("/{endpoint}/performance")
    async def performance(
        endpoint: Name, caller: Who, since: Since = None, until: Since = None, segment: Segment = None,
        limit: Limit = 24,
    ) -> PerformanceView:  # fmt: skip
        allow(caller, "monitor.read")
        return PerformanceView.of(await outcomes.performance(endpoint, since, until, segment, limit))

    @api.get("/{endpoint}/fairness")
    async def fairness(endpoint: Name, caller: Who, since: Since = None, until: Since = None) -> FairnessView:
        allow(caller, "monitor.read")
        found = await outcomes.fairness(endpoint, since, until)
        told = [AttributeView.model_validate(each, from_attributes=True) for each in found]
        return FairnessView(endpoint=endpoint, confidence=1 - ALPHA, attributes=told)

    return api
