"""An error budget that burns too fast is told once, as a person can use it, and ends by itself."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from contracts import AlertRaised, AlertResolved, Service
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.monitor import store
from services.monitor.domain.service.burning import CALM, RULES, Burning, Over, Severity, judge, may_burn
from services.monitor.domain.service.objectives import Events
from services.monitor.domain.service.slots import Place
from services.monitor.store import service, slots, usage
from services.monitor.usecases.burning import Budgets

from . import streams
from .counting import Answered, counted
from .saying import alerts, deployment, fresh
from .test_service_levels import promised, used

LENGTHS = sorted({length for rule in RULES for length in rule.windows})
_WINDOWS = st.fixed_dictionaries({
    length: st.builds(lambda good, bad: Events(good + bad, bad), st.integers(0, 500), st.integers(0, 100))
    for length in LENGTHS
})  # fmt: skip


def windows(**shares: float) -> dict[timedelta, Events]:
    """A thousand requests in each window, of which so many were bad."""
    by_name = {"m5": 0.0, "m30": 0.0, "h1": 0.0, "h6": 0.0, "d3": 0.0} | shares
    return {
        length: Events(1_000, round(1_000 * by_name[name]))
        for length, name in zip(LENGTHS, ("m5", "m30", "h1", "h6", "d3"), strict=True)
    }


def said(found: Burning | Over | None) -> Severity | bool | None:
    return found.rule.severity if isinstance(found, Burning) else found is not None and None


@pytest.mark.parametrize(
    ("shares", "severity"),
    [
        ({"m5": 0.15, "h1": 0.15}, "critical"),
        ({"m5": 0.14, "h1": 0.14}, False),  # 14 times as fast: not yet
        ({"m5": 0.02, "h1": 0.15, "m30": 0.02}, False),  # it was, and is over
        ({"m5": 0.50, "h1": 0.02}, False),  # a moment that hardly matters
        ({"m30": 0.07, "h6": 0.07}, "warning"),
        ({"m5": 0.2, "h1": 0.2, "m30": 0.2, "h6": 0.2}, "critical"),
        ({"m30": 0.02, "h6": 0.02, "d3": 0.02}, "info"),
        ({"m30": 0.02, "h6": 0.02, "d3": 0.009}, False),  # a tenth of the budget is not gone
        ({"m30": 0.001, "h6": 0.2, "d3": 0.03}, False),  # an outage that is over
        ({"m30": 0.07, "h6": 0.07, "d3": 0.07}, "warning"),
    ],
)
def test_both_windows_must_burn(shares: dict[str, float], severity: str) -> None:
    assert said(judge(0.99, windows(**shares), None)) == severity


def test_a_handful_of_requests_says_nothing() -> None:
    few = dict.fromkeys(LENGTHS, Events(9, 9))
    assert judge(0.99, few, None) is None
    assert said(judge(0.99, dict.fromkeys(LENGTHS, Events(10, 10)), None)) == "critical"
    assert judge(1.0, few, None) is None and Events(9, 9).burn_rate(1.0) == inf


def test_an_episode_is_told_once_and_again_only_when_it_is_worse() -> None:
    slow, fast = windows(m30=0.07, h6=0.07), windows(m5=0.2, h1=0.2, m30=0.2, h6=0.2)
    assert judge(0.99, slow, "warning") is None and judge(0.99, fast, "critical") is None
    assert said(judge(0.99, fast, "warning")) == "critical"
    assert judge(0.99, slow, "critical") is None, "less bad is not over"
    assert judge(0.99, windows(m30=0.02), "critical") is None, "it must last again, too"
    assert judge(0.99, windows(m30=0.01, h6=0.2), "warning") == Over(asked=True)
    assert judge(0.99, dict.fromkeys(LENGTHS, Events()), "critical") == Over(asked=False)
    assert judge(0.99, windows(), None) is None
    slow = windows(m30=0.02, h6=0.02, d3=0.02)
    assert judge(0.99, slow, "info") is None and judge(0.99, slow, "warning") is None
    assert judge(0.99, windows(h6=0.02, d3=0.02), "info") is None, "half an hour is not the end of a slow one"
    assert judge(0.99, windows(h6=0.009, d3=0.02), "info") is None, "what begins at 1 does not end just below it"
    assert judge(0.99, windows(h6=0.008, d3=0.02), "info") == Over(asked=True)
    assert said(judge(0.99, windows(m30=0.07, h6=0.07, d3=0.02), "info")) == "warning"


@given(_WINDOWS, st.sampled_from([0.9, 0.99, 0.999, 1.0]))
def test_long_windows_are_read_wherever_they_could_matter(found: dict[timedelta, Events], objective: float) -> None:
    if isinstance(judge(objective, found, None), Burning):
        assert may_burn(objective, found)
    assert not isinstance(judge(objective, found, None), Over) and {*CALM.values()} <= {*found}


class Story:
    """An endpoint with a promise of 20 ms and 99 %, as the monitor's tables know it."""

    def __init__(self, db: Database) -> None:
        self.db, self.endpoint = db, fresh()
        self.budgets = Budgets(db)

    async def begin(self) -> None:
        event = deployment(self.endpoint, streams.schema(), None)
        async with self.db.transaction() as tx:
            await store.save_desired(tx.session, event)
            await service.save_promise(
                tx.session, promised(event.use_case, latency_p99_ms=20.0, availability=0.99)
            )  # fmt: skip

    async def asked(self, times: int, latency_ms: float, ago: timedelta, mode: str = "rest") -> None:
        place, at = Place(self.endpoint, "retail", "census-employment", 1, mode), datetime.now(UTC) - ago
        some = [Answered(place, at.timestamp(), 1, latency_ms)] * times
        async with self.db.transaction() as tx:
            await slots.add(tx.session, 0, counted(some))

    async def forget(self) -> None:
        """As if all of it had been long ago."""
        async with self.db.transaction() as tx:
            for statement in ("UPDATE slot SET start = start - interval '2 days'", "DELETE FROM usage"):
                await tx.session.execute(text(statement))

    async def judge(self) -> list[AlertRaised | AlertResolved]:
        """What was said of the endpoint so far, after a look."""
        assert await self.budgets.judge() == {}
        return await alerts(self.db)


@pytest.fixture
async def story(service_db: Callable[[Service], Database]) -> Story:
    made = Story(service_db("monitor"))
    with use(Context(system("monitor"))):
        await made.begin()
    return made


async def test_slow_answers_raise_one_alarm_that_ends_with_them(story: Story) -> None:
    with use(Context(system("monitor"))):
        await story.asked(200, 1.0, timedelta(minutes=3))
        await story.asked(500, 9_000.0, timedelta(minutes=3), "batch")  # nobody waited for those
        assert await story.judge() == []
        await story.asked(60, 300.0, timedelta(minutes=2))
        (raised,) = await story.judge()
        assert await story.judge() == [raised]
        assert isinstance(raised, AlertRaised)
        assert (raised.kind, raised.subject, raised.severity) == ("latency-budget", story.endpoint, "critical")
        assert "60 of 260 requests of the last hour took longer than 20 ms (23.08%)" in raised.detail
        assert "23.1 times as fast" in raised.detail
        assert (
            raised.cost
            == "0.0321 of the error budget of 30 days in the last hour; so fast a whole one lasts 31.2 hours"
        )
        async with story.db.reading() as session:
            assert set(await service.burning(session, story.endpoint)) == {"latency"}
        await story.forget()
        await story.asked(50, 1.0, timedelta(minutes=1))
        _, resolved = await story.judge()
        assert await story.judge() == [raised, resolved]
        assert isinstance(resolved, AlertResolved) and resolved.alert_id == raised.alert_id
        await story.asked(50, 300.0, timedelta(minutes=1))
        assert [type(event) for event in await story.judge()][2:] == [AlertRaised], "another episode"


async def test_requests_without_an_answer_raise_an_alarm_although_none_is_logged(story: Story) -> None:
    with use(Context(system("monitor"))):
        async with story.db.transaction() as tx:
            await usage.save(tx.session, used(story.endpoint, 40), "retail")
        (raised,) = await story.judge()
        assert isinstance(raised, AlertRaised) and raised.kind == "availability-budget"
        assert "40 of 40 requests of the last hour got no answer (100.00%)" in raised.detail
        gone = deployment(story.endpoint, streams.schema(), None, revision=2, state="removed")
        async with story.db.transaction() as tx:
            await store.save_desired(tx.session, gone)
        _, resolved = await story.judge()
        assert isinstance(resolved, AlertResolved) and resolved.reason == "the endpoint is removed"
