"""Compares the means of the older and the newer part of a window that is as long as nothing changes, at every cut.

Bifet, Gavalda: *Learning from time-changing data with adaptive windowing*, SIAM International Conference on Data
Mining (2007).
"""

from math import exp
from typing import Any, ClassVar

from river.drift import ADWIN

from .base import Sequential


class Detector(Sequential):
    """At the significance exp(-level), asked at each value."""

    fields: ClassVar = ("_helper",)

    def made(self, level: float) -> Any:
        return ADWIN(delta=exp(-level), clock=1)
