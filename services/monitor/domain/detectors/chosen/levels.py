"""At which level each detector alarms falsely once in a number of values.

Detectors that state no rate, or one that does not hold for values without bounds, are all treated alike: stationary
values are simulated, alarms counted at levels that are passed often enough to count, and the logarithm of their rate
is followed down its line (ADR 43). `python -m bench.drift.calibrating` makes the table: standard normal values for
what sees columns; errors with a share of 0.02, 0.1, 0.3 and 0.5, the worst of them, for what sees labels.
"""

from math import log

LINES: dict[str, tuple[float, float]] = {
    "adwin": (-6.11, -1.375), "page-hinkley": (-1.48, -0.960), "kswin": (-2.26, -0.811),
    "ddm": (-4.44, -1.945), "eddm": (-8.80, -5.058), "fhddm": (-4.82, -0.268), "hddm-a": (-3.14, -1.198),
    "hddm-w": (-1.33, -1.338),
}  # fmt: skip
"""By name: the logarithm of the rate at level 0, and how much it changes for each level."""

_LEAST = 0.1
_MARGIN = 2.0
"""Shares of errors that were not simulated may be worse, and a line does not fit everywhere."""


def level(name: str, values: float) -> float:
    """That a detector passes falsely once in so many values."""
    start, slope = LINES[name]
    return max(_LEAST, (-log(_MARGIN * values) - start) / slope)
