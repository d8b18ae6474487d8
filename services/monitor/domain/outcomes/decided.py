"""What a model said of all rows, labelled or not: counts by decision and score, which merge exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts import Profile
from contracts.profile import CategoricalProfile
from services.kit.groups import OTHER, class_name

from .numbers import cut_places
from .tally import FAR, FINE

Array = NDArray[Any]

BINS = 2 * FAR * FINE + 1
_MIDDLE = FAR * FINE
NUMBERS = ""
"""The one name under which predicted numbers are counted."""

Counts = Mapping[str, Mapping[int, int]]
"""By what was decided, rows by bin: of the score in log-odds (`score_bin`), or the group of the predicted number."""


@dataclass(frozen=True)
class Decided:
    """Counts by variant. Rows without a score, and without a decision, are in none."""

    variants: Mapping[str, Counts] = field(default_factory=dict[str, Counts])

    def merge(self, other: "Decided") -> "Decided":
        """The rows of both: exactly those of all rows together."""
        merged = dict(self.variants)
        for variant, counts in other.variants.items():
            merged[variant] = added(merged.get(variant, {}), counts)
        return Decided(merged)

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {variant: counts_to_json(counts) for variant, counts in sorted(self.variants.items())}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Decided":
        """What `to_json` wrote."""
        return cls({variant: counts_from_json(counts) for variant, counts in data.items()})


def added(one: Counts, other: Counts) -> Counts:
    """The rows of both."""
    merged = {name: dict(bins) for name, bins in one.items()}
    for name, bins in other.items():
        mine = merged.setdefault(name, {})
        for place, rows in bins.items():
            mine[place] = mine.get(place, 0) + rows
    return merged


def counts_to_json(counts: Counts) -> dict[str, Any]:
    """By name, the bins and their rows."""
    return {name: [list(bins), list(bins.values())] for name, bins in counts.items()}


def counts_from_json(data: Mapping[str, Any]) -> Counts:
    """What `counts_to_json` wrote."""
    return {name: dict(zip(*each, strict=True)) for name, each in data.items()}


def score_bins(scores: Array) -> Array:
    """`score_bin` of each, counted from 0."""
    inner = np.clip(scores, 1e-6, 1 - 1e-6)
    places = np.rint(np.log(inner / (1 - inner)) * FINE).astype(np.int64)
    return np.clip(places, -_MIDDLE, _MIDDLE) + _MIDDLE


def by_bin(bins: Mapping[int, int]) -> Array:
    """Rows [BINS] of bins of scores."""
    made = np.zeros(BINS, np.int64)
    for place, rows in bins.items():
        made[place + _MIDDLE] = rows
    return made


@dataclass(frozen=True)
class Deciding:
    """How the decisions of a version are counted, by its baseline."""

    place: int
    """Of the prediction among the baseline's columns."""
    names: tuple[str, ...] | None
    """Of the classes by the prediction's bin; None where numbers are predicted."""
    groups: Array
    """[bins] The group that a predicted number of a bin is in."""
    bins: int
    """Of values; the next bin is of missing ones."""

    @classmethod
    def of(cls, profile: Profile) -> "Deciding | None":
        """None where the baseline has no decisions."""
        for place, column in enumerate(profile.columns):
            if column.role != "prediction":
                continue
            bins = len(column.counts)
            if isinstance(column, CategoricalProfile):
                names = (*map(class_name, column.classes), OTHER, OTHER)
                return cls(place, names, np.zeros(0, np.int64), bins)
            return cls(place, None, np.searchsorted(cut_places(column), np.arange(bins), side="left"), bins)
        return None

    def count(self, decisions: Array, scores: Array | None) -> Counts:
        """Of rows: the bins of their predictions, and their scores where they have some."""
        there = decisions != self.bins
        if self.names is None:
            return _named([NUMBERS], self.groups[decisions[there]], 0)
        if scores is None:
            return {}
        there &= (scores >= 0) & (scores <= 1)
        return _named(self.names, decisions[there] * BINS + score_bins(scores[there]), _MIDDLE)


def _named(names: Sequence[str], places: Array, middle: int) -> Counts:
    counts = np.bincount(places)
    found = np.flatnonzero(counts)
    made: dict[str, dict[int, int]] = {}
    for at, rows in zip(found.tolist(), counts[found].tolist(), strict=True):
        name, place = divmod(at, BINS)
        mine = made.setdefault(names[name], {})
        mine[place - middle] = mine.get(place - middle, 0) + rows
    return made
