"""How an endpoint is watched, and what people may set of it: the same in a package, over HTTP and for a dry run."""

from operator import not_
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from .base import Value, absent
from .monitor import Explaining

KPI_FACTS = frozenset({
    "prediction", "label", "score", "value", "segments", "entity", "version", "variant", "received_at", "observed_at",
})  # fmt: skip
"""What an expression of a KPI may speak of."""


class ValueMatrix(Value):
    """What a decision is worth by what turned out, in the currency of whoever sets it; positive is the favourable
    class."""

    true_positive: float = 0.0
    false_positive: float = 0.0
    false_negative: float = 0.0
    true_negative: float = 0.0


class Rule(Value):
    """A business rule: what must be true of every decision."""

    must: str
    """In CEL, over the model's columns, `prediction` and `score`."""
    tolerance: float = 0.0
    """The share of decisions that may break it."""
    severity: Literal["warning", "critical"] = "warning"


class MonitorSettings(Value):
    """How an endpoint is watched."""

    window_s: float = 10.0
    budget_rows: int = 1_000_000
    """The expected number of rows between two false alarms of this endpoint, over all its detectors."""
    tolerance: float = 0.1
    """The smallest effect that matters: standard deviations of a numeric column, PSI of a categorical one."""
    season_s: float | None = Field(default=None, exclude_if=absent)
    """The period in which columns rise and fall as a matter of course, seconds; 0 or None: there is none."""
    retrain_on_drift: bool = True
    payload_sample: float = Field(default=1.0, ge=0, le=1, exclude_if=(1.0).__eq__)
    """The share of inferences whose requests and responses are logged; all of them are logged, and counted. Left out
    where it is 1, so that what was signed before there was this member still is what was signed."""
    outcome_window_s: float = Field(default=3_600.0, exclude_if=(3_600.0).__eq__)
    """The length of the windows in which outcomes are counted: labels are fewer than decisions."""
    favourable: float | str | None = Field(default=None, exclude_if=absent)
    """The class that people want to get, which fairness and the value matrix call positive; None for the second one of
    two classes."""
    expected_error: float | None = Field(default=None, exclude_if=absent)
    """The share of wrong decisions that is accepted; None: as many as there were so far."""
    value_matrix: ValueMatrix | None = Field(default=None, exclude_if=absent)
    kpis: dict[str, str] = Field(default={}, exclude_if=not_)
    """By name, expressions in CEL over a decision and its outcome, whose mean is told."""
    rules: dict[str, Rule] = Field(default={}, exclude_if=not_)
    """By name, what must be true of every decision."""
    quality_alerts: bool = Field(default=True, exclude_if=bool)
    """Alerts where rows stay away, come in other numbers, or come with values that cannot be used."""
    quality_tolerance: float = Field(default=0.05, exclude_if=(0.05).__eq__)
    """The share of unusable values (missing, unseen, out of range, ids that came twice) beyond the usual one that
    matters."""
    silent_after_s: float | None = Field(default=None, exclude_if=absent)
    """So long without a row is told; 0 or None: as long as the endpoint's history does not explain."""
    attributions: Explaining = Field(default="exact", exclude_if="exact".__eq__)
    """Whether a sample of the decisions is explained, and what they rest on watched."""
    attribution_share: float = Field(default=1.0, exclude_if=(1.0).__eq__)
    """The share of decisions that may be in the sample; how many at most, the installation says."""
    attribution_tolerance: float = Field(default=0.05, exclude_if=(0.05).__eq__)
    """The smallest change of a column's influence that matters, in parts of all columns' influence."""
    detectors: tuple[str, ...] = Field(default=(), exclude_if=not_)
    """Detectors beside the monitor's own, which share the budget with it: names of `Detector`."""


def _none_or_a_minute(seconds: float) -> float:
    if seconds != 0 and not seconds >= 60:
        raise ValueError("it is 60 seconds at least, or 0 for none")
    return seconds


def _none_or_a_share(share: float) -> float:
    if share != 0 and not 1e-6 <= share <= 0.999:
        raise ValueError("it is 0 for none, or a share from 0.000001 to 0.999")
    return share


def _once(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("one is named twice")
    return names


Budget = Annotated[int, Field(ge=1_000, le=10**12)]
Detector = Literal["adwin", "page-hinkley", "kswin", "ddm", "eddm", "fhddm", "hddm-a", "hddm-w"]
"""The first three see columns, the others labels."""
Tolerance = Annotated[float, Field(gt=0, le=10)]
Season = Annotated[float, Field(le=366 * 86_400), AfterValidator(_none_or_a_minute)]
"""0: none."""
_SLOTS, _MOST_SLOTS, _SLOT_S = 24, 168, 3_600.0
_CLOSED = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class GivenMatrix(ValueMatrix):
    """A value matrix as a person writes it: what is misspelt is refused."""

    model_config = _CLOSED


class GivenRule(Rule):
    """A business rule as a person writes it: what is misspelt is refused."""

    model_config = _CLOSED

    must: str = Field(min_length=1)
    tolerance: Annotated[float, AfterValidator(_none_or_a_share)] = 0.0


RuleName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
"""Its alert is called by it."""


class GivenSettings(BaseModel):
    """Settings as a person writes them; what is left out is as it was."""

    model_config = _CLOSED

    window_s: float | None = Field(None, ge=1, le=86_400)
    budget_rows: Budget | None = None
    tolerance: Tolerance | None = None
    season_s: Season | None = None
    retrain_on_drift: bool | None = None
    outcome_window_s: float | None = Field(None, ge=60, le=31 * 86_400)
    favourable: float | str | None = None
    expected_error: float | None = Field(None, gt=0, lt=1)
    value_matrix: GivenMatrix | None = None
    kpis: Annotated[dict[Annotated[str, Field(max_length=60)], str], Field(max_length=20)] | None = None
    rules: Annotated[dict[RuleName, GivenRule], Field(max_length=50)] | None = None
    quality_alerts: bool | None = None
    quality_tolerance: float | None = Field(None, gt=0, lt=1)
    attributions: Explaining | None = None
    attribution_share: float | None = Field(None, gt=0, le=1)
    attribution_tolerance: float | None = Field(None, gt=0, lt=1)
    silent_after_s: Annotated[float, Field(le=31 * 86_400), AfterValidator(_none_or_a_minute)] | None = None
    detectors: Annotated[list[Detector], Field(max_length=8), AfterValidator(_once)] | None = None

    def settings(self) -> MonitorSettings:
        """These, and the defaults of all others. Raises ValueError for a season of a few windows."""
        made = MonitorSettings.model_validate(self.model_dump(exclude_none=True))
        check_season(made.season_s, made.window_s)
        return made


def slots_of(season_s: float | None) -> int:
    """Into how many slots a season is cut: 24, or the hours of a longer one, 168 at most: those of a week."""
    if not season_s:
        return 1
    return min(_MOST_SLOTS, max(_SLOTS, round(season_s / _SLOT_S)))


def check_season(season_s: float | None, window_s: float) -> None:
    """Raises ValueError where a window would hold more than a slot of the season."""
    if season_s and season_s < (least := window_s * slots_of(season_s)):
        raise ValueError(
            f"season_s: a season of {season_s:g} s is cut into {slots_of(season_s)} slots, so with windows of "
            f"{window_s:g} s it is {least:g} s at least"
        )
