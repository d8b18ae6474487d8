"""A closed window in words of the contract."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from contracts import ColumnReport

from .effects import Effect, all_effects
from .reference import Reference, Track
from .windows import Part

Array = NDArray[Any]


def column_reports(
    reference: Reference, numeric: Sequence[str], centres: Array, part: Part
) -> tuple[ColumnReport, ...]:
    """Every watched column of a window: how many rows, missing, unseen, its mean and how far it moved."""
    counts = part.counts()
    if counts is None:
        return ()
    means = dict(zip(numeric, part.sums.means(centres), strict=True))
    found = all_effects(reference, counts)
    return tuple(
        _report(track, counts[place], means.get(track.name), found[place])
        for place, track in enumerate(reference.tracks)
        if track.kind != "axis"
    )


def _report(track: Track, counts: Array, mean: float | None, effects: Sequence[Effect]) -> ColumnReport:
    # A chart shows one thing: the location of a number, the distribution of a class.
    shown = next((e for e in effects if e.measure in ("location", "distribution")), effects[0])
    ends = counts[0] + counts[track.bins - 1] if track.kind == "numeric" and track.bins > 2 else 0
    return ColumnReport(
        name=track.name, rows=int(counts.sum()), missing=int(counts[track.missing]),
        unseen=int(counts[track.unseen] + ends), mean=mean, effect=round(shown.size, 6), unit=shown.unit,
    )  # fmt: skip
