"""Columns by segment: coarse counts of the rows of each group, of the reference and of live rows alike.

A group has fewer rows than all have, so its columns are told apart by ten bins, as is usual for the index of stability.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts import Column, Profile
from contracts.profile import ColumnProfile, NumericProfile, Segmented, SegmentProfile

from .groups import OTHER, Grouping

Array = NDArray[Any]

COARSE = 10
"""Bins of values; the next one is of missing, the one after it of unseen values."""
_CELLS_AT_MOST = 5_000
"""Groups times columns that are counted: as many segments as fit."""
_NONE = -1


class Segmenter:
    """Compiled from a profile that has segments: turns bins (`Binner.bin`) into counts by group."""

    def __init__(self, profile: Profile) -> None:
        assert profile.segmented is not None
        names = [column.name for column in profile.columns]
        self._columns = len(names)
        self._coarse = _padded(profile.segmented.coarse, COARSE + 1)
        self._segments = [
            (names.index(s.name), np.array(s.group_of), len(s.groups)) for s in profile.segmented.segments
        ]
        self.groups = [(s.name, group) for s in profile.segmented.segments for group in s.groups]
        """Segment and group, in the order of the counts."""
        counts = [np.array(s.counts, np.int64) for s in profile.segmented.segments if s.counts]
        self.reference = np.concatenate(counts) if counts else np.zeros(self.shape, np.int64)
        """The profile's own counts [groups, columns, coarse bins]."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of counts: [groups, columns, coarse bins]."""
        return len(self.groups), self._columns, COARSE + 2

    def count(self, bins: Array) -> Array:
        """Counts [groups, columns, coarse bins] of a bin matrix [rows, tracks]; a row that misses a segment's value is
        in none of its groups."""
        places = np.arange(self._columns)
        coarse = self._coarse[places, bins[:, : self._columns]] + places * (COARSE + 2)
        return np.concatenate([self._of(segment, bins, coarse) for segment in self._segments])

    def _of(self, segment: tuple[int, Array, int], bins: Array, coarse: Array) -> Array:
        place, group_of, groups = segment
        group = group_of[bins[:, place]]
        here = group != _NONE
        width = self._columns * (COARSE + 2)
        flat = coarse[here] + group[here, None] * width
        return np.bincount(flat.ravel(), minlength=groups * width).reshape(groups, self._columns, COARSE + 2)


def segmented(profile: Profile, columns: Sequence[Column], bins: Array) -> Segmented | None:
    """What a profile says of the groups of its segments, from the bins of the counted rows; None without segments."""
    found = list(_fitting(profile, columns))
    if not found:
        return None
    coarse = tuple(tuple(_coarse_of(column)) for column in profile.columns)
    counter = Segmenter(profile.model_copy(update={"segmented": Segmented(coarse=coarse, segments=tuple(found))}))
    counts = iter(counter.count(bins).tolist())
    told = [each.model_dump() | {"counts": [next(counts) for _ in each.groups]} for each in found]
    return Segmented.model_validate({"coarse": coarse, "segments": told})


def _fitting(profile: Profile, columns: Sequence[Column]) -> Iterator[SegmentProfile]:
    known = {column.name: column for column in profile.columns if column.role == "feature"}
    left = _CELLS_AT_MOST // len(profile.columns) if known else 0
    for column in columns:
        if not column.segment or column.name not in known:
            continue
        made = _segment(column, known[column.name])
        if 0 < len(made.groups) <= left:
            left -= len(made.groups)
            yield made


def _segment(column: Column, profile: ColumnProfile) -> SegmentProfile:
    """Its groups as figures of performance have them where segments are paired: the commonest by name."""
    grouping = Grouping.of(column, profile)
    if isinstance(profile, NumericProfile):
        if not grouping.cuts:  # nearly all of its rows are in one bin
            return SegmentProfile(name=column.name, groups=(), group_of=(), counts=())
        names = [grouping.group(upper) for upper in (*profile.edges, float("inf"))]
        groups, unseen = tuple(dict.fromkeys(names)), _NONE
    else:
        names = [grouping.paired(grouping.group(value)) for value in profile.classes]
        groups = (*sorted({*names} - {OTHER}, key=names.index), OTHER)
        unseen = len(groups) - 1
    of = [groups.index(name) for name in names]
    return SegmentProfile(name=column.name, groups=groups, group_of=(*of, _NONE, unseen), counts=())


def _coarse_of(column: ColumnProfile) -> list[int]:
    """Of each bin, and of missing and unseen values: of numbers tenths of the reference, of classes the nine commonest
    and all others."""
    counts = np.array(column.counts, np.int64)
    if isinstance(column, NumericProfile):
        middle = np.cumsum(counts) - counts / 2
        made = np.minimum(COARSE - 1, (middle * COARSE / max(1, counts.sum())).astype(np.int64))
    else:
        made = np.full(len(counts), COARSE - 1)
        common = np.argsort(-counts, kind="stable")[: COARSE - 1]
        made[common] = np.arange(len(common))
    return [*made.tolist(), COARSE, COARSE + 1]


def _padded(rows: Sequence[Sequence[int]], fill: int) -> Array:
    made = np.full((len(rows), max(map(len, rows))), fill, np.int64)
    for place, row in enumerate(rows):
        made[place, : len(row)] = row
    return made
