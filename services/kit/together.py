"""How columns hang together: what a profile keeps of it, and the bins that it gives to new rows.

Three views of the columns' normal scores, each for another change. Along a *principal axis* a location shows that is
small in every column. The *residual* of a column is what the others leave open of it, scaled to variance 1; its square
less that of the column's own score has mean nought, and a column that loses its correlations moves that mean by far
more than it moves the spread of the residual or of an axis. And two columns that had nothing to do with each other show
in their *pair* alone: how often both are far out on the same side, on opposite ones, or not both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.profile import AxisProfile, PairsProfile, Profile, ResidualProfile, Rotation

from .binned import packed
from .cuts import Cuts, even_cuts

Array = NDArray[Any]

AT_MOST = 64
"""Columns that are looked at together."""
_PAIRED_AT_MOST = 40
_FAR = 0.6
"""Normal scores beyond it: 27 % on either side tell most of a correlation in three classes (Mosteller 1946)."""
_LEAST_VARIANCE = 1e-3
"""An axis with less of a column's variance is rounding, not a correlation."""
_LEAST_FOLLOWED = 0.02
"""Of a column's variance; where the others explain less of it, its residual is the column."""
_AT_ONCE = 1_024
_NORMAL = NormalDist()


def rotation(
    names: Sequence[str], placed: Array, sizes: Sequence[int], learnt: Array, counted: Array, bins: int
) -> Rotation | None:
    """Of the bins [rows, columns] of some columns: learnt on one half of the rows, counted on the other."""
    if len(names) < 2:
        return None
    scores = [_normal_scores(placed[learnt, place], size + 2) for place, size in enumerate(sizes)]
    given = np.column_stack([each[placed[:, place]] for place, each in enumerate(scores)])
    loadings = _axes(given[learnt])
    if not loadings.shape[1]:
        return None
    along = _turned(given, loadings)
    axes = [
        AxisProfile(loadings=tuple(loadings[:, place].tolist()), edges=edges, counts=counts)
        for place, (edges, counts) in enumerate(_counted(along, learnt, counted, bins))
    ]
    return Rotation(
        columns=tuple(names), scores=tuple(tuple(each.tolist()) for each in scores), axes=tuple(axes), signed=True,
        residuals=_residuals(given, learnt, counted, bins), pairs=_pairs(given[counted]),
    )  # fmt: skip


def _normal_scores(bins: Array, size: int) -> Array:
    """The normal score of the mid-rank of each bin, scaled to variance 1; of an empty bin, that of its place."""
    counts = np.bincount(bins, minlength=size).astype(np.float64)
    ranks = (np.cumsum(counts) - counts / 2 + 0.5) / (counts.sum() + 1)
    scores = np.array([_NORMAL.inv_cdf(float(np.clip(rank, 1e-6, 1 - 1e-6))) for rank in ranks])
    weights = counts / counts.sum()
    scores -= weights @ scores
    spread = float(np.sqrt(weights @ scores**2))
    return np.round(scores / spread if spread > 1e-9 else scores * 0, 4)


def _axes(scores: Array) -> Array:
    """Eigenvectors of the scores' covariance, longest axis first, signs fixed, without those of no length."""
    lengths, vectors = np.linalg.eigh(scores.T @ scores / len(scores))
    kept = np.flatnonzero(lengths > _LEAST_VARIANCE)[::-1]
    vectors = vectors[:, kept]
    leading = vectors[np.argmax(np.abs(vectors), axis=0), np.arange(len(kept))] if len(kept) else np.ones(0)
    return np.round(vectors * np.sign(leading), 6)


def _counted(
    values: Array, learnt: Array, counted: Array, bins: int
) -> list[tuple[tuple[float, ...], tuple[int, ...]]]:
    """Edges and counts of each column of some scores [rows, columns]."""
    found: list[tuple[tuple[float, ...], tuple[int, ...]]] = []
    for each in values.T:
        edges = even_cuts(each[learnt], bins)
        counts = np.bincount(np.searchsorted(edges, each[counted], side="left"), minlength=len(edges) + 1)
        found.append((tuple(edges.tolist()), tuple(counts.tolist())))
    return found


def _residuals(scores: Array, learnt: Array, counted: Array, bins: int) -> tuple[ResidualProfile, ...] | None:
    """Of the columns that follow from the others."""
    places, weights = _followed(scores[learnt])
    if not len(places):
        return None
    made = _departures(_turned(scores, weights), scores[:, places])
    return tuple(
        ResidualProfile(column=int(place), weights=tuple(weights[:, at].tolist()), edges=edges, counts=counts)
        for at, (place, (edges, counts)) in enumerate(zip(places, _counted(made, learnt, counted, bins), strict=True))
    )


def _followed(scores: Array) -> tuple[Array, Array]:
    """Columns that follow from the others, and the weights [columns, those] of what is left of them.

    The residuals are the rows of the inverse of the covariance, which is shrunk by as much as the rows are few: copies
    of a column, or as many columns as rows, have none.
    """
    rows, columns = scores.shape
    covariance = scores.T @ scores / rows
    shrunk = float(np.clip(columns / rows, _LEAST_VARIANCE, 1.0))
    covariance = (1 - shrunk) * covariance + shrunk * np.eye(columns)
    inverse = np.linalg.inv(covariance)
    left = 1 / (np.diag(inverse) * np.diag(covariance))
    followed = 1 - left * (rows - 1) / max(1, rows - columns)
    sizes = np.sqrt(((scores @ inverse) ** 2).mean(axis=0))
    places = np.flatnonzero((followed > _LEAST_FOLLOWED) & (sizes > 0))
    return places, np.round(inverse[:, places] / sizes[places], 6)


def _pairs(scores: Array) -> PairsProfile | None:
    paired = scores[:, :_PAIRED_AT_MOST]
    counts = _of_pairs((np.abs(paired) > _FAR) * np.sign(paired))
    return PairsProfile(columns=paired.shape[1], far=_FAR, counts=tuple((int(a), int(b), int(c)) for a, b, c in counts))


def _of_pairs(sides: Array) -> Array:
    """Of rows of -1, 0 and 1 [rows, columns]: by pair, those on opposite sides, not both far out, on the same side."""
    rows, columns = sides.shape
    sides = sides.astype(np.float32)  # exact up to 16 million rows
    pairs, out = _places_of_pairs(columns), np.abs(sides)
    together, both = (sides.T @ sides).take(pairs).astype(np.int64), (out.T @ out).take(pairs).astype(np.int64)
    return np.column_stack([(both - together) // 2, rows - both, (both + together) // 2])


@cache
def _places_of_pairs(columns: int) -> Array:
    """In a matrix [columns, columns]: of those above its diagonal, row by row."""
    one, other = np.triu_indices(columns, 1)
    return one * columns + other


def _at_once(rows: Array) -> list[Array]:
    """Rows in parts that stay in the processor's cache: many at once take several times as long."""
    return [rows[at : at + _AT_ONCE] for at in range(0, max(1, len(rows)), _AT_ONCE)]


def _turned(scores: Array, loadings: Array) -> Array:
    # Rounded: equal rows differ in their last bits, by the number of rows that are multiplied at once.
    return np.round(scores @ loadings, 6)


def _departures(left: Array, own: Array) -> Array:
    return np.round(left**2 - own**2, 6)


@dataclass(frozen=True)
class Together:
    """A profile's rotation, compiled."""

    places: Array
    """Of its columns among the watched ones."""
    scores: Array
    """[columns, width]"""
    loadings: Array
    """[columns, axes and residuals]"""
    axes: int
    followed: Array
    """The column of each residual."""
    signed: bool
    cuts: Cuts
    sides: Array
    """[paired columns, width]: whether a bin is far out, and where."""

    @classmethod
    def of(cls, profile: Profile) -> "Together | None":
        """None where the profile has too few columns for it."""
        given = profile.rotation
        if given is None:
            return None
        names = [column.name for column in profile.columns]
        scores = np.zeros((len(given.columns), max(map(len, given.scores))))
        for row, each in enumerate(given.scores):
            scores[row, : len(each)] = each
        residuals = given.residuals or ()
        linear = [axis.loadings for axis in given.axes] + [residual.weights for residual in residuals]
        paired, far = (given.pairs.columns, given.pairs.far) if given.pairs else (0, 0.0)
        sides = (np.abs(scores[:paired]) > far) * np.sign(scores[:paired])
        return cls(
            np.array([names.index(name) for name in given.columns]), scores, np.array(linear).T, len(given.axes),
            np.array([each.column for each in residuals], np.int64), given.signed,
            Cuts([np.array(each.edges) for each in (*given.axes, *residuals)]), sides.astype(np.float32),
        )  # fmt: skip

    def bins(self, placed: Array) -> Array:
        """Bins [rows, axes and residuals] of the bins [rows, columns] of rows."""
        return np.concatenate([self._bins(some) for some in _at_once(placed)])

    def _bins(self, placed: Array) -> Array:
        given = self.scores[np.arange(len(self.places)), placed[:, self.places]]
        made = _turned(given, self.loadings)
        if len(self.followed):
            made[:, self.axes :] = _departures(made[:, self.axes :], given[:, self.followed])
        if not self.signed:
            made[:, : self.axes] = np.abs(made[:, : self.axes])
        return self.cuts.of(made)

    def sheets(self, placed: Array, width: int) -> Array:
        """Counts of the pairs of such rows, side by side: [sheets, width]."""
        paired = self.places[: len(self.sides)]
        columns = np.arange(len(paired))
        counts = [_of_pairs(self.sides[columns, some[:, paired]]) for some in _at_once(placed)]
        return packed(np.sum(counts, axis=0), width)
