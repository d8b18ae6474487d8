"""The detectors that an operator chose, over what closed windows counted and over labels as they come (ADR 43).

River's detectors see one value after the other and do not merge, so they see what no batching of rows changes: of each
closed window, in order, hundreds of rows drawn from its merged counts, by column the mean of their normal scores in
its standard errors. A window is drawn from alike whoever draws. A value stands for a hundred rows at least, so that a
budget in rows is kept by one of a hundredth as many values.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from math import inf, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .detectors.chosen import chosen, kind
from .detectors.chosen.levels import level
from .outcomes.loss import Bins, LossBlock
from .reference import Reference

Array = NDArray[Any]

_ROWS = 100
_AT_ONCE = 10
"""Values of one window at most, however many rows it has."""
_MOST_COLUMNS = 200
"""Of an endpoint: what is kept of each by each detector are up to two kilobytes."""
_FAR = 4.0
"""A mean of a hundred rows of a seldom class is further out than a normal one: no value counts as more."""
_RECENT_LABELS = 500
State = Mapping[str, Any]


@dataclass(frozen=True)
class Heard:
    """Which detectors alarmed, at which columns (none: at labels)."""

    detectors: tuple[str, ...]
    columns: tuple[int, ...]
    statistic: float
    """The logarithm of how many rows lie between false alarms of one of them at one column: what it passed at least."""
    since_s: float = 0.0
    """When the first window began whose rows they saw now."""
    counts: Array | None = field(default=None, compare=False)
    """Those rows, as counts [columns, width]."""

    @property
    def name(self) -> str:
        """As an alarm names them."""
        return f"river {', '.join(self.detectors)}"


@dataclass(frozen=True)
class Watched:
    """Where they stand on the columns."""

    columns: int
    states: Mapping[str, Sequence[State]]
    """By detector, of each column."""
    held: Array | None = None
    """Counts [columns, width] of windows that had too few rows to say something."""
    held_s: float | None = None
    """When the first of these windows began."""
    last_s: float = -inf

    def observe(
        self, names: Sequence[str], reference: Reference, counts: Array, start_s: float, budget_rows: float
    ) -> tuple["Watched", Heard | None]:
        """After one more closed window with its counts [tracks, width]; `budget_rows` is the part of each detector.

        Windows come in order; one from before the last changes nothing.
        """
        ours = chosen(tuple(names), "columns")
        if start_s <= self.last_s:
            return self, None
        held = counts[: self.columns] if self.held is None else self.held + counts[: self.columns]
        since_s = start_s if self.held_s is None else self.held_s
        if held.sum(axis=1).max(initial=0) < _ROWS:
            return Watched(self.columns, self._of(ours), held, since_s, start_s), None
        values = standardised(reference, held, start_s)
        part = budget_rows * self.columns
        states, heard = dict[str, list[State]](), list[tuple[str, int]]()
        for name in ours:
            at, before = level(name, part / _ROWS), self.states.get(name) or [{}] * self.columns
            states[name] = [_seen(name, at, before[place], values[:, place]) for place in range(self.columns)]
            heard += [(name, place) for place in range(self.columns) if states[name][place].get("alarmed")]
        after = Watched(self.columns, states, last_s=start_s)
        return after, replace(_heard(heard, part), since_s=since_s, counts=held) if heard else None

    def _of(self, names: Sequence[str]) -> dict[str, Sequence[State]]:
        return {name: self.states[name] for name in names if name in self.states}

    @classmethod
    def start(cls, reference: Reference) -> "Watched":
        """Of a version that no window was seen of: its own columns, not what they are together."""
        own = sum(track.kind in ("numeric", "categorical") for track in reference.tracks)
        return cls(min(own, _MOST_COLUMNS), {})

    def to_bytes(self) -> bytes:
        """As it is stored."""
        held = None if self.held is None else self.held.tolist()
        last_s = None if self.last_s == -inf else self.last_s
        said = {"columns": self.columns, "states": self.states, "held": held, "held_s": self.held_s, "last_s": last_s}
        return _packed(said)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Watched | None":
        """What `to_bytes` wrote; None of another version of river, which may keep other things."""
        found = _unpacked(data)
        if found is None:
            return None
        held = None if found["held"] is None else np.array(found["held"])
        last_s = -inf if found["last_s"] is None else found["last_s"]
        since_s = None if held is None else found.get("held_s", last_s)
        return cls(found["columns"], found["states"], held, since_s, last_s)


@dataclass(frozen=True)
class WatchedLabels:
    """Where they stand on labels, and what came last."""

    states: Mapping[str, State] = field(default_factory=dict[str, State])
    before: Bins = field(default_factory=dict[int, int])
    recent: tuple[tuple[float, int, int], ...] = ()
    """Of the newest labels, by block: when it began, right and wrong ones."""

    def observe(
        self, names: Sequence[str], block: LossBlock, budget_rows: float
    ) -> tuple["WatchedLabels", Heard | None]:
        """After one more block of labels that are right (0) or wrong (1)."""
        right, wrong = block.bins.get(0, 0), block.bins.get(1, 0)
        errors = np.repeat((0, 1), (right, wrong))
        np.random.default_rng((round(block.start_s * 1_000), right, wrong)).shuffle(errors)
        states = {
            name: _seen(name, level(name, budget_rows), self.states.get(name, {}), errors)
            for name in chosen(tuple(names), "labels")
        }
        heard = [(name, 0) for name, state in states.items() if state.get("alarmed")]
        recent, before = [*self.recent, (block.start_s, right, wrong)], dict(self.before)
        while sum(r + w for _, r, w in recent[1:]) >= _RECENT_LABELS:
            _, r, w = recent.pop(0)
            before = {0: before.get(0, 0) + r, 1: before.get(1, 0) + w}
        after = WatchedLabels(states, before, tuple(recent))
        return after, _heard(heard, budget_rows, ()) if heard else None

    @property
    def now(self) -> Bins:
        """The newest labels."""
        return {0: sum(r for _, r, _ in self.recent), 1: sum(w for _, _, w in self.recent)}

    @property
    def since_s(self) -> float:
        """When the newest labels' decisions began."""
        return min((start for start, _, _ in self.recent), default=0.0)

    def to_bytes(self) -> bytes:
        """As it is stored."""
        return _packed({"states": self.states, "before": list(self.before.items()), "recent": self.recent})

    @classmethod
    def from_bytes(cls, data: bytes) -> "WatchedLabels | None":
        """What `to_bytes` wrote; None of another version of river."""
        found = _unpacked(data)
        if found is None:
            return None
        return cls(found["states"], dict(found["before"]), tuple(tuple(each) for each in found["recent"]))


def standardised(reference: Reference, counts: Array, start_s: float) -> Array:
    """Values [times, columns] of one window: of hundreds of rows, drawn from its counts without putting back, the mean
    normal score in standard errors, as the reference has them. NaN where a column has no values."""
    columns, times = len(counts), min(_AT_ONCE, max(1, int(counts.sum(axis=1).max()) // _ROWS))
    values = np.full((times, columns), np.nan)
    for place in range(columns):
        bins = reference.tracks[place].bins
        scores, known = reference.scores[place, :bins], reference.counts[place, :bins]
        mean = float(np.average(scores, weights=known)) if known.any() else 0.0
        sd = float(np.sqrt(np.average((scores - mean) ** 2, weights=known))) if known.any() else 0.0
        left, random = counts[place, :bins].astype(np.int64), np.random.default_rng((round(start_s * 1_000), place))
        for time in range(times if sd > 0 else 0):
            if not (rows := min(_ROWS, int(left.sum()))):
                break
            drawn = random.multivariate_hypergeometric(left, rows, method="marginals")
            left = left - drawn
            values[time, place] = (drawn @ scores / rows - mean) / sd * np.sqrt(rows)
    return np.clip(values, -_FAR, _FAR)


def _seen(name: str, at: float, before: State, values: Array) -> State:
    # At another level it begins anew: what was seen is of another budget, and some keep the level in it.
    same = before if before.get("level") == at else {}
    detector = kind(name)(at, {key: value for key, value in same.items() if key not in ("alarmed", "level")})
    alarmed = False
    for value in values[np.isfinite(values)].tolist():
        alarmed = detector.update(value) or alarmed
    return {**detector.state(), "level": at, "alarmed": alarmed}


def _heard(found: Sequence[tuple[str, int]], rows: float, columns: tuple[int, ...] | None = None) -> Heard:
    names = tuple(dict.fromkeys(name for name, _ in found))
    return Heard(names, tuple(sorted({place for _, place in found})) if columns is None else columns, log(rows))


def _packed(state: Mapping[str, Any]) -> bytes:
    """JSON with infinities, which are beginnings of minima."""
    return zlib.compress(json.dumps({"river": version("river"), **state}).encode(), 1)


def _unpacked(data: bytes) -> Mapping[str, Any] | None:
    found = json.loads(zlib.decompress(data))
    return found if found["river"] == version("river") else None
