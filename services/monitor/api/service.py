"""HTTP in: how an endpoint serves, against what its use case promises, and what that costs."""

from collections.abc import Mapping
from datetime import datetime
from math import isfinite
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from contracts import Latency, Name
from services.kit.auth import allow
from services.kit.http import Who
from services.kit.service import router as new_router

from ..domain.service.burning import Severity
from ..domain.service.costs import Prices
from ..domain.service.figures import Figures, Objective, Throughput
from ..domain.service.objectives import LATENCY_SHARE, Promise
from ..usecases.serving import Service, Serving

LongSpan = Annotated[str, Query(max_length=20, description="The last so much time: 90m, 24h, 7d, 30d")]


class SpanView(BaseModel):
    """A span of time, its end not included."""

    start: datetime = Field(serialization_alias="from")
    end: datetime = Field(serialization_alias="to")


class LevelView(BaseModel):
    """What the use case promises."""

    latency_p99_ms: float
    latency_share: float = LATENCY_SHARE
    """The share of requests that take no longer than that."""
    availability: float
    """The share of requests that are answered, of those that are right."""


class PricesView(BaseModel):
    """What the installation pays."""

    currency: str
    cpu_second: float | None
    gb_hour: float | None


class BudgetView(BaseModel):
    """An objective of a span: requests that may be bad, those that were, and how fast that is (The Site Reliability
    Workbook, chapters 2 and 5)."""

    objective: float
    good: float | None
    """The share of good requests."""
    allowed: float
    spent: int
    left: float
    burn_rate: float | None
    """1 spends the budget of a period in just that period; None where there is no budget and something was bad."""

    @classmethod
    def of(cls, found: Objective | None) -> "BudgetView | None":
        if found is None:
            return None
        rate = found.events.burn_rate(found.objective)
        return cls(
            objective=found.objective, good=found.events.good_share, allowed=found.budget.allowed,
            spent=found.budget.spent, left=found.budget.left, burn_rate=rate if isfinite(rate) else None,
        )  # fmt: skip


class BudgetsView(BaseModel):
    """Both objectives; None for what cannot be told."""

    latency: BudgetView | None
    availability: BudgetView | None

    @classmethod
    def of(cls, found: Figures) -> "BudgetsView":
        return cls(
            latency=BudgetView.of(found.latency_objective), availability=BudgetView.of(found.availability_objective)
        )  # fmt: skip


class ThroughputView(BaseModel):
    """On average since the first inference of the span."""

    inferences_per_s: float
    rows_per_s: float

    @classmethod
    def of(cls, found: Throughput | None) -> "ThroughputView | None":
        return cls.model_validate(found, from_attributes=True) if found else None


class UsageView(BaseModel):
    """What scorer hosts measured."""

    cpu_s: float
    model_cpu_s: float
    serving_cpu_s: float
    memory_bytes: float | None
    """On one host, on average while it was used."""
    memory_gb_hours: float
    inferences: int
    """As scorer hosts count them, shadows' included: what the cost is shared out to."""


class CostView(BaseModel):
    """At the installation's prices."""

    currency: str
    total: float
    per_1000_inferences: float | None

    @classmethod
    def of(cls, found: Figures, prices: Prices | None) -> "CostView | None":
        if found.cost is None or prices is None:
            return None
        return cls(
            currency=prices.currency, total=found.cost.total, per_1000_inferences=found.cost.per_1000_inferences
        )  # fmt: skip


class FiguresView(BaseModel):
    """How it served; None for what is not known, with the reason under `unknown`."""

    inferences: int
    rows: int
    by_mode: Mapping[str, int]
    throughput: ThroughputView | None
    requests: int
    """Answered ones that somebody waited for: REST and streams. All that follows up to the budgets is of these."""
    refused: int | None
    """Requests that their callers got wrong."""
    failed: int | None
    """Requests that were right and got no answer."""
    availability: float | None
    latency: Latency | None
    budgets: BudgetsView
    usage: UsageView | None
    cost: CostView | None
    unknown: Mapping[str, str]

    @classmethod
    def of(cls, found: Figures, prices: Prices | None) -> "FiguresView":
        return cls.model_validate(_figures(found, prices))


class VersionView(FiguresView):
    """How one version served."""

    model: str
    version: int


class BurnView(BaseModel):
    """An open alarm: an error budget burns too fast."""

    objective: Literal["latency", "availability"]
    severity: Severity
    since: datetime
    detail: str


class ServiceView(BaseModel):
    """How an endpoint served in the last so much time."""

    endpoint: str
    use_case: str
    window: SpanView
    objectives: LevelView | None
    prices: PricesView | None
    total: FiguresView
    versions: list[VersionView]
    last_hour: BudgetsView
    """How fast the budgets burn now."""
    alarms: list[BurnView]

    @classmethod
    def of(cls, found: Service) -> "ServiceView":
        prices = found.prices
        return cls(
            endpoint=found.endpoint.endpoint, use_case=found.endpoint.use_case,
            window=SpanView(start=found.span.start, end=found.span.end), objectives=_level(found.promise),
            prices=PricesView.model_validate(prices, from_attributes=True) if prices else None,
            total=FiguresView.of(found.whole, prices),
            versions=[
                VersionView.model_validate(_figures(each, prices) | {"model": model, "version": version})
                for (model, version), each in found.versions.items()
            ],
            last_hour=BudgetsView.of(found.last_hour),
            alarms=[BurnView.model_validate(burn, from_attributes=True) for burn in found.burning.values()],
        )  # fmt: skip


def _level(promise: Promise | None) -> LevelView | None:
    return LevelView(latency_p99_ms=promise.latency_p99_ms, availability=promise.availability) if promise else None


def _figures(found: Figures, prices: Prices | None) -> dict[str, Any]:
    same = ("inferences", "rows", "by_mode", "requests", "refused", "failed", "availability", "latency", "unknown")
    return {name: getattr(found, name) for name in same} | {
        "throughput": ThroughputView.of(found.throughput), "budgets": BudgetsView.of(found),
        "usage": UsageView.model_validate(found.used, from_attributes=True) if found.used.reports else None,
        "cost": CostView.of(found, prices),
    }  # fmt: skip


def router(serving: Serving) -> APIRouter:
    """Below `/v1/monitors/{endpoint}`."""
    api = new_router(prefix="/v1/monitors", tags=["monitors"])

    @api.get("/{endpoint}/service")
    async def service(endpoint: Name, caller: Who, span: LongSpan = "24h") -> ServiceView:
        allow(caller, "monitor.read")
        return ServiceView.of(await serving.service(endpoint, span))

    return api
