"""What a use case promises its callers, and how much of the error budget is left.

The definitions are those of Beyer, Murphy, Rensin, Kawahara and Thorne, The Site Reliability Workbook (2018), chapters
2 and 5: an indicator is the share of good events among the valid ones; the error budget is what the objective leaves,
one minus it, times the valid events; the burn rate is how fast the budget is spent relative to one that lasts for just
the objective's period: the share of bad events over one minus the objective.
"""

from dataclasses import dataclass
from math import inf
from typing import Literal

from ..latency import LatencyCounts

Name = Literal["latency", "availability"]

LATENCY_SHARE = 0.99
"""A use case promises the 99th percentile: so many requests take no longer than its target."""


@dataclass(frozen=True)
class Promise:
    """The service level of a use case."""

    latency_p99_ms: float
    availability: float


@dataclass(frozen=True)
class Events:
    """Requests that count, and those of them that were bad."""

    valid: int = 0
    bad: int = 0

    @classmethod
    def of_latency(cls, latency: LatencyCounts, target_ms: float) -> "Events":
        """Answers, and those that took longer than the target (to the sketch's two percent)."""
        total = latency.total
        return cls(total, total - latency.within(target_ms))

    @classmethod
    def of_availability(cls, answered: int, failed: int) -> "Events":
        """Requests that were right, answered or not; what a caller got wrong is not valid."""
        return cls(answered + failed, failed)

    def merge(self, other: "Events") -> "Events":
        """Of both together."""
        return Events(self.valid + other.valid, self.bad + other.bad)

    @property
    def good_share(self) -> float | None:
        """Of the valid ones; None where there is none."""
        return 1 - self.bad / self.valid if self.valid else None

    def burn_rate(self, objective: float) -> float:
        """1: the budget lasts for just the objective's period. 0 where nothing was valid; infinite where an objective
        of 1 leaves no budget."""
        if not self.bad:
            return 0.0
        return self.bad / self.valid / (1 - objective) if objective < 1 else inf


@dataclass(frozen=True)
class ErrorBudget:
    """Of a span: how many requests may be bad, how many were."""

    objective: float
    allowed: float
    spent: int

    @classmethod
    def of(cls, events: Events, objective: float) -> "ErrorBudget":
        """Of the valid requests of a span."""
        return cls(objective, (1 - objective) * events.valid, events.bad)

    @property
    def left(self) -> float:
        """Below 0 where more were bad than may be."""
        return self.allowed - self.spent
