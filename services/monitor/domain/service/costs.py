"""What versions used of scorer hosts, and what that costs at the prices of the installation."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

_GB_HOUR = 1e9 * 3_600
"""A gigabyte (10^9 bytes) for an hour, in bytes times seconds."""


@dataclass(frozen=True)
class Used:
    """Sums over reports of usage."""

    reports: int = 0
    inferences: int = 0
    refused: int = 0
    faults: int | None = 0
    """None where a report does not tell them apart from what callers got wrong."""
    model_cpu_s: float = 0.0
    serving_cpu_s: float = 0.0
    memory_byte_s: float = 0.0
    """Memory times the length of each period."""
    seconds: float = 0.0
    """The periods' lengths, of all hosts."""

    def merge(self, other: "Used") -> "Used":
        """Of both together."""
        known = self.faults is not None and other.faults is not None
        return Used(
            self.reports + other.reports, self.inferences + other.inferences, self.refused + other.refused,
            (self.faults or 0) + (other.faults or 0) if known else None, self.model_cpu_s + other.model_cpu_s,
            self.serving_cpu_s + other.serving_cpu_s, self.memory_byte_s + other.memory_byte_s,
            self.seconds + other.seconds,
        )  # fmt: skip

    @property
    def cpu_s(self) -> float:
        """Of the model and of serving it."""
        return self.model_cpu_s + self.serving_cpu_s

    @property
    def memory_gb_hours(self) -> float:
        """Gigabytes (10^9 bytes) times hours, of the periods in which it was used."""
        return self.memory_byte_s / _GB_HOUR

    @property
    def memory_bytes(self) -> float | None:
        """On one host, on average over those periods."""
        return self.memory_byte_s / self.seconds if self.seconds else None


def together(used: Iterable[Used]) -> Used:
    """All of them as one."""
    return reduce(Used.merge, used, Used())


@dataclass(frozen=True)
class Prices:
    """What the installation pays; what has no price costs nothing."""

    currency: str
    cpu_second: float | None
    gb_hour: float | None


@dataclass(frozen=True)
class Cost:
    """In the prices' currency."""

    total: float
    per_1000_inferences: float | None
    """None where none was made."""


def cost(used: Used, prices: Prices) -> Cost:
    """Of processor time and memory; the inferences are those that the same reports count."""
    total = used.cpu_s * (prices.cpu_second or 0.0) + used.memory_gb_hours * (prices.gb_hour or 0.0)
    return Cost(total, total / used.inferences * 1000 if used.inferences else None)
