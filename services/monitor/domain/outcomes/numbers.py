"""Predicted numbers in groups of about equal size, by the predictions of the training rows."""

import numpy as np

from contracts import NumericProfile, Profile

_SHARES = np.array([0.01, 0.025, *np.arange(1, 20) / 20, 0.975, 0.99])
"""Few enough groups that each has labels, many enough that a model errs alike within one, at the ends above all."""


def cut_places(column: NumericProfile) -> list[int]:
    """Which edges of a profile's bins part the groups."""
    passed, places = np.cumsum(column.counts), list[int]()
    for wanted in passed[-1] * _SHARES:
        place = int(np.searchsorted(passed[:-1], wanted))
        if place < len(column.edges) and (not places or place > places[-1]):
            places.append(place)
    return places


def cuts_of(profile: Profile | None) -> tuple[float, ...]:
    """Ascending: a number is in the group `count of cuts below it`. Empty where the baseline has no such numbers."""
    for column in profile.columns if profile else ():
        if column.role == "prediction" and isinstance(column, NumericProfile):
            return tuple(column.edges[place] for place in cut_places(column))
    return ()
