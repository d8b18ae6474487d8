"""How much a column moved, with an interval: evidence says that something changed, an effect says whether it matters.

While a change is in doubt its effect is looked at after every window, so the interval is a confidence sequence: it
holds at all looks together. Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas: *Time-uniform central limit theory and
asymptotic confidence sequences* (Annals of Statistics 52, 2024), with the boundary of a normal mixture. The reference
is drawn once: its own error has the usual normal interval, and both errors are added, half of the doubt to each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from contracts import FeatureEvidence
from services.kit.binned import stability

from .reference import Reference, Track

Array = NDArray[Any]
Measure = Literal["location", "spread", "distribution", "missing"]

ALPHA = 0.01
"""Intervals hold with 99 %, at all looks together."""
_Z_ONCE = 2.807
"""Normal quantile of half of ALPHA, for both sides: of the reference, which is drawn once."""
_TIGHT_AT = 1_000
"""The sequence is tightest after about so many rows; elsewhere it is valid, too."""
_CHANCE = 0.375
"""Of the interval's half: about one and a half standard errors. The evidence proved that something changed; this keeps
out what is just within the tolerance, not what is nothing."""
_SPENT = -2 * log(ALPHA / 2)
_MIXTURE = (_SPENT + log(_SPENT) + 1) / _TIGHT_AT


def z_ever(rows: int) -> float:
    """How many standard errors a mean of `rows` rows may be away, at any look from the first row on."""
    grown = rows * _MIXTURE
    return sqrt(2 * (grown + 1) / grown * log(sqrt(grown + 1) * 2 / ALPHA))


@dataclass(frozen=True)
class Effect:
    """A change of one track against the reference.

    `location` is a shift of the mean in standard deviations, `spread` the relative change of the standard deviation,
    both of the column's normal scores, so that outliers neither fake nor hide them; `distribution` and `missing` are
    population stability indices of the classes and of missing values.
    """

    track: Track
    measure: Measure
    size: float
    low: float
    high: float

    @property
    def name(self) -> str:
        """What changed, for a reader: along an axis the columns moved together, or their correlation did."""
        if self.track.kind != "axis":
            return self.track.name
        return f"{self.track.name} together" if self.measure == "location" else f"correlation of {self.track.name}"

    @property
    def unit(self) -> Literal["sd", "psi"]:
        """What `size`, `low` and `high` are in: standard deviations, or the index."""
        return "sd" if self.measure in ("location", "spread") else "psi"

    def evidence(self, tolerance: float) -> FeatureEvidence:
        """As it is told."""
        return FeatureEvidence(
            name=self.name, effect=round(self.size, 6), interval=(round(self.low, 6), round(self.high, 6)),
            tolerance=tolerance, unit=self.unit,
        )  # fmt: skip

    def beyond(self, tolerance: float) -> bool:
        """The effect matters: it is beyond the tolerance by more than chance adds to it."""
        doubt = max(self.high - self.size, self.size - self.low)
        return abs(self.size) - _CHANCE * doubt > tolerance

    def within(self, tolerance: float) -> bool:
        """The whole interval is inside the tolerance: the effect does not matter."""
        return max(abs(self.low), abs(self.high)) < tolerance

    @property
    def least(self) -> float:
        """The smallest effect of the interval, in size."""
        return 0.0 if self.low <= 0 <= self.high else min(abs(self.low), abs(self.high))


def effects(reference: Reference, counts: Array) -> list[Effect]:
    """The largest effect of every track in live counts [tracks, width]."""
    return [largest(each) for each in all_effects(reference, counts)]


def largest(found: Sequence[Effect]) -> Effect:
    """The one whose interval is furthest from none; of several that touch none, the largest."""
    return max(found, key=lambda effect: (effect.least, abs(effect.size)))


def all_effects(reference: Reference, counts: Array) -> list[list[Effect]]:
    """By track: location, spread and missing values of a number, the distribution of a class."""
    return [
        _categorical(track, before, live) if track.kind == "categorical" else _numeric(track, before, live, scores)
        for track, before, live, scores in zip(
            reference.tracks, reference.counts, counts, reference.scores, strict=True
        )
    ]


def _categorical(track: Track, before: Array, live: Array) -> list[Effect]:
    return [Effect(track, "distribution", *stability_index(before[: track.bins + 2], live[: track.bins + 2]))]


def _numeric(track: Track, before: Array, live: Array, scores: Array) -> list[Effect]:
    one, two = _spread_of(before[: track.bins], scores), _spread_of(live[: track.bins], scores)
    there = np.array([before[: track.bins].sum(), before[track.missing]])
    found = [Effect(track, "missing", *stability_index(there, _there(track, live)))]
    if one.rows > 1 and two.rows > 1 and one.sd > 0:
        found += [Effect(track, "location", *_shift(one, two)), Effect(track, "spread", *_ratio(one, two))]
    return found


def _there(track: Track, live: Array) -> Array:
    return np.array([live[: track.bins].sum(), live[track.missing] + live[track.unseen]])


@dataclass(frozen=True)
class _Scores:
    rows: int
    mean: float
    sd: float
    kurtosis: float


def _spread_of(counts: Array, scores: Array) -> _Scores:
    rows = int(counts.sum())
    if rows == 0:
        return _Scores(0, 0.0, 0.0, 3.0)
    scores = scores[: len(counts)]
    mean = float(counts @ scores / rows)
    squares = (scores - mean) ** 2
    variance = float(counts @ squares / rows)
    kurtosis = float(counts @ squares**2 / rows / variance**2) if variance > 0 else 3.0
    return _Scores(rows, mean, variance**0.5, kurtosis)


def _shift(before: _Scores, live: _Scores) -> tuple[float, float, float]:
    size = (live.mean - before.mean) / before.sd
    error = z_ever(live.rows) * live.sd / before.sd / sqrt(live.rows) + _Z_ONCE / sqrt(before.rows)
    return size, size - error, size + error


def _ratio(before: _Scores, live: _Scores) -> tuple[float, float, float]:
    if live.sd == 0:
        return (-1.0, -1.0, -1.0) if live.rows > 30 else (0.0, -1.0, 1.0)
    ratio = np.log(live.sd / before.sd)
    was, now = (sqrt(max(s.kurtosis - 1, 0.1) / (4 * s.rows)) for s in (before, live))
    error = z_ever(live.rows) * now + _Z_ONCE * was
    return float(np.exp(ratio) - 1), float(np.exp(ratio - error) - 1), float(np.exp(min(ratio + error, 50.0)) - 1)


def stability_index(before: Array, live: Array) -> tuple[float, float, float]:
    """The index of two rows of counts, and its interval at all looks."""
    index = stability(before, live)
    if index.variance_of_live == 0:
        return index.interval(0.0)
    return index.interval(
        z_ever(int(live.sum())) * sqrt(index.variance_of_live) + _Z_ONCE * sqrt(index.variance_of_before)
    )
