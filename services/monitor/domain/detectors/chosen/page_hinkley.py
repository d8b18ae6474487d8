"""Sums how far values lie from their mean so far, beyond an allowance, upwards and downwards.

Page: *Continuous inspection schemes*, Biometrika 41 (1954).
"""

from typing import Any, ClassVar

from river.drift import PageHinkley

from .base import Sequential

_ALLOWANCE = 0.5
"""Half of the smallest change that matters by default: a tenth of a standard deviation in a hundred rows is one of
their mean's."""

_WARM_VALUES = 100
"""Before so many their mean is too uncertain to be summed against."""
_FORGETS_NOTHING = 1.0
"""River's default pulls the sum back until the allowance is used up, and false alarms come as often at any level."""


class Detector(Sequential):
    """Alarms where a sum passes the level."""

    fields: ClassVar = (
        "_x_mean.n", "_x_mean._mean", "_sum_increase", "_sum_decrease", "_min_increase", "_max_decrease",
    )  # fmt: skip

    def made(self, level: float) -> Any:
        return PageHinkley(min_instances=_WARM_VALUES, delta=_ALLOWANCE, threshold=level, alpha=_FORGETS_NOTHING)
