"""Compares the distances between errors with the longest that they ever were.

Baena-Garcia, del Campo-Avila, Fidalgo, Bifet, Gavalda, Morales-Bueno: *Early drift detection method*, International
Workshop on Knowledge Discovery from Data Streams (2006).
"""

from typing import Any, ClassVar

from river.drift.binary import EDDM

from .base import Sequential

_WARM_ERRORS = 100


class Detector(Sequential):
    """Alarms where the distance is the longest one divided by 1 + level, or less: the longest one is often one of the
    first, which is so many times the usual one with a probability that falls as exp(-level)."""

    fields: ClassVar = (
        "_error_distances.mean.n", "_error_distances.mean._mean", "_error_distances._S", "_n", "_last_error",
        "_n_errors", "_p2s_prime_max",
    )  # fmt: skip

    def made(self, level: float) -> Any:
        share = 1 / (1 + level)
        return EDDM(warm_start=_WARM_ERRORS, alpha=max(0.95, share), beta=share)
