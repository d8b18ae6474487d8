"""Latencies in logarithmic buckets: they merge exactly and answer any quantile to two percent."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts import Latency

_GROWTH = math.log(1.04)
_LEAST_MS = 0.001
_LAST = 600
"""The last bucket begins at 16 million milliseconds."""


@dataclass(frozen=True)
class LatencyCounts:
    """How many inferences took how long: counts by bucket (DDSketch of Masson and others, 2019, with fixed range)."""

    buckets: Mapping[int, int]

    @classmethod
    def of(cls, latencies_ms: Sequence[float] | NDArray[Any]) -> "LatencyCounts":
        """Of latencies in milliseconds; what lies outside 0.001 to 16 million counts in the bucket at that end."""
        values = np.maximum(np.asarray(latencies_ms, np.float64), _LEAST_MS)
        places = np.minimum((np.log(values / _LEAST_MS) / _GROWTH).astype(np.int64), _LAST)
        found, counts = np.unique(places, return_counts=True)
        return cls(dict(zip(found.tolist(), counts.tolist(), strict=True)))

    def merge(self, other: "LatencyCounts") -> "LatencyCounts":
        """The counts of both: exactly those of all latencies together."""
        merged = dict(self.buckets)
        for bucket, count in other.buckets.items():
            merged[bucket] = merged.get(bucket, 0) + count
        return LatencyCounts(merged)

    @property
    def total(self) -> int:
        """How many inferences were counted."""
        return sum(self.buckets.values())

    def quantile(self, q: float) -> float:
        """Milliseconds; the middle of the bucket that holds the quantile."""
        wanted, reached = q * self.total, 0
        for bucket in sorted(self.buckets):
            reached += self.buckets[bucket]
            if reached >= wanted:
                return round(_LEAST_MS * math.exp((bucket + 0.5) * _GROWTH), 4)
        return 0.0

    def within(self, target_ms: float) -> int:
        """How many took no longer than so many milliseconds; the bucket of the target counts by its middle."""
        last = math.log(max(target_ms, _LEAST_MS) / _LEAST_MS) / _GROWTH - 0.5
        return sum(count for bucket, count in self.buckets.items() if bucket <= last)

    def report(self) -> Latency | None:
        """Median and upper quantiles in milliseconds; None where nothing was counted."""
        if not self.buckets:
            return None
        return Latency(p50_ms=self.quantile(0.5), p95_ms=self.quantile(0.95), p99_ms=self.quantile(0.99))
