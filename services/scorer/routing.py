"""Which of an endpoint's live versions answers a request: the same everywhere, for whom it must be."""

import random
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Protocol

from contracts import COHORTS, DeploymentChanged, Routing, Variant

Counts = Mapping[int, tuple[float, float]]
"""By version, the sum of its rewards and the number of the outcomes that they are of."""


class Router(Protocol):
    """Decides for one endpoint."""

    def version(self, entity: str | None, correlation_id: str | None, application: str) -> int:
        """The version that answers."""
        ...


def router_of(change: DeploymentChanged, versions: Sequence[Variant]) -> Router | None:
    """How an endpoint's requests are shared out among those of its versions that are there; None: the champion answers
    them all."""
    live = [variant for variant in versions if variant.role == "live"]
    if change.routing is None or len(live) < 2:
        return None
    return Arms(change.routing, live) if change.routing.strategy == "bandit" else Shares(change.routing, live)


class Cohort:
    """Puts keys into cohorts: by a hash with the experiment's salt, so that every process and host says the same."""

    def __init__(self, salt: str) -> None:
        self._begun = blake2b(f"{salt}\n".encode(), digest_size=8)

    def of(self, key: str) -> int:
        """From 0 to 9999."""
        begun = self._begun.copy()
        begun.update(key.encode(errors="surrogatepass"))
        return int.from_bytes(begun.digest()) * COHORTS >> 64


class Shares:
    """Canary and A/B: each live version has its cohorts, the champion all others.

    An entity keeps to its version. Without one a canary gets its share of the requests; A/B goes by the caller's key,
    which is the correlation id, else the application.
    """

    def __init__(self, routing: Routing, live: Sequence[Variant]) -> None:
        self._cohort = Cohort(routing.salt)
        self._by_key = routing.strategy == "ab"
        self._champion = live[0].version
        ranges = sorted((c.first, c.last, variant.version) for variant in live for c in variant.cohorts)
        self._firsts = [first for first, _, _ in ranges]
        self._ranges = ranges

    def version(self, entity: str | None, correlation_id: str | None, application: str) -> int:
        """The version of an entity, of a caller's key, or of a request by chance."""
        key = entity
        if key is None and self._by_key:
            key = correlation_id or application
        return self.at(random.randrange(COHORTS) if key is None else self._cohort.of(key))

    def at(self, cohort: int) -> int:
        """The version of a cohort."""
        place = bisect_right(self._firsts, cohort) - 1
        if place >= 0 and cohort <= self._ranges[place][1]:
            return self._ranges[place][2]
        return self._champion


class Arms:
    """Thompson sampling over Beta posteriors, from Beta(1, 1); a reward between 0 and 1 counts as a part of a success.

    Agrawal and Goyal, "Analysis of Thompson Sampling for the Multi-armed Bandit Problem", COLT 2012.
    """

    def __init__(
        self, routing: Routing, live: Sequence[Variant], draw: Callable[[float, float], float] = random.betavariate
    ) -> None:
        self.salt = routing.salt
        self._draw = draw
        self._arms = {variant.version: (1.0, 1.0) for variant in live}

    def learn(self, counts: Counts) -> None:
        """Take what followed from decisions so far, in place of what was known."""
        for version, (rewards, outcomes) in counts.items():
            if version in self._arms:
                self._arms[version] = (1.0 + rewards, 1.0 + outcomes - rewards)

    def version(self, entity: str | None, correlation_id: str | None, application: str) -> int:
        """The version with the largest draw from its posterior: whoever asks."""
        return max(self._arms, key=lambda version: self._draw(*self._arms[version]))
