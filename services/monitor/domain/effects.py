"""How much a column moved, with an interval: evidence says that something changed, an effect says whether it matters.

While a change is in doubt its effect is looked at after every window, so the interval is a confidence sequence: it
holds at all looks together. Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas: *Time-uniform central limit theory and
asymptotic confidence sequences* (Annals of Statistics 52, 2024), with the boundary of a normal mixture. The reference
is drawn once: its own error has the usual normal interval, and both errors are added, half of the doubt to each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from contracts import EffectUnit, FeatureEvidence, Moved
from services.kit.binned import stability, unpacked

from .outcomes.intervals import ALPHA, z_ever
from .reference import Reference, Track

Array = NDArray[Any]
Measure = Literal["location", "spread", "shape", "distribution", "missing", "correlation", "influence"]

_TENTHS = 10
_Z_ONCE = 2.807
"""Normal quantile of half of ALPHA, for both sides: of the reference, which is drawn once."""
_CHANCE = 0.375
"""Of the interval's half: about one and a half standard errors. The evidence proved that something changed; this keeps
out what is just within the tolerance, not what is nothing."""


@dataclass(frozen=True)
class Shares:
    """Of all rows before and now: of missing values, of unseen classes, or of one class."""

    of: Literal["missing", "unseen", "categories"]
    before: float
    now: float


@dataclass(frozen=True)
class Effect:
    """A change of one track against the reference.

    `location` is a shift of the mean in standard deviations, `spread` the relative change of the standard deviation,
    both of the column's normal scores, so that outliers neither fake nor hide them; `distribution` and `missing` are
    population stability indices of the classes and of missing values, `shape` that of a number's tenths, less what
    location and spread make of it; `correlation` is how much that of a pair changed,
    of columns in three classes: low, middle, high; `influence` is how much a column's contributions grew or shrank, in
    parts of all columns'.
    """

    track: Track
    measure: Measure
    size: float
    low: float
    high: float
    shares: "Shares | None" = None
    """Of missing values, or of the class that moved most."""

    @property
    def moved(self) -> Moved:
        """What of the track moved, as it is told."""
        match self.track.kind, self.measure:
            case "residual", _:
                return "residual"
            case ("pairs", _) | ("axis", "spread"):
                return "pair"
            case _, "location" | "spread" | "shape" | "missing" | "influence" as measure:
                return measure
            case _:
                return self.shares.of if self.shares else "categories"

    @property
    def name(self) -> str:
        """What changed, for a reader: a column, how it follows from the others, or what two columns are together."""
        name = self.track.name
        match self.track.kind:
            case "axis":
                return f"{name} together" if self.measure == "location" else f"correlation of {name}"
            case "residual":
                how = "how " if self.measure != "location" else ""
                less = "" if how else " less" if self.size > 0 else " more"
                return f"{how}{name} follows{less} from the others"
            case "pairs":
                return f"correlation of {name}"
            case "attribution":
                return f"influence of {name}"
            case _:
                return name

    @property
    def unit(self) -> EffectUnit:
        """What `size`, `low` and `high` are in: standard deviations, the index, or parts of all influence."""
        if self.measure == "influence":
            return "share"
        return "psi" if self.measure in ("distribution", "shape", "missing") else "sd"

    def evidence(self, tolerance: float) -> FeatureEvidence:
        """As it is told."""
        return FeatureEvidence(
            name=self.name, effect=round(self.size, 6), interval=(round(self.low, 6), round(self.high, 6)),
            tolerance=tolerance, unit=self.unit, measure=self.moved,
            before=round(self.shares.before, 6) if self.shares else None,
            now=round(self.shares.now, 6) if self.shares else None,
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
    """By track: location, spread, shape and missing values of a number, the distribution of a class."""
    return [_of_track(*each) for each in zip(reference.tracks, reference.counts, counts, reference.scores, strict=True)]


def _of_track(track: Track, before: Array, live: Array, scores: Array) -> list[Effect]:
    match track.kind:
        case "categorical":
            return _categorical(track, before, live)
        case "pairs":
            return [_paired(track, before, live)]
        case "attribution":
            return [_influence(track, before, live, scores)]
        case _:
            return _numeric(track, before, live, scores)


def _categorical(track: Track, before: Array, live: Array) -> list[Effect]:
    one, two = before[: track.bins + 2], live[: track.bins + 2]
    return [Effect(track, "distribution", *stability_index(one, two), _most_moved(track, one, two))]


def _most_moved(track: Track, before: Array, live: Array) -> Shares | None:
    """The class with the largest part in the stability index."""
    if not before.sum() or not live.sum():
        return None
    was, now = ((counts + 0.5) / (counts + 0.5).sum() for counts in (before, live))
    place = int(np.argmax((now - was) * np.log(now / was)))
    of = {track.missing: "missing", track.unseen: "unseen"}.get(place, "categories")
    return _shares(of, before, live, place)


def _shares(of: Any, before: Array, live: Array, place: int) -> Shares | None:
    if not before.sum() or not live.sum():
        return None
    return Shares(of, float(before[place] / before.sum()), float(live[place] / live.sum()))


def _numeric(track: Track, before: Array, live: Array, scores: Array) -> list[Effect]:
    one, two = _spread_of(before[: track.bins], scores), _spread_of(live[: track.bins], scores)
    there = np.array([before[: track.bins].sum(), before[track.missing]])
    found = [
        Effect(track, "missing", *stability_index(there, _there(track, live)),
               _shares("missing", there, _there(track, live), 1))
    ]  # fmt: skip
    if one.rows > 1 and two.rows > 1 and one.sd > 0:
        found += [Effect(track, "location", *_shift(one, two)), Effect(track, "spread", *_ratio(one, two))]
    if one.rows and two.rows and track.kind == "numeric":
        found.append(Effect(track, "shape", *_shape(before[: track.bins], live[: track.bins], _explained(one, two))))
    return found


def _shape(before: Array, live: Array, explained: float) -> tuple[float, float, float]:
    """The index of the reference's tenths less what is explained, and its interval at all looks."""
    ranks = (np.cumsum(before) - before / 2) / before.sum()
    tenths = np.minimum((ranks * _TENTHS).astype(np.int64), _TENTHS - 1)
    size, low, high = stability_index(*(np.bincount(tenths, each, _TENTHS) for each in (before, live)))
    size, low, high = (max(0.0, each - explained) for each in (size, low, high))
    return size, low, high


def _explained(before: "_Scores", live: "_Scores") -> float:
    """The index of two normal distributions with these means and deviations, which is that of no bins: the sum of both
    divergences of Kullback and Leibler. Nought where one has no deviation: then all is shape."""
    if before.sd == 0 or live.sd == 0:
        return 0.0
    shift, ratio = (live.mean - before.mean) / before.sd, (live.sd / before.sd) ** 2
    return (ratio + 1 / ratio - 2) / 2 + shift**2 * (1 + 1 / ratio) / 2


def _paired(track: Track, before: Array, live: Array) -> Effect:
    """Of the pair that moved most surely; it was looked for, so the doubt is shared out over the sheet."""
    pairs = len(track.pairs)
    far = np.maximum([pair.far for pair in track.pairs], 1e-9)
    (was, was_doubt, _), (now, now_doubt, rows) = (_together(unpacked(one[None], pairs), far) for one in (before, live))
    once = NormalDist().inv_cdf(1 - ALPHA / 4 / pairs)
    errors = z_ever(max(1, rows), ALPHA / 2 / pairs) * now_doubt + once * was_doubt
    sizes = now - was
    best = int(np.argmax(np.abs(sizes) / errors))
    track_of = Track(f"{track.pairs[best].one} and {track.pairs[best].other}", "pairs", 3)
    size, error = (float(sizes[best]), float(errors[best])) if rows else (0.0, 1.0)
    return Effect(track_of, "correlation", size, size - error, size + error)


def _together(counts: Array, far: Array) -> tuple[Array, Array, int]:
    """Correlations of pairs [pairs, 3], their standard errors, and the number of rows. Half a row in each class: where
    all rows are in one the error is small, not nought."""
    rows = int(counts.sum(axis=1).max(initial=0))
    shares = (counts + 0.5) / (counts + 0.5).sum(axis=1, keepdims=True)
    means = shares[:, 2] - shares[:, 0]
    doubts = np.sqrt((shares[:, 0] + shares[:, 2] - means**2) / max(1, rows))
    return means / far, doubts / far, rows


def _influence(track: Track, before: Array, live: Array, parts: Array) -> Effect:
    """The change of the mean contribution, of means of bins: what is beyond the reference's range is known roughly."""
    was, now = _mean_of(before, parts), _mean_of(live, parts)
    size = now[0] - was[0]
    rows = [max(1, int(counts.sum())) for counts in (before, live)]
    error = z_ever(rows[1]) * now[1] / sqrt(rows[1]) + _Z_ONCE * was[1] / sqrt(rows[0])
    return Effect(track, "influence", size, size - error, size + error)


def _mean_of(counts: Array, parts: Array) -> tuple[float, float]:
    """Mean and standard deviation."""
    rows = max(1, int(counts.sum()))
    mean = float(counts @ parts / rows)
    return mean, sqrt(max(0.0, float(counts @ parts**2 / rows) - mean**2))


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
