"""Compares the mean of all errors with that of those up to the best cut, by Hoeffding's bound.

Frias-Blanco, del Campo-Avila, Ramos-Jimenez, Morales-Bueno, Ortiz-Diaz, Caballero-Mota: *Online and non-parametric
drift detection methods based on Hoeffding's bounds*, IEEE Transactions on Knowledge and Data Engineering 27 (2015).
"""

from math import exp
from typing import Any, ClassVar

from river.drift.binary import HDDMA

from .base import Sequential


class Detector(Sequential):
    """At the confidence exp(-level); it looks for more errors alone."""

    fields: ClassVar = ("_x_min.n", "_x_min._mean", "_x_max.n", "_x_max._mean", "_z.n", "_z._mean")

    def made(self, level: float) -> Any:
        return HDDMA(drift_confidence=exp(-level), warning_confidence=exp(-level))
