"""What the live rows are compared with: the profile's counts by track, and each bin's normal score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from services.kit.binned import normal_scores

Array = NDArray[Any]
Kind = Literal["numeric", "categorical", "axis", "residual", "pairs", "attribution"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two columns that are watched together."""

    one: str
    other: str
    far: float
    """Share of rows in which each of them is far out; their geometric mean."""


@dataclass(frozen=True)
class Track:
    """One watched column, or what columns are together: an axis, a column given the others, or a sheet of pairs;
    or how much a column contributes to decisions."""

    name: str
    """Of the column, or of the two that weigh most in the axis."""
    kind: Kind
    bins: int
    """Of values; the next bin is of missing, the one after it of unseen values."""
    pairs: tuple[Pair, ...] = ()
    """On the sheet: each has three bins, for opposite sides, not both far out, and the same side."""

    @property
    def missing(self) -> int:
        """The bin of missing values."""
        return self.bins

    @property
    def unseen(self) -> int:
        """The bin of classes that the reference has not."""
        return self.bins + 1


@dataclass(frozen=True)
class Reference:
    """Tracks and their reference counts [tracks, width]."""

    tracks: tuple[Track, ...]
    counts: Array
    scores: Array
    """Normal scores [tracks, width] of the bins' mid-ranks among the reference's values; 0 for missing and unseen. Of
    contributions: what a row in each bin counts for, in parts of all influence."""

    @classmethod
    def of(cls, tracks: tuple[Track, ...], counts: Array) -> "Reference":
        """With the normal scores that follow from counts [tracks, width]."""
        scores = np.zeros(counts.shape)
        for place, track in enumerate(tracks):
            if track.kind != "pairs":
                scores[place, : track.bins] = normal_scores(counts[place, : track.bins])
        return cls(tracks, counts, scores)

    def instead(self, counts: Array) -> "Reference":
        """The same tracks with other counts; what a row of contributions counts for stays as it is."""
        if self.tracks and self.tracks[0].kind == "attribution":
            return Reference(self.tracks, counts, self.scores)
        return Reference.of(self.tracks, counts)

    @property
    def pairs(self) -> int:
        """On all sheets, which are its last tracks."""
        return sum(len(track.pairs) for track in self.tracks)

    def part(self, places: Sequence[int]) -> "Reference":
        """Of some tracks."""
        some = list(places)
        return Reference(tuple(self.tracks[place] for place in some), self.counts[some], self.scores[some])
