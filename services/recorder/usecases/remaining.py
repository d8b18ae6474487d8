"""What an erasure does not take away by itself: who does that on hearing of it, and what goes when its time is over."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain

from contracts import (
    AttributionsMeasured,
    AttributionsRequested,
    InferenceCompleted,
    InferenceImported,
    InferenceLogged,
    InferenceRequested,
    MonitorReported,
    OutcomeObserved,
    OutcomeReported,
)
from services.kit.outbox import ANSWERS_KEPT
from services.kit.provision import TopicSpec
from services.kit.rights import DEAD_LETTERS_KEPT

_TOPICS = (
    InferenceRequested, InferenceCompleted, InferenceImported, InferenceLogged, OutcomeReported, OutcomeObserved,
    MonitorReported, AttributionsRequested, AttributionsMeasured,
)  # fmt: skip


_FORGETS = "the topic forgets them; later where Kafka was away when they were to be written"
_LONGEST_WAIT = timedelta(days=7)
"""The most that `FAIRLEAD_KSERVE_WAIT_HOURS` may be."""
_LONGEST_WINDOW = timedelta(days=1)
"""The most that an endpoint's `window_s` may be."""
_SAMPLED = "rows to be explained when their window of decisions closes"


@dataclass(frozen=True)
class Remainder:
    """Something about an erased decision that lies elsewhere."""

    what: str
    where: str
    by: datetime | None
    """When it is gone at the latest; None: no time ends it."""
    how: str


@dataclass(frozen=True)
class Kept:
    """How long what lies elsewhere is kept there."""

    windows: timedelta = timedelta(days=30)
    spooled: timedelta = timedelta(hours=1)
    explanations: timedelta = timedelta(days=365)
    """After the decision."""


def remaining(asked: datetime, kept: Kept, *, told: bool = True) -> list[Remainder]:
    """All that is known to hold anything of a decision that was made before the erasure was asked for.

    `told`: whether those who remove something on hearing of it heard.
    """
    windows = Remainder(
        "figures over windows of rows: they name nobody, yet those of a window of few rows tell its values", "monitor",
        asked + kept.windows, "forgotten",
    )  # fmt: skip
    spools = Remainder(
        "inferences as they went to the topic", "hosts of the scorer", asked + kept.spooled,
        "deleted when Kafka has them; later only while it, or the host, is away",
    )  # fmt: skip
    return [
        *(_told() if told else _untold(asked, kept)),
        *chain.from_iterable(_kafka(asked)),
        *_here(asked),
        spools,
        windows,
        *_beyond(),
    ]


def _told() -> Iterator[Remainder]:
    hearing = "removed on hearing decisions.erased, within seconds while the service runs"
    yield Remainder("explanations, and the answers that told them", "scorer", None, hearing)
    yield Remainder("outcomes as they were counted", "monitor", None, hearing)
    yield Remainder(_SAMPLED, "monitor", None, hearing)


def _untold(asked: datetime, kept: Kept) -> Iterator[Remainder]:
    """Of an erasure that was begun before the recorder said `decisions.erased`."""
    how = "not removed: this erasure told nobody of all that it took; forgotten by age"
    yield Remainder("explanations", "scorer", asked + kept.explanations, how)
    yield Remainder("answers to requests with an Idempotency-Key", "scorer", asked + ANSWERS_KEPT, "forgotten")
    since = "FAIRLEAD_OUTCOMES_KEPT_DAYS after the decision, and up to 2 days"
    yield Remainder("outcomes as they were counted", "monitor", None, f"{how}, {since}")
    by = asked + _LONGEST_WINDOW
    yield Remainder(_SAMPLED, "monitor", by, "not removed: this erasure told nobody of all that it took; they end")


def _kafka(asked: datetime) -> Iterator[tuple[Remainder, Remainder]]:
    for event in _TOPICS:
        spec = TopicSpec.of(event.topic)
        assert spec.keep_ms is not None and spec.rolls_ms is not None  # a topic without an end would hold it for ever
        name = event.topic.of("{endpoint}") if event.topic.per_endpoint else event.topic.name
        by = asked + timedelta(milliseconds=spec.keep_ms + spec.rolls_ms)
        if event is InferenceLogged:  # what KServe logged is written when both halves are there
            by += _LONGEST_WAIT
        if (
            event is AttributionsRequested
        ):  # rows that are counted after the erasure are asked about at their window's end
            by += _LONGEST_WINDOW
        dead = TopicSpec.dead_letters(name)
        buried = by + DEAD_LETTERS_KEPT + timedelta(milliseconds=dead.rolls_ms or 0)
        yield (
            Remainder("records", f"topic {name}", by, _FORGETS),
            Remainder("records that could not be handled", f"topic {dead.name}", buried, _FORGETS),
        )


def _here(asked: datetime) -> Iterator[Remainder]:
    yield Remainder(
        "halves of inferences that KServe logged",
        "scorer",
        asked + _LONGEST_WAIT,
        "they end; none is recorded any more",
    )


def _beyond() -> Iterator[Remainder]:
    yield Remainder(
        "rewards of running bandits: a number from 0 to 1 by the decision's id", "hosts of the scorer", None,
        "not reached: a host forgets those of an experiment when it counts for another one",
    )  # fmt: skip
    yield Remainder(
        "files of batches and their results", "object store and connections", None,
        "not reached: they are whole files that somebody gave or fetched, and name no entity",
    )  # fmt: skip
    yield Remainder(
        "models and packages that learned from the rows, backups", "catalog, operators", None,
        "not reached: retrain without the rows, and let backups end",
    )  # fmt: skip
