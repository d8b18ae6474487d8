"""Shows Prometheus what whoever asks for an endpoint's figures is told: how right, how fair, how dear, how reliable."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from prometheus_client import Gauge

from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.ids import now

from .. import metrics, store
from ..domain.outcomes.performance import Statistic
from .outcomes import Attribute, Figures, Outcomes
from .owning import every
from .serving import Service, Serving

_OUTCOMES = timedelta(days=7)
"""Labels come late, so the last day often has none."""
_SERVICE = "24h"


@dataclass(frozen=True)
class Sample:
    """One number under its labels."""

    gauge: Gauge
    labels: Sequence[str]
    value: float


class Publishing:
    """Each process shows all endpoints that serve, so that any of them may be scraped."""

    def __init__(self, db: Database, outcomes: Outcomes, serving: Serving) -> None:
        self._db, self._outcomes, self._serving = db, outcomes, serving

    async def look(self) -> dict[str, str]:
        """Read all and show it in place of what was shown; answers by endpoint why that failed, where it did."""
        with use(Context(system("monitor"))):
            async with self._db.reading() as session:
                serving = await store.all_serving(session)
        found: list[Sample] = []

        async def read(one: tuple[str, str]) -> None:
            name, unit = one
            with use(Context(system("monitor", unit))):
                found.extend(await self._of(name))

        failed = await every("figures", serving, read)
        _show(found)
        return failed

    async def _of(self, name: str) -> list[Sample]:
        since = now() - _OUTCOMES
        told = await self._outcomes.performance(name, since, None, None, 0)
        fair = await self._outcomes.fairness(name, since, None)
        served = await self._serving.service(name, _SERVICE)
        return [
            *(sample for each in told.overall for sample in _performance(name, each)),
            *(sample for each in fair for sample in _fairness(name, each)),
            *_service(name, served),
        ]


def _performance(name: str, told: Figures) -> Iterable[Sample]:
    place = (name, str(told.version), told.variant)
    yield from _statistics(metrics.PERFORMANCE, place, told.statistics)
    if told.estimated:
        yield from _statistics(metrics.ESTIMATED, place, told.estimated.statistics)


def _statistics(gauge: Gauge, place: tuple[str, ...], statistics: Iterable[Statistic]) -> Iterable[Sample]:
    for each in statistics:
        yield from _bounds(gauge, (*place, each.name, each.of or ""), each.value, each.interval)


def _fairness(name: str, told: Attribute) -> Iterable[Sample]:
    for each in told.measures:
        place = (name, str(told.version), told.variant, told.attribute, each.name)
        yield from _bounds(metrics.FAIRNESS, place, each.value, each.interval)


def _bounds(
    gauge: Gauge, place: tuple[str, ...], value: float | None, interval: tuple[float, float] | None
) -> Iterable[Sample]:
    if value is not None:
        yield Sample(gauge, (*place, "value"), value)
    for bound, edge in zip(("low", "high"), interval or (), strict=False):
        yield Sample(gauge, (*place, bound), edge)


def _service(name: str, served: Service) -> Iterable[Sample]:
    whole = served.whole
    if whole.availability is not None:
        yield Sample(metrics.AVAILABILITY, (name,), whole.availability)
    if whole.cost and whole.cost.per_1000_inferences is not None and served.prices:
        yield Sample(metrics.COST, (name, served.prices.currency), whole.cost.per_1000_inferences)
    for objective, told in (("latency", whole.latency_objective), ("availability", whole.availability_objective)):
        if told and told.budget.allowed:
            yield Sample(metrics.BUDGET_LEFT, (name, objective), told.budget.left / told.budget.allowed)


def _show(samples: Sequence[Sample]) -> None:
    for gauge in metrics.FIGURES:
        gauge.clear()
    for each in samples:
        each.gauge.labels(*each.labels).set(each.value)
