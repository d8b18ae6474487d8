"""What comes back about how an endpoint serves: service levels, error budgets, costs."""

from datetime import datetime

from pydantic import Field

from contracts import Latency

from .answers import Answer


class Span(Answer):
    """A span of time, its end not included."""

    start: datetime = Field(alias="from")
    end: datetime = Field(alias="to")


class Budget(Answer):
    """What became of one promise: requests that may be bad, and those that were."""

    objective: float
    good: float | None = None
    """The share of good requests; None where nothing was asked."""
    allowed: float
    spent: int
    left: float
    burn_rate: float | None = None
    """1 spends the budget of a period in just that period."""


class Budgets(Answer):
    """Of both promises; None for what is not known."""

    latency: Budget | None = None
    availability: Budget | None = None


class Cost(Answer):
    """At the installation's prices."""

    currency: str
    total: float
    per_1000_inferences: float | None = None


class Levels(Answer):
    """How an endpoint, or one version behind it, served. None: not known, and `unknown` says why."""

    model: str | None = None
    version: int | None = None
    inferences: int
    rows: int
    requests: int
    """Answered ones that somebody waited for: REST and streams."""
    refused: int | None = None
    failed: int | None = None
    availability: float | None = None
    latency: Latency | None = None
    budgets: Budgets = Budgets()
    cost: Cost | None = None
    unknown: dict[str, str] = {}


class Alarm(Answer):
    """An error budget that burns too fast."""

    objective: str
    severity: str
    since: datetime
    detail: str


class Service(Answer):
    """How an endpoint served in the last so much time, against what its use case promises."""

    endpoint: str
    use_case: str
    window: Span
    total: Levels
    versions: list[Levels] = []
    last_hour: Budgets = Budgets()
    alarms: list[Alarm] = []
