"""What the monitor says: closed windows, and departures from the baseline with their evidence."""

from datetime import datetime, timedelta
from operator import not_
from typing import ClassVar, Literal, get_args

from pydantic import Field

from .base import Event, Name, Number, Topic, Value, Version, absent

Told = Number | str | None
"""A value of a row: a number, a text, or none."""


class Window(Value):
    """A span of event time and the distinct rows that fell into it."""

    start: datetime = Field(alias="from")
    end: datetime = Field(alias="to")
    rows: int


EffectUnit = Literal["sd", "psi", "share"]
"""In what an effect is told: standard deviations, the index of stability, or a part of all columns' influence."""
Moved = Literal[
    "location", "spread", "shape", "missing", "categories", "unseen", "residual", "pair", "performance", "influence"
]
_MOVED: dict[str, str] = {
    "location": "location", "spread": "spread", "shape": "shape", "missing": "missing", "categories": "one class",
    "unseen": "unseen", "residual": "given the others", "pair": "together", "performance": "", "influence": "",
}  # fmt: skip


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"


class FeatureEvidence(Value):
    """How far one watched column moved, with its interval, against the tolerance that matters."""

    name: str
    effect: float
    """Standard deviations for a numeric column, PSI for classes and missing values; signed for a location. Of a spread
    its relative change."""
    interval: tuple[float, float]
    tolerance: float
    unit: str = Field(default="sd", examples=[*get_args(EffectUnit)])
    """One of `EffectUnit`. Text, so that a reader shows a later one as it is. `share`: of all columns' influence on the
    decisions, as the reference has it."""
    measure: str | None = Field(default=None, exclude_if=absent, examples=[*get_args(Moved)])
    """What of the column moved, one of `Moved`, text as well; None in what was told before this was."""
    before: float | None = Field(default=None, exclude_if=absent)
    """The share of rows that are missing or unseen, or in the class that moved most; None for other measures."""
    now: float | None = Field(default=None, exclude_if=absent)

    @property
    def told(self) -> str:
        """What moved and how far, for a reader, without the name: `missing 0.2 % → 9 %`, `spread +0.4 sd`."""
        what = _MOVED.get(self.measure, self.measure) if self.measure else ""
        if self.before is not None and self.now is not None:
            return f"{what} {_percent(self.before)} → {_percent(self.now)}"
        return f"{what} {self.effect:+.3g} {self.unit}".lstrip()


class InfluenceEvidence(Value):
    """How much a column moves the decisions away from their mean, whichever way, before and since."""

    column: str
    before: float
    """The mean size of its contribution over the reference rows, in parts of that of all columns."""
    now: float
    """The same of the rows since the change began, in parts of the same."""


class PerformanceEvidence(Value):
    """What a model's decisions turned out to be, before and since."""

    metric: Literal["error rate", "mean absolute error"]
    before: float
    now: float
    interval: tuple[float, float]
    """Of what it is now, 99 %."""
    labelled: int
    """Rows with a label since the change began."""
    cost_per_1000: float | None = Field(default=None, exclude_if=absent)
    """What the errors beyond those before cost in 1,000 decisions, by the endpoint's value matrix; None without one."""
    rows_a_day: float | None = Field(default=None, exclude_if=absent)
    """Decisions a day, by the last one."""


class DriftDetected(Event):
    """A window of a live model's inferences departed from its baseline, or its decisions are wrong more often."""

    topic: ClassVar[Topic] = Topic("drift.detected", speaker="monitor", keep=timedelta(days=365))
    key_field: ClassVar[str] = "endpoint"

    endpoint: Name
    use_case: Name
    model: Name
    version: Version
    window: Window
    since: datetime
    """When the change began, by the detector's own estimate."""
    detector: str
    statistic: float
    """The logarithm of the evidence; an alarm needs the logarithm of the budget."""
    budget_rows: int
    rows_watched: int
    features: tuple[FeatureEvidence, ...]
    retrain: bool
    """The endpoint's settings ask for a retraining when it drifts."""
    performance: PerformanceEvidence | None = Field(default=None, exclude_if=absent)
    """Set where it is the decisions that departed, not the data: the model became worse. `features` then names the
    metric, in standard deviations of the loss before."""
    segment: str | None = Field(default=None, exclude_if=absent)
    """In which groups of a segment the data moved, where it is some alone: `colour = 2`."""
    attributions: tuple[InfluenceEvidence, ...] | None = Field(default=None, exclude_if=absent)
    """Set where it is what the decisions rest on that departed: columns became more or less important. `features` then
    names them, each with the change of its part of all influence."""


Explaining = Literal["exact", "any", "off"]
"""Which models are explained for the watch of attributions: those whose structure tells them exactly, any, or none."""


class AttributionsRequested(Event):
    """A window of an endpoint closed, and the attributions of a sample of its decisions are wanted. Short-lived: it
    carries what was decided on."""

    topic: ClassVar[Topic] = Topic("attributions.requested", speaker="monitor", keep=timedelta(hours=6))
    key_field: ClassVar[str] = "endpoint"

    endpoint: Name
    model: Name
    version: Version
    window: Window
    """`rows`: of the sample."""
    explaining: Explaining
    rows: tuple[tuple[Told, ...], ...]
    """By the columns of the model's schema; a missing value is null."""
    reference: bool
    """Those of the model's reference rows are not known yet and wanted as well."""


class ColumnReport(Value):
    """One watched column in one window."""

    name: str
    rows: int
    missing: int
    unseen: int
    mean: float | None
    effect: float
    unit: Literal["sd", "psi"]


class Latency(Value):
    """Quantiles of the time from receipt to reply, in milliseconds."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


class TrafficReport(Value):
    """Whether the rows of a window came as they use to."""

    newest_row_at: datetime | None
    """None of rows that were counted before it was kept."""
    expected_rows: tuple[float, float] | None
    """Between which numbers a window lies 999 times in 1,000, by earlier ones of the version (of the same part of its
    season, set or learned); None of too few."""
    volume: Literal["expected", "fewer", "more"] | None
    named_ids: int
    """Inferences whose caller gave a request id."""
    repeated_ids: int
    """Of them those whose id another one of the window had; an estimate beyond 512 ids."""


class RuleExample(Value):
    """A decision that broke a business rule."""

    inference_id: str
    row: int
    """Of its request, counted from 0."""
    received_at: datetime


class RuleReport(Value):
    """How decisions of a window kept a business rule; rows of the window beyond `rows` were not looked at."""

    name: str
    must: str
    rows: int
    broken: int
    undecided: int
    """Of these rows, those for which it could not be evaluated."""
    examples: tuple[RuleExample, ...] = ()
    """The first that broke it."""


class MonitorReported(Event):
    """A window closed, or a later row revised it."""

    topic: ClassVar[Topic] = Topic("monitor.reported", speaker="monitor", keep=timedelta(days=30))
    key_field: ClassVar[str] = "endpoint"

    endpoint: Name
    model: Name
    version: Version
    window: Window
    revision: int
    inferences: int
    latency: Latency | None
    columns: tuple[ColumnReport, ...]
    statistic: float
    threshold: float
    traffic: TrafficReport | None = Field(default=None, exclude_if=absent)
    rules: tuple[RuleReport, ...] = Field(default=(), exclude_if=not_)
