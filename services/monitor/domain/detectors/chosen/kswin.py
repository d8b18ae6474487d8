"""Tests, at each value, whether the newest 30 of a window of 100 are distributed as 30 drawn from the older ones.

Raab, Heusinger, Schleif: *Reactive soft prototype computing for concept drift streams*, Neurocomputing 416 (2020).
"""

from math import exp
from random import Random
from typing import Any, ClassVar

from river.drift import KSWIN

from .base import Sequential


class Detector(Sequential):
    """At the significance exp(-level)."""

    fields: ClassVar = ("n", "window")

    def made(self, level: float) -> Any:
        return KSWIN(alpha=exp(-level), seed=0)

    def update(self, value: float) -> bool:
        # What is drawn follows from how many values there were: nothing of a generator needs to be kept.
        self.detector._rng = Random(self.detector.n)
        return super().update(value)
