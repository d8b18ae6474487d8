"""Columns within groups of segments as tracks of a detector of their own: what moved among the old alone.

The detector is that of the wholes (`watch`), over coarse counts by group; its evidence is the mean over all groups and
columns, and has a part of the endpoint's budget of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .effects import Effect
from .reference import Kind, Reference, Track
from .segments import LEAST_ROWS
from .windows import Block, Part

Array = NDArray[Any]

_CELLS_AT_MOST = 2_000
"""Groups times columns: what a detector of them holds is a few megabytes, and a window costs it milliseconds."""
WHERE = " where "
"""Between a column and its group, in what is told."""


@dataclass(frozen=True)
class Grouped:
    """Which cells (group and column) are watched, and their reference."""

    reference: Reference
    cells: Array
    """Places in counts [groups, columns, bins], flat over groups and columns."""
    places: dict[Track, tuple[str, str]]
    """Of each track, the segment and the group."""
    shape: tuple[int, ...]

    @classmethod
    def of(
        cls, groups: Sequence[tuple[str, str]], columns: Sequence[tuple[str, Kind]], counts: Array
    ) -> "Grouped | None":
        """Of counts [groups, columns, bins] of a baseline; the last two bins are of missing and unseen values. A
        segment's own column hardly can move within a group, and of a group with few rows nothing is known. None where
        that leaves nothing; groups beyond the bound of cells are left out, the last ones first."""
        tracks: list[Track] = []
        cells: list[int] = []
        places: dict[Track, tuple[str, str]] = {}
        for row, (segment, group) in enumerate(groups[: _CELLS_AT_MOST // max(1, len(columns))]):
            for at, (column, kind) in enumerate(columns):
                if column != segment and counts[row, at].sum() >= LEAST_ROWS:
                    track = Track(f"{column}{WHERE}{segment} = {group}", kind, counts.shape[2] - 2)
                    tracks.append(track)
                    cells.append(row * len(columns) + at)
                    places[track] = (segment, group)
        if not tracks:
            return None
        kept = counts.reshape(-1, counts.shape[2])[cells]
        return cls(Reference.of(tuple(tracks), kept), np.array(cells, np.int64), places, counts.shape)

    def block(self, part: Part) -> Block | None:
        """A window as one block; None where it has no counts by group."""
        if part.segments is None or part.segments.shape != self.shape or not part.blocks:
            return None
        counts = part.segments.reshape(-1, self.shape[2])[self.cells]
        return Block(min(each.start_s for each in part.blocks), sum(each.rows for each in part.blocks), counts)

    def where(self, effects: Sequence[Effect]) -> str | None:
        """The groups of the segment in which a column moved most, for a reader; None where these are more than half of
        its rows, as the baseline has them."""
        found = [self.places[effect.track] for effect in effects]
        segment = found[0][0]
        groups = dict.fromkeys(group for name, group in found if name == segment)
        rows = self._rows(segment)
        if sum(rows[group] for group in groups) > sum(rows.values()) / 2:
            return None
        return f"{segment} = {', '.join(groups)}"

    def _rows(self, segment: str) -> dict[str, int]:
        counts = self.reference.counts.sum(axis=1).tolist()
        return {
            group: rows
            for (name, group), rows in zip(self.places.values(), counts, strict=True)
            if name == segment
        }  # fmt: skip
