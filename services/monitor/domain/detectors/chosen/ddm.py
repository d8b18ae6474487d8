"""Compares the share of errors with the lowest that it ever was, in its standard deviations then.

Gama, Medas, Castillo, Rodrigues: *Learning with drift detection*, Brazilian Symposium on Artificial Intelligence
(2004).
"""

from math import sqrt
from typing import Any, ClassVar

from river.drift.binary import DDM

from .base import Sequential

_WARM_LABELS = 500
"""Before so many the lowest share is luck."""


class Detector(Sequential):
    """At so many standard deviations as have a normal tail of about exp(-level)."""

    fields: ClassVar = ("_p.n", "_p._mean", "_p_min", "_s_min", "_ps_min")

    def made(self, level: float) -> Any:
        return DDM(warm_start=_WARM_LABELS, drift_threshold=sqrt(2 * level))
