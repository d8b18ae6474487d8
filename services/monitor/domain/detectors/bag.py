"""What live rows are compared with: the reference and all rows since, or those of the same part of earlier periods."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..season import NONE, Season
from ..windows import Block

Array = NDArray[Any]
_NO_TURN = -1


@dataclass(frozen=True)
class Bag:
    """Counts of rows by bin. Of a season every slot has its own, and says nothing before it was passed once."""

    counts: Array
    """[slots, tracks, bins]"""
    season: Season
    passing: Array
    """[tracks, bins]: of a season, the rows of the slot that is not over."""
    turn: int = _NO_TURN
    """The number of that slot over all periods."""

    @classmethod
    def start(cls, reference: Array, season: Season = NONE) -> "Bag":
        """With reference counts [tracks, bins]; of a season, whose slots the reference does not tell, with nothing."""
        counts = np.zeros((season.slots, *reference.shape))
        if season == NONE:
            counts[0] = reference
        return cls(counts, season, np.zeros(reference.shape))

    @property
    def shape(self) -> tuple[int, int]:
        """Tracks and bins."""
        _, tracks, bins = self.counts.shape
        return tracks, bins

    @property
    def used(self) -> Array:
        """Bins that ever had a row, by track [tracks]."""
        return (self.counts > 0).any(axis=0).sum(axis=1)

    def like(self, at_s: float) -> Array | None:
        """What rows of a moment are compared with, [tracks, bins]; None while nothing is known of such a moment."""
        if self.season == NONE:
            return self.counts[0]
        found = self._near(at_s)
        if found is None or self.turn != self.season.turn(at_s):
            return found
        # The rows of this pass are in the bag, or its own chance would count as a change again and again. They are
        # earlier ones: what is later in the same measure makes up for it.
        seen, passed = found.sum(axis=1).max(), self.passing.sum(axis=1).max()
        moved = self._near(at_s + min(1.0, passed / seen) * self.season.passed_s(at_s) / 2)
        return None if moved is None else moved + self.passing

    def _near(self, at_s: float) -> Array | None:
        weights = self.season.weights(at_s)
        near = np.flatnonzero(weights)
        if not self.counts[near].any(axis=(1, 2)).all():
            return None
        return np.tensordot(weights[near], self.counts[near], 1)

    def plus(self, block: Block) -> "Bag":
        """With the rows of a block."""
        if self.season == NONE:
            return replace(self, counts=self.counts + block.counts)
        turn = self.season.turn(block.start_s)
        if turn == self.turn:
            return replace(self, passing=self.passing + block.counts)
        return replace(self, counts=self._passed(), passing=block.counts.astype(np.float64), turn=turn)

    def _passed(self) -> Array:
        counts = self.counts.copy()
        if self.turn != _NO_TURN:
            counts[self.turn % self.season.slots] += self.passing
        return counts

    def without(self, blocks: Sequence[Block]) -> "Bag":
        """Without the rows of blocks that it holds."""
        counts, passing = self.counts.copy(), self.passing.copy()
        for block in blocks:
            held = passing if self.turn == self.season.turn(block.start_s) else counts[self.season.slot(block.start_s)]
            held -= block.counts
        return replace(self, counts=np.maximum(counts, 0), passing=np.maximum(passing, 0))

    def renewed(self, tracks: list[int], counts: Array) -> "Bag":
        """Some tracks with other counts; of a season, with none: it is learned anew."""
        bags, passing = self.counts.copy(), self.passing.copy()
        bags[:, tracks] = counts if self.season == NONE else 0.0
        passing[tracks] = 0.0
        return replace(self, counts=bags, passing=passing)

    def expected(self, rows: Array, tracks: slice | list[int]) -> Array:
        """Counts [some tracks, bins] as so many rows of each slot [slots, tracks] have them, going by what it knows.

        Their sum is the number of rows whose error is that of the slots' own counts, weighted as the rows are.
        """
        counts = self.counts[:, tracks]
        seen = counts.sum(axis=2)
        shares = np.divide(counts, seen[..., None], out=np.zeros(counts.shape), where=seen[..., None] > 0)
        weights = np.where(seen > 0, rows[:, tracks], 0.0)
        total = weights.sum(axis=0)
        mixed = np.einsum("sj,sjb->jb", weights, shares) / np.maximum(total, 1e-9)[:, None]
        doubt = np.divide(weights**2, seen, out=np.zeros(seen.shape), where=seen > 0).sum(axis=0)
        return mixed * np.divide(total**2, doubt, out=np.zeros(len(total)), where=doubt > 0)[:, None]
