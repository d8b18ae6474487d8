"""Compares the share of right decisions among the newest hundred with the highest that it ever was.

Pesaranghader, Viktor: *Fast Hoeffding drift detection method for evolving data streams*, European Conference on
Machine Learning (2016).
"""

from math import exp
from typing import Any, ClassVar

from river.drift.binary import FHDDM

from .base import Sequential


class Detector(Sequential):
    """At the confidence exp(-level)."""

    fields: ClassVar = ("n_one", "_sliding_window", "_u_max")

    def made(self, level: float) -> Any:
        return FHDDM(confidence_level=exp(-level))

    def update(self, value: float) -> bool:
        # It looks for a fall of what it counts, so it is given right decisions.
        return super().update(1 - int(value))
