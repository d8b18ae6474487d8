"""Columns within groups of segments as tracks of a detector of their own: what moved among the old alone.

The detector is that of the wholes (`watch`), over coarse counts by group; its evidence is the mean over all groups and
columns, and has a part of the endpoint's budget of its own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .course import Course
from .effects import Effect
from .reference import Kind, Reference, Track
from .season import NONE, Season
from .segments import LEAST_ROWS
from .watch import Watch
from .windows import Block, Part

Array = NDArray[Any]

_CELLS_AT_MOST = 2_000
"""Groups times columns: what a detector of them holds is a few megabytes, and a window costs it milliseconds."""
_KEPT_AT_MOST = 100_000
"""These times the slots of a season, each of which has a bag: about as much as the wholes of 60 columns keep of a
week."""
WHERE = " where "
"""Between a column and its group, in what is told."""


def columns_of(names: Iterable[str]) -> set[str]:
    """The columns that some tracks are of, whichever group they are of."""
    return {name.split(WHERE)[0] for name in names}


@dataclass(frozen=True)
class Grouped:
    """Which cells (group and column) are watched, and their reference."""

    reference: Reference
    cells: Array
    """Places in counts [groups, columns, bins], flat over groups and columns."""
    places: dict[Track, tuple[str, str]]
    """Of each track, the segment and the group."""
    rows: dict[tuple[str, str], int]
    """In the baseline, of every group of every segment."""
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
        rows = dict(zip(groups, counts.sum(axis=2).max(axis=1).tolist(), strict=True))
        return cls(Reference.of(tuple(tracks), kept), np.array(cells, np.int64), places, rows, counts.shape)

    def under(self, season: Season) -> "Grouped":
        """What is watched under a season: cells beyond what may be kept are left out, the last ones first."""
        most = _KEPT_AT_MOST // season.slots
        if len(self.cells) <= most:
            return self
        return replace(self, reference=self.reference.part(range(most)), cells=self.cells[:most])

    def block(self, part: Part, season: Season = NONE) -> Block | None:
        """A window as one block; None where it has no counts by group. Of a season it says something at the mean time
        of its rows: a window may be as long as a slot."""
        if part.segments is None or part.segments.shape != self.shape or not part.blocks:
            return None
        counts = part.segments.reshape(-1, self.shape[2])[self.cells]
        rows = sum(each.rows for each in part.blocks)
        start_s = min(each.start_s for each in part.blocks)
        if season != NONE:
            start_s += sum((each.start_s - start_s) * each.rows for each in part.blocks) / max(1, rows)
        return Block(start_s, rows, counts)

    def replayed(self, blocks: Sequence[Block], season: Season, budget_rows: int) -> Watch:
        """The watch that goes on after some blocks under a season. What is in doubt then is judged by what follows."""
        course = Course(Watch.start(self.reference, season), budget_rows, remembered=None)
        for block in blocks:
            course.see(block.start_s, [block])
        return course.watch

    def where(self, effects: Sequence[Effect]) -> str | None:
        """The groups of the segment in which a column moved most, for a reader; None where these are more than half of
        its rows, as the baseline has them."""
        found = [self.places[effect.track] for effect in effects]
        segment = found[0][0]
        groups = dict.fromkeys(group for name, group in found if name == segment)
        rows = {group: rows for (name, group), rows in self.rows.items() if name == segment}
        if sum(rows[group] for group in groups) > sum(rows.values()) / 2:
            return None
        return f"{segment} = {', '.join(groups)}"
