"""Inferences by minute and version as counts that merge: any split and any order of the log gives the same ones."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple, TypeVar

from ..latency import LatencyCounts
from ..windows import window_start

K = TypeVar("K")

_NONE = LatencyCounts({})

MINUTE_S = 60
ONLINE = frozenset({"rest", "stream"})
"""Modes in which somebody waits for each answer: what a service level is about. A batch has its own end, and what was
imported somebody else has served."""


class Place(NamedTuple):
    """Whose inferences: one version behind an endpoint, asked in one mode."""

    endpoint: str
    unit: str
    model: str
    version: int
    mode: str


class Answered(NamedTuple):
    """One inference as far as it is counted here: when it came (seconds since the epoch) and how long it took."""

    place: Place
    at_s: float
    rows: int
    latency_ms: float


@dataclass(frozen=True)
class Counts:
    """Inferences, their rows, and how long those took that somebody waited for."""

    inferences: int = 0
    rows: int = 0
    latency: LatencyCounts = _NONE

    def merge(self, other: "Counts") -> "Counts":
        """Of both together."""
        return Counts(
            self.inferences + other.inferences, self.rows + other.rows, self.latency.merge(other.latency)
        )  # fmt: skip


def counted(answered: Iterable[Answered]) -> dict[tuple[Place, float], Counts]:
    """By place and the minute (its start) in which they came."""
    groups: dict[tuple[Place, float], list[Answered]] = {}
    for one in answered:
        groups.setdefault((one.place, window_start(one.at_s, MINUTE_S)), []).append(one)
    return {key: _of(key[0].mode, members) for key, members in groups.items()}


def _of(mode: str, members: list[Answered]) -> Counts:
    latencies = [one.latency_ms for one in members] if mode in ONLINE else []
    return Counts(len(members), sum(one.rows for one in members), LatencyCounts.of(latencies))


def together(counts: Iterable[Counts]) -> Counts:
    """All of them as one."""
    return reduce(Counts.merge, counts, Counts())


def by(keyed: Iterable[tuple[K, Counts]]) -> Mapping[K, Counts]:
    """Merged by key."""
    groups: dict[K, list[Counts]] = {}
    for key, counts in keyed:
        groups.setdefault(key, []).append(counts)
    return {key: together(members) for key, members in groups.items()}
