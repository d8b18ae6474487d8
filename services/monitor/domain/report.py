"""A closed window in words of the contract."""

from collections.abc import Sequence
from math import inf
from typing import Any

from numpy.typing import NDArray

from contracts import ColumnReport, TrafficReport

from .effects import Effect, all_effects
from .reference import Reference, Track
from .traffic import Traffic, expected_rows
from .windows import Part, moment

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
        if track.kind in ("numeric", "categorical")
    )


def traffic_report(
    traffic: Traffic, rows: int, before: Sequence[int], last: TrafficReport | None = None
) -> TrafficReport:
    """How the rows of a window came; `before`: rows of earlier ones. `last`: as it was reported before, of a revision
    whose window's old counts are gone."""
    newest = None if traffic.newest_s == -inf else moment(traffic.newest_s)
    expected = expected_rows(before)
    volume = (
        None if expected is None else "fewer" if rows < expected[0] else "more" if rows > expected[1] else "expected"
    )
    return TrafficReport(
        newest_row_at=max(filter(None, (newest, last and last.newest_row_at)), default=None),
        expected_rows=expected and (round(expected[0], 2), round(expected[1], 2)), volume=volume,
        named_ids=traffic.ids.named + (last.named_ids if last else 0),
        repeated_ids=traffic.ids.repeated + (last.repeated_ids if last else 0),
    )  # fmt: skip


def _report(track: Track, counts: Array, mean: float | None, effects: Sequence[Effect]) -> ColumnReport:
    # A chart shows one thing: the location of a number, the distribution of a class.
    shown = next((e for e in effects if e.measure in ("location", "distribution")), effects[0])
    ends = counts[0] + counts[track.bins - 1] if track.kind == "numeric" and track.bins > 2 else 0
    return ColumnReport(
        name=track.name, rows=int(counts.sum()), missing=int(counts[track.missing]),
        unseen=int(counts[track.unseen] + ends), mean=mean, effect=round(shown.size, 6),
        unit="psi" if shown.unit == "psi" else "sd",
    )  # fmt: skip
