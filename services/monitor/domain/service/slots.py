"""Inferences by minute and version as counts that merge: any split and any order of the log gives the same ones."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple, TypeVar

from numpy.typing import NDArray

from ..latency import LatencyCounts
from ..windows import by_start

Array = NDArray[Any]
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


def by_minute(place: Place, at_s: Array, rows: Array, latency_ms: Array) -> dict[tuple[Place, float], Counts]:
    """Inferences of one place by the minute (its start) in which they came: of each when that was (seconds since the
    epoch), how many rows it had and how long it took."""
    took = LatencyCounts.of if place.mode in ONLINE else lambda _: _NONE
    return {
        (place, start): Counts(len(here), int(rows[here].sum()), took(latency_ms[here]))
        for start, here in by_start(at_s, MINUTE_S)
    }


def together(counts: Iterable[Counts]) -> Counts:
    """All of them as one."""
    return reduce(Counts.merge, counts, Counts())


def by(keyed: Iterable[tuple[K, Counts]]) -> Mapping[K, Counts]:
    """Merged by key."""
    groups: dict[K, list[Counts]] = {}
    for key, counts in keyed:
        groups.setdefault(key, []).append(counts)
    return {key: together(members) for key, members in groups.items()}
