"""How an endpoint serves: counts that merge, objectives and budgets by the book, costs at the given prices."""

from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.errors import Invalid
from services.monitor.domain.latency import LatencyCounts
from services.monitor.domain.service import costs
from services.monitor.domain.service.costs import Prices, Used, cost
from services.monitor.domain.service.figures import Seen, figures
from services.monitor.domain.service.objectives import ErrorBudget, Events, Promise
from services.monitor.domain.service.slots import Counts, Place, by
from services.monitor.domain.service.spans import Span, length_of
from services.monitor.settings import MonitorSettings

from .counting import Answered, counted

NOW = datetime(2026, 3, 2, 9, 30, 30, tzinfo=UTC)
PROMISE = Promise(50.0, 0.999)
_PLACES = st.builds(
    Place, st.just("credit"), st.just("retail"), st.sampled_from(["a", "b"]), st.integers(1, 2),
    st.sampled_from(["rest", "stream", "batch", "imported"]),
)  # fmt: skip
_ANSWERED = st.builds(Answered, _PLACES, st.floats(0, 600), st.integers(0, 50), st.floats(0, 1e8))
_USED = st.builds(
    Used, st.integers(0, 5), st.integers(0, 9), st.integers(0, 9), st.none() | st.integers(0, 9), st.integers(0, 100),
    st.integers(0, 100), st.integers(0, 100), st.integers(0, 100),
)  # fmt: skip


@given(st.lists(_ANSWERED, max_size=40), st.randoms())
def test_any_split_and_any_order_of_the_log_gives_the_same_counts(answered: list[Answered], random: Any) -> None:
    shuffled = random.sample(answered, len(answered))
    cuts = sorted(random.randrange(len(answered) + 1) for _ in range(3))
    parts = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(answered)], strict=True)]
    assert by(pair for part in parts for pair in counted(part).items()) == counted(answered)


@given(st.lists(_ANSWERED, max_size=40))
def test_a_minute_holds_what_came_in_it(answered: list[Answered]) -> None:
    """One by one: the whole of what came at once is what each of it adds."""
    alone = by(pair for one in answered for pair in counted([one]).items())
    assert counted(answered) == alone
    for (place, start), counts in alone.items():
        here = [one for one in answered if one.place == place and start <= one.at_s < start + 60]
        assert (counts.inferences, counts.rows) == (len(here), sum(one.rows for one in here))
        assert counts.latency.total == (len(here) if place.mode in ("rest", "stream") else 0)


@given(st.lists(_ANSWERED, max_size=40), st.floats(0.002, 1e6))
def test_share_within_a_target_is_that_of_the_latencies_to_two_percent(given: list[Answered], target: float) -> None:
    latencies = [one.latency_ms for one in given]
    within = LatencyCounts.of(latencies).within(target)
    assert sum(each <= target / 1.021 for each in latencies) <= within
    assert within <= sum(each <= target * 1.021 for each in latencies)


@given(st.lists(_USED, max_size=6), st.randoms())
def test_usage_of_several_versions_is_the_same_in_any_order(given: list[Used], random: Any) -> None:
    at = random.randrange(len(given) + 1)
    split = costs.together(given[:at]).merge(costs.together(given[at:]))
    assert costs.together(random.sample(given, len(given))) == costs.together(given) == split


def test_a_budget_is_what_the_objective_leaves() -> None:
    events = Events(valid=10_000, bad=25)
    budget = ErrorBudget.of(events, 0.999)
    assert (budget.allowed, budget.spent, budget.left) == (pytest.approx(10), 25, pytest.approx(-15))
    assert events.burn_rate(0.999) == pytest.approx(2.5) and events.good_share == 0.9975
    assert Events().burn_rate(0.999) == 0 and Events().good_share is None
    assert Events(5, 1).burn_rate(1.0) == inf and Events(5, 0).burn_rate(1.0) == 0


def seen(used: Used, **online: float) -> Seen:
    """100 requests of which some took long, and a batch."""
    latency = LatencyCounts.of([1.0] * int(100 - online.get("slow", 0)) + [80.0] * int(online.get("slow", 0)))
    modes = {"rest": Counts(100, 200, latency), "batch": Counts(1, 10_000)}
    return Seen(modes, NOW - timedelta(seconds=100), used)


def test_a_service_level_is_of_requests_that_somebody_waited_for() -> None:
    used = Used(reports=2, inferences=101, refused=30, faults=10)
    found = figures(seen(used, slow=4), Span.last(timedelta(hours=1), NOW), PROMISE, None)
    assert (found.inferences, found.rows, found.requests) == (101, 10_200, 100)
    assert found.throughput and found.throughput.rows_per_s == 102
    assert (found.refused, found.failed, found.availability) == (20, 10, pytest.approx(100 / 110))
    assert found.latency and found.latency.p50_ms == pytest.approx(1, rel=0.02)
    assert found.latency_objective and found.availability_objective
    assert found.latency_objective.events == Events(100, 4) and found.latency_objective.objective == 0.99
    assert found.availability_objective.events.burn_rate(0.999) == pytest.approx(10 / 110 / 0.001)
    assert found.cost is None and found.unknown == {"cost": "no prices are set"}


@pytest.mark.parametrize(
    ("used", "why"),
    [
        (Used(), "no scorer host has reported usage in this span"),
        (Used(reports=1, refused=3, faults=None), "a scorer host does not tell its own failures from its callers'"),
    ],
)
def test_what_nobody_told_is_no_zero(used: Used, why: str) -> None:
    found = figures(seen(used), Span.last(timedelta(hours=1), NOW), None, Prices("EUR", 0.001, None))
    assert (found.refused, found.failed, found.availability) == (None, None, None)
    assert found.latency_objective is None and found.availability_objective is None
    assert found.unknown["availability"] == why and "objectives" in found.unknown
    assert (found.cost is None) == (found.unknown.get("cost") == why) == (not used.reports)


def test_a_shadow_has_costs_and_no_availability() -> None:
    quiet = Seen({}, None, Used(reports=3, inferences=50, model_cpu_s=2.0))
    found = figures(quiet, Span.last(timedelta(hours=1), NOW), PROMISE, Prices("EUR", 1.0, None))
    assert (found.requests, found.failed, found.availability, found.latency, found.throughput) == (
        0,
        0,
        None,
        None,
        None,
    )
    assert found.unknown == {"availability": "nobody waited for an answer"}
    assert found.cost and found.cost.per_1000_inferences == pytest.approx(40)


def test_a_cost_is_processor_time_and_memory_at_their_prices() -> None:
    used = Used(2, inferences=4_000, model_cpu_s=30, serving_cpu_s=10, memory_byte_s=2e9 * 7_200, seconds=7_200)
    found = cost(used, Prices("EUR", 0.01, 0.05))
    assert found.total == pytest.approx(40 * 0.01 + 4 * 0.05)
    assert found.per_1000_inferences == pytest.approx(0.15)
    assert used.memory_bytes == 2e9 and cost(Used(), Prices("EUR", 1, 1)).per_1000_inferences is None


def test_a_price_needs_a_currency() -> None:
    assert MonitorSettings().prices is None
    assert MonitorSettings(price_gb_hour=0.1, price_currency="CHF").prices == Prices("CHF", None, 0.1)
    for wrong in (
        {"price_cpu_second": 0.1},
        {"price_cpu_second": -1, "price_currency": "EUR"},
        {"price_currency": "€"},
    ):
        with pytest.raises(ValueError, match=r"price|FAIRLEAD_PRICE_CURRENCY"):
            MonitorSettings.model_validate(wrong)


def test_a_span_ends_now_and_begins_where_counts_do() -> None:
    assert Span.last(length_of("90m", 30), NOW).start == datetime(2026, 3, 2, 8, tzinfo=UTC)
    assert Span.last(length_of("24h", 30), NOW).start == datetime(2026, 3, 1, 9, tzinfo=UTC)
    assert Span.last(length_of("30d", 30), NOW).start == datetime(2026, 1, 31, 9, tzinfo=UTC)
    for wrong in ("", "0h", "-1h", "1.5h", "24", "h", "1w", "4m", "31d", "721h", "24h ", "٣h", "9999999d", "99999999h"):
        with pytest.raises(Invalid, match="span: "):
            length_of(wrong, 30)
