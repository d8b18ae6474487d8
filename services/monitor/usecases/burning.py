"""Judges error budgets: one owner per endpoint looks at the last hours, and says when a budget burns too fast."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isfinite

from services.kit.alerts import raise_alert, resolve_alert
from services.kit.context import Context, system, use
from services.kit.db import Database, Tx
from services.kit.errors import NotFound
from services.kit.ids import now

from .. import metrics, store
from ..domain.service import costs, slots
from ..domain.service.burning import CALM, LATELY, LONGER, Burning, Over, Severity, Windows, judge, may_burn
from ..domain.service.objectives import LATENCY_SHARE, Events, Name, Promise
from ..domain.service.slots import ONLINE
from ..domain.service.spans import Span
from ..store import Endpoint, service, usage
from ..store import slots as counted
from ..store.service import Burn
from .owning import every, owned

KINDS: Mapping[Name, str] = {"latency": "latency-budget", "availability": "availability-budget"}
"""The alerts of both objectives, about an endpoint."""
_PERIOD = timedelta(days=30)


@dataclass(frozen=True)
class _Pledge:
    """One objective of an endpoint, in numbers and in words."""

    name: Name
    share: float
    bad: str


class Budgets:
    """The owner's work: each endpoint that was asked lately, or burns, in one transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def judge(self) -> dict[str, str]:
        """All of them; answers by endpoint why it failed, where it did. The next round tries again."""
        at = now()
        with use(Context(system("monitor"))):
            async with self._db.reading() as session:
                waiting = await service.to_judge(session, at - min(LATELY))
        return await every("budgets", [(name, unit, at) for name, unit in waiting], self._judge)

    async def _judge(self, one: tuple[str, str, datetime]) -> None:
        name, unit, at = one
        async with owned(self._db, name, unit) as tx:
            if tx is None:
                return
            told = await service.burning(tx.session, name)
            try:
                endpoint = await store.endpoint(tx.session, name)
            except NotFound:
                return
            promise = await service.promise(tx.session, endpoint.use_case)
            if not endpoint.serving:
                for objective in told:
                    await self._end(tx, endpoint, objective, "the endpoint is removed")
            elif promise:
                await self._look(tx, endpoint, promise, told, at)

    async def _look(
        self, tx: Tx, endpoint: Endpoint, promise: Promise, told: Mapping[Name, Burn], at: datetime
    ) -> None:
        short = await _events(tx, endpoint.endpoint, promise, LATELY, at)
        pledges = _pledges(promise)
        if not told and not any(may_burn(pledge.share, short[pledge.name]) for pledge in pledges):
            return
        longer = await _events(tx, endpoint.endpoint, promise, LONGER, at)
        for pledge in pledges:
            before = told.get(pledge.name)
            windows = {**short[pledge.name], **longer[pledge.name]}
            match judge(pledge.share, windows, before.severity if before else None):
                case Burning() as burning:
                    await self._say(tx, endpoint, pledge, burning, before.since if before else at)
                case Over(asked) if before:
                    await self._end(tx, endpoint, pledge.name, _over(asked, before.severity))
                case _:
                    pass

    async def _say(self, tx: Tx, endpoint: Endpoint, pledge: _Pledge, burning: Burning, since: datetime) -> None:
        name, rule = endpoint.endpoint, burning.rule
        detail = _detail(pledge, burning)
        raise_alert(
            tx, KINDS[pledge.name], name, rule.severity, f"{name} spends its error budget of {pledge.name} too fast",
            detail,
            f"Look at the endpoint's service by version (fairlead service {name}): go back to an earlier version where "
            "it is the version's, add or free scorer hosts where it is their load.",
            unit=endpoint.unit, since=since, how_much=detail, cost=_cost(burning),
        )  # fmt: skip
        burn = Burn(pledge.name, rule.severity, since, detail)
        await service.save_burning(tx.session, name, endpoint.unit, burn)
        tx.then.append(metrics.FOUND.labels(name, f"{pledge.name} budget").inc)

    async def _end(self, tx: Tx, endpoint: Endpoint, objective: Name, reason: str) -> None:
        await service.end_burning(tx.session, endpoint.endpoint, objective)
        resolve_alert(tx, KINDS[objective], endpoint.endpoint, reason, unit=endpoint.unit)


async def _events(
    tx: Tx, name: str, promise: Promise, lengths: Sequence[timedelta], at: datetime
) -> Mapping[Name, Windows]:
    """By objective, what happened in each of the last so many times."""
    found = await counted.read(tx.session, name, Span.last(max(lengths), at))
    latency: dict[timedelta, Events] = {}
    availability: dict[timedelta, Events] = {}
    for length in lengths:
        span = Span.last(length, at)
        online = slots.together(
            slot.counts for slot in found if slot.place.mode in ONLINE and slot.start >= span.start
        )  # fmt: skip
        used = costs.together((await usage.used(tx.session, name, span)).values())
        latency[length] = Events.of_latency(online.latency, promise.latency_p99_ms)
        availability[length] = Events.of_availability(online.inferences, used.faults or 0)
    return {"latency": latency, "availability": availability}


def _pledges(promise: Promise) -> tuple[_Pledge, ...]:
    slow = f"took longer than {promise.latency_p99_ms:g} ms"
    return _Pledge("latency", LATENCY_SHARE, slow), _Pledge("availability", promise.availability, "got no answer")


def _detail(pledge: _Pledge, burning: Burning) -> str:
    events = burning.events
    said = (
        f"{events.bad:,} of {events.valid:,} requests of the last {_span(burning.rule.long)} {pledge.bad} "
        f"({events.bad / events.valid:.2%})"
    )
    if pledge.share == 1:
        return f"{said}: promised is that none does"
    allowed = f"promised are no more than {1 - pledge.share:.2%}"
    return f"{said}; {allowed}: the budget is spent {burning.rate:.3g} times as fast as it lasts"


def _cost(burning: Burning) -> str | None:
    """Of the budget of 30 days; None where the objective leaves none."""
    if not isfinite(burning.rate):
        return None
    spent, left = burning.rate * (burning.rule.long / _PERIOD), _PERIOD / burning.rate
    lasts = f"{left / timedelta(hours=1):.3g} hours" if left < timedelta(days=2) else f"{left.days} days"
    return (
        f"{spent:.3g} of the error budget of 30 days in the last {_span(burning.rule.long)}; so fast a whole one lasts "
        f"{lasts}"
    )


def _span(length: timedelta) -> str:
    hours = length // timedelta(hours=1)
    if hours == 1:
        return "hour"
    return f"{hours} hours" if hours < 48 else f"{hours // 24} days"


def _over(asked: bool, told: Severity) -> str:
    minutes = CALM[told] // timedelta(minutes=1)
    span = f"{minutes} minutes" if minutes < 60 else f"{minutes // 60} hours"
    return f"the last {span} kept within the budget" if asked else f"nobody asked in the last {span}"
