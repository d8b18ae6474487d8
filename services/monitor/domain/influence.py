"""What decisions rest on: the size of each column's contribution, in bins, and what it is over the reference rows.

A column's influence is the mean size of its contributions (Shapley values) over rows, in parts of the sum of all
columns' over the reference: the importance that Lundberg et al. (*From local explanations to global understanding with
explainable AI for trees*, 2020) rank columns by. Sizes are counted in bins, so counts of any split of the rows add up;
the detector ranks them, and the mean of a bin over the reference rows is what a row in it counts for.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from contracts import InfluenceEvidence

from .effects import Effect
from .reference import Reference, Track
from .windows import Block

Array = NDArray[Any]

LEAST_ROWS = 50
"""Of the reference: of fewer nobody can say what is usual."""
_BINS = 20
_WITHIN = np.array((0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9))
"""Of the largest size of the reference: where bins end as well, for what falls between sizes that it has."""
_BEYOND = np.array((1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 7.0, 10.0))
"""Times the largest size of the reference: where the bins beyond it end. What is larger counts as twelve times."""
_LAST = 12.0
_NOTHING = 1e-6
"""Of all influence: contributions below it are none. Trees add up to nought but for rounding."""
_ABSENT = 0.02
"""Of all influence: how large a column's contributions are taken to be where the reference has none of it."""


@dataclass(frozen=True)
class Influence:
    """The bins of each column's sizes, and the reference's counts of them."""

    columns: tuple[str, ...]
    cuts: Array
    """[columns, bins - 1] upper edges, rising, infinite from where a column has no more of them."""
    total: float
    """All columns' influence over the reference rows, on the scale of the contributions."""
    reference: Reference

    @classmethod
    def of(cls, columns: Sequence[str], rows: Array) -> "Influence | None":
        """Of the reference's contributions [rows, columns]; None where they are too few, or there is no influence."""
        sizes = np.abs(rows)
        total = float(sizes.mean(axis=0).sum()) if len(sizes) >= LEAST_ROWS else 0.0
        if not np.isfinite(total) or total <= 0:
            return None
        parts = _settled(sizes / total)
        made = [_cuts(parts[:, place]) for place in range(len(columns))]
        width = max(map(len, made)) + 1
        cuts = np.full((len(columns), width - 1), np.inf)
        for place, edges in enumerate(made):
            cuts[place, : len(edges)] = edges
        counts = _counts(cuts, parts)
        scores = np.array([_means(parts[:, place], made[place], width + 2) for place in range(len(columns))])
        tracks = tuple(
            Track(name, "attribution", len(edges) + 1) for name, edges in zip(columns, made, strict=True)
        )  # fmt: skip
        return cls(tuple(columns), cuts, total, Reference(tracks, counts, scores))

    def block(self, rows: Array, start_s: float) -> Block:
        """Contributions [rows, columns] as counts."""
        return Block(start_s, len(rows), _counts(self.cuts, _settled(np.abs(rows) / self.total)))

    def means(self, counts: Array) -> Array:
        """Each column's influence [columns] in counts [columns, width]; nought of no rows."""
        return (counts * self.reference.scores).sum(axis=1) / np.maximum(counts.sum(axis=1), 1)

    def evidence(self, effects: Sequence[Effect], before: Array) -> tuple[InfluenceEvidence, ...]:
        """As effects are told; `before`: the counts that they are measured against."""
        usual = dict(zip(self.columns, self.means(before).tolist(), strict=True))
        found = [(effect.track.name, usual[effect.track.name], effect.size) for effect in effects]
        return tuple(
            InfluenceEvidence(column=name, before=round(was, 6), now=round(was + size, 6)) for name, was, size in found
        )

    def to_bytes(self) -> bytes:
        """As it is stored: JSON, packed."""
        said = {
            "columns": self.columns, "bins": [track.bins for track in self.reference.tracks], "total": self.total,
            "cuts": [edges[np.isfinite(edges)].tolist() for edges in self.cuts],
            "counts": self.reference.counts.tolist(), "scores": self.reference.scores.tolist(),
        }  # fmt: skip
        return zlib.compress(orjson.dumps(said), 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Influence":
        """What `to_bytes` wrote."""
        said = orjson.loads(zlib.decompress(data))
        counts = np.array(said["counts"], np.int64)
        cuts = np.full((len(counts), counts.shape[1] - 3), np.inf)
        for place, edges in enumerate(said["cuts"]):
            cuts[place, : len(edges)] = edges
        names = zip(said["columns"], said["bins"], strict=True)
        tracks = tuple(Track(name, "attribution", bins) for name, bins in names)
        return cls(tuple(said["columns"]), cuts, said["total"], Reference(tracks, counts, np.array(said["scores"])))


def _settled(parts: Array) -> Array:
    return np.where(parts < _NOTHING, 0.0, parts)


def _cuts(parts: Array) -> Array:
    """Between the quantiles of what there is, across its range, and beyond it; nothing at all is a bin by itself."""
    known = np.unique(parts)
    at = known
    if len(known) > _BINS:
        at = np.unique(np.quantile(parts, np.arange(1, _BINS) / _BINS, method="nearest"))
    middle = np.searchsorted(known, at)
    inner = (known[middle[middle > 0]] + known[middle[middle > 0] - 1]) / 2
    largest = known[-1] or _ABSENT / 2
    nothing = [_NOTHING / 2] if known[0] == 0 else []
    return np.unique(np.concatenate([nothing, inner, largest * _WITHIN, largest * _BEYOND]))


def _counts(cuts: Array, parts: Array) -> Array:
    """[columns, width], the last two bins of nobody: contributions are never missing."""
    columns, width = len(cuts), cuts.shape[1] + 3
    counts = np.zeros((columns, width), np.int64)
    for place in range(columns):
        bins = np.searchsorted(cuts[place], parts[:, place], side="left")
        counts[place] = np.bincount(bins, minlength=width)[:width]
    return counts


def _means(parts: Array, edges: Array, width: int) -> Array:
    """What a row in each bin counts for."""
    made = np.zeros(width)
    bins = np.searchsorted(edges, parts, side="left")
    held = np.bincount(bins, minlength=len(edges) + 1)
    sums = np.bincount(bins, weights=parts, minlength=len(edges) + 1)
    lows, highs = np.concatenate([[0.0], edges]), np.concatenate([edges, [0.0]])
    highs[-1] = edges[-1] / _BEYOND[-1] * (2 * _LAST - _BEYOND[-1])
    made[: len(held)] = np.where(held > 0, sums / np.maximum(held, 1), (lows + highs) / 2)
    return made
