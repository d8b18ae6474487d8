"""How a version, or an endpoint as a whole, served in a span of time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from contracts import Latency

from . import costs, slots
from .costs import Cost, Prices, Used, cost
from .objectives import LATENCY_SHARE, ErrorBudget, Events, Promise
from .slots import ONLINE, Counts
from .spans import Span


@dataclass(frozen=True)
class Throughput:
    """On average since the first inference of the span."""

    inferences_per_s: float
    rows_per_s: float


@dataclass(frozen=True)
class Seen:
    """What is known of a span: counts by mode, the first moment with any, what scorers said they used."""

    by_mode: Mapping[str, Counts]
    first: datetime | None
    used: Used

    @classmethod
    def all(cls, seen: "Iterable[Seen]") -> "Seen":
        """Of several versions together."""
        each = list(seen)
        return cls(
            slots.by((mode, counts) for one in each for mode, counts in one.by_mode.items()),
            min((one.first for one in each if one.first), default=None), costs.together(one.used for one in each),
        )  # fmt: skip


@dataclass(frozen=True)
class Objective:
    """One part of what is promised, and what became of it."""

    objective: float
    """The share of requests that shall be good."""
    events: Events
    budget: ErrorBudget

    @classmethod
    def of(cls, objective: float, events: Events) -> "Objective":
        return cls(objective, events, ErrorBudget.of(events, objective))


@dataclass(frozen=True)
class Figures:
    """How it served. What is not known is None, with the reason in `unknown`."""

    inferences: int
    rows: int
    by_mode: Mapping[str, int]
    throughput: Throughput | None
    requests: int
    """That somebody waited for, and were answered: REST and streams. What follows is of these."""
    refused: int | None
    """Requests that their callers got wrong."""
    failed: int | None
    """Requests that were right and not answered."""
    availability: float | None
    """Answered requests of those that were right."""
    latency: Latency | None
    latency_objective: Objective | None
    availability_objective: Objective | None
    used: Used
    cost: Cost | None
    unknown: Mapping[str, str]


def figures(seen: Seen, span: Span, promise: Promise | None, prices: Prices | None) -> Figures:
    """All that can be told of what was seen."""
    whole = slots.together(seen.by_mode.values())
    online = slots.together(counts for mode, counts in seen.by_mode.items() if mode in ONLINE)
    told, unknown = _told(seen.used, online)
    failed = seen.used.faults if told else None
    answers = None if failed is None else Events.of_availability(online.inferences, failed)
    return Figures(
        whole.inferences, whole.rows, {mode: counts.inferences for mode, counts in seen.by_mode.items()},
        _throughput(whole, seen.first, span), online.inferences,
        None if failed is None else seen.used.refused - failed, failed, answers.good_share if answers else None,
        online.latency.report(),
        Objective.of(LATENCY_SHARE, Events.of_latency(online.latency, promise.latency_p99_ms)) if promise else None,
        Objective.of(promise.availability, answers) if promise and answers else None,
        seen.used, cost(seen.used, prices) if prices and seen.used.reports else None,
        unknown | _missing(promise, prices, None if seen.used.reports else unknown["availability"]),
    )  # fmt: skip


def _told(used: Used, online: Counts) -> tuple[bool, dict[str, str]]:
    """Whether scorers said how many requests got no answer; else why that is not known."""
    if not used.reports:
        why = "no scorer host has reported usage in this span" if online.inferences else "nothing was asked"
        return False, {"availability": why}
    if used.faults is None:
        return False, {"availability": "a scorer host does not tell its own failures from its callers'"}
    idle = not (online.inferences or used.faults)
    return True, {"availability": "nobody waited for an answer"} if idle else {}


def _missing(promise: Promise | None, prices: Prices | None, unreported: str | None) -> dict[str, str]:
    found: dict[str, str] = {}
    if promise is None:
        found["objectives"] = "the use case's service level has not been heard of"
    if prices is None:
        found["cost"] = "no prices are set"
    elif unreported:
        found["cost"] = unreported
    return found


def _throughput(counts: Counts, first: datetime | None, span: Span) -> Throughput | None:
    if first is None:
        return None
    seconds = max(1.0, (span.end - max(first, span.start)).total_seconds())
    return Throughput(counts.inferences / seconds, counts.rows / seconds)
