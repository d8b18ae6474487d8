"""Compares a weighted mean of the newest errors with the best one before, by McDiarmid's bound.

Frias-Blanco, del Campo-Avila, Ramos-Jimenez, Morales-Bueno, Ortiz-Diaz, Caballero-Mota: *Online and non-parametric
drift detection methods based on Hoeffding's bounds*, IEEE Transactions on Knowledge and Data Engineering 27 (2015).
"""

from math import exp
from typing import Any, ClassVar

from river.drift.binary import HDDMW

from .base import Sequential

_MEANS = ("_total", "_s1_incr", "_s2_incr")


class Detector(Sequential):
    """At the confidence exp(-level); it looks for more errors alone."""

    fields: ClassVar = (
        *(f"{mean}.{part}" for mean in _MEANS for part in ("_ewma._ewmean", "_is_init", "_ibc")), "_incr_cutpoint",
    )  # fmt: skip

    def made(self, level: float) -> Any:
        return HDDMW(drift_confidence=exp(-level), warning_confidence=exp(-level))
