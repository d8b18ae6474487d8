"""The peers over the streams that ours is measured on: each at the level of the same budget, found the same way."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import level, others, streams
from .others import RIVER, WINDOW, ByColumn
from .peers.running import PEERS, Peer, statistics
from .streams import Array, Change, Stream

Drawn = Sequence[tuple[Change, Sequence[Stream]]]
AFTER, SLOW_SEEDS = 10_000, 2
Found = dict[str, dict[Change, list[int | None]]]
"""By detector and kind of change the row of each stream's first alarm, counted from the change."""


def of_river(detector: ByColumn, drawn: Drawn, budget_rows: int) -> tuple[float, Found]:
    """Its level, and what it finds. One that is slow sees the first `SLOW_SEEDS` streams of a kind and of them the
    columns that change; in the others it could only be wrong."""
    at, slow = detector.level(others.calm(detector.calm_streams), budget_rows), detector.slow
    found: dict[Change, list[int | None]] = {}
    for change, some in drawn:
        columns = [*range(streams.CHANGED), streams.NUMBERS] if slow else [*range(detector.columns)]
        after = 3_000 if slow else AFTER
        found[change] = [
            None if row is None else row - detector.rows_before
            for stream in (some[:SLOW_SEEDS] if slow else some)
            for row in [detector.first_alarm(at, *_given(stream, detector.rows_before, after), columns)]
        ]
    return at, {detector.name: found}


def of_windows(drawn: Drawn, budget_rows: int) -> tuple[float, Found]:
    """Scipy's tests of windows."""
    calm = np.array([others.windows(*each) for each in others.calm(20)])
    at = level.of_pieces(calm.ravel(), WINDOW, budget_rows)
    ends = np.arange(WINDOW, 20_001, WINDOW, dtype=np.float64)
    found: dict[Change, list[int | None]] = {
        change: [_first(others.windows(*_given(stream, 10_000, AFTER)), ends, 10_000, at) for stream in some]
        for change, some in drawn
    }
    return at, {"scipy, tests of windows": found}


def of_peer(peer: Peer, drawn: Drawn, budget_rows: int) -> tuple[dict[str, float], Found]:
    """Its detectors' levels, and what they find."""
    ends, calm = statistics(peer, others.calm(peer.calm_streams))
    levels: dict[str, float] = {}
    for name, told in calm.items():
        # The strongest of each thousand rows; what is told before an online detector has its first window is nothing.
        pieces = told.reshape(len(told), -1, max(1, WINDOW // int(ends[0]))).max(axis=2).ravel()
        levels[name] = level.of_pieces(pieces[np.isfinite(pieces)], WINDOW, budget_rows)
    kinds: list[tuple[Change, Stream]] = [(change, stream) for change, some in drawn for stream in some[: peer.seeds]]
    ends, told = statistics(peer, [_given(stream, peer.before, peer.after) for _, stream in kinds])
    found: Found = {name: {change: list[int | None]() for change, _ in drawn} for name in levels}
    for name, rows in told.items():
        for (change, _), path in zip(kinds, rows, strict=True):
            found[name][change].append(_first(path, ends, peer.before, levels[name]))
    return levels, found


def _given(stream: Stream, before: int, after: int) -> tuple[Array, Array]:
    same = stream.anew()
    return same.trained_on(), np.concatenate([rows for _, rows in same.pieces(before, after)])


def _first(path: Array, ends: Array, before: int, at: float) -> int | None:
    passed = np.flatnonzero(path >= at)
    return int(ends[passed[0]]) - before if len(passed) else None


def measure(drawn: Drawn, budget_rows: int, which: Sequence[str]) -> tuple[dict[str, float], Found]:
    """All levels and all that is found, of the peers named: `river`, `kswin`, `scipy` and those of `PEERS`."""
    levels: dict[str, float] = {}
    found: Found = {}
    for detector in (each for each in RIVER if ("kswin" if each.slow else "river") in which):
        levels[detector.name], new = of_river(detector, drawn, budget_rows)
        found |= new
    if "scipy" in which:
        levels["scipy, tests of windows"], new = of_windows(drawn, budget_rows)
        found |= new
    for name in which:
        if name in PEERS:
            more, new = of_peer(PEERS[name], drawn, budget_rows)
            levels |= more
            found |= new
    return levels, found


def known() -> tuple[str, ...]:
    """The names that `measure` understands."""
    return ("river", "kswin", "scipy", *PEERS)


def told(rows: Sequence[int | None]) -> dict[str, Any]:
    """Early alarms are false ones; None is never found, and the median None where that are half of the others."""
    after = sorted(np.inf if row is None else row for row in rows if row is None or row > 0)
    found = [row for row in after if row < np.inf]
    middle = float(np.median(after)) if after and after[len(after) // 2] < np.inf else None
    return {
        "streams": len(rows), "median": middle, "worst": max(found, default=None),
        "missed": len(after) - len(found), "false": len(rows) - len(after),
    }  # fmt: skip
