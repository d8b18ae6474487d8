"""Whether more values than usual cannot be used: missing, of no known class, out of range, ids that came twice.

Shares have a natural measure of harm, so the test is of "no more than the baseline's share, its doubt included, and the
tolerance": a bettor that holds the likelihood ratio of a larger share is a supermartingale for every smaller one, and
`M <- e (M + n)` (Shin, Ramdas, Rinaldo: *E-detectors*, 2022) alarms falsely no more often than once in a budget of
rows, whatever the share does below that. Each share has an equal part of the budget.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts import FeatureEvidence

from .outcomes.intervals import ALPHA, share
from .reference import Reference, Track
from .traffic import Ids

Array = NDArray[Any]

_BETS = (0.02, 0.06, 0.2, 0.5, 0.9)
"""Of the way from the largest usual share to 1: what bettors bet on."""
_LEARN_IDS = 1_000
"""Ids have no baseline: that of a version's first so many."""
_TOLD_AFTER, _OVER_AFTER = 2, 3
"""Windows in a row that must be beyond, or within again: one odd request is neither."""
_LARGEST = 0.999
_COLUMNS = ("numeric", "categorical")
REQUESTS = "request ids"
"""As what is told that ids came before."""


class What(NamedTuple):
    """One share that is watched."""

    column: str | None
    """None: request ids."""
    how: str


class Counted(NamedTuple):
    """Of each share: the values that cannot be used, and all of them."""

    bad: Array
    rows: Array


def watched(tracks: Sequence[Track]) -> list[What]:
    """The shares of some tracks, in the order of `counted`; what columns are together has none."""
    found = [(track, how) for track in tracks if track.kind in _COLUMNS for how in ("missing", _other(track))]
    return [What(track.name, how) for track, how in found] + [What(None, "repeated")]


def elsewhere(tracks: Sequence[Track], drifting: Collection[str]) -> Array:
    """Which shares are of columns whose drift is told: that alarm tells them, too."""
    return np.array([what.column in drifting for what in watched(tracks)])


def _other(track: Track) -> str:
    return "out of range" if track.kind == "numeric" else "unseen"


def counted(tracks: Sequence[Track], counts: Array, ids: Ids) -> Counted:
    """Of counts [tracks, width] and request ids; those of a sample of ids where there are many."""
    made: list[tuple[int, int]] = []
    for track, of in zip(tracks, counts, strict=True):
        if track.kind in _COLUMNS:
            # The outermost bins are open; of two there is no inside.
            ends = of[0] + of[track.bins - 1] if track.kind == "numeric" and track.bins > 2 else 0
            rows = int(of.sum())
            made += [(int(of[track.missing]), rows), (int(of[track.unseen] + ends), rows)]
    named = sum(ids.sample.values())
    bad, rows = np.array([*made, (named - len(ids.sample), named)], np.int64).T
    return Counted(bad, rows)


@dataclass(frozen=True)
class Departure:
    """A share that is told, with what it was and what it is since."""

    what: What
    before: float
    now: float
    rows: int
    since_s: float

    def evidence(self, tolerance: float) -> FeatureEvidence:
        """As it is told, in shares of the values."""
        doubt = share(round(self.now * self.rows), self.rows, ALPHA)
        return FeatureEvidence(
            name=self.what.column or REQUESTS, effect=round(self.now - self.before, 6),
            interval=(round(doubt.low - self.before, 6), round(doubt.high - self.before, 6)), tolerance=tolerance,
            unit="share", measure=self.what.how, before=round(self.before, 6), now=round(self.now, 6),
        )  # fmt: skip


@dataclass(frozen=True)
class Unusable:
    """More values than usual cannot be used: an alarm, of all that is told now."""

    departures: tuple[Departure, ...]
    """The largest first."""
    statistic: float
    """The logarithm of the most evidence that there is for one of them."""
    kind: Literal["alarm"] = "alarm"

    @property
    def since_s(self) -> float:
        """When the first of them began."""
        return min(each.since_s for each in self.departures)

    @property
    def rows(self) -> int:
        """Values since then, of the column that has the most."""
        return max(each.rows for each in self.departures)


@dataclass(frozen=True)
class Quality:
    """The state of watching one version's shares; every array has one entry a share, but `log_m` [shares, bets]."""

    base: Counted
    """What is usual: the baseline's, or what a person accepted."""
    recent: Counted
    """Since a share was beyond its bound."""
    log_m: Array
    streak: Array
    """Windows in a row that were beyond (of a told share: within) its bound."""
    told: Array
    since_s: Array

    @classmethod
    def start(cls, reference: Reference) -> "Quality":
        """Of a version that no window was seen of."""
        base = counted(reference.tracks, reference.counts, Ids())
        shares, none = len(base.rows), np.zeros(len(base.rows), np.int64)
        return cls(base, Counted(none, none), np.full((shares, len(_BETS)), -np.inf), none, none > 0, none * 0.0)

    def bounds(self, tolerance: float) -> Array:
        """The largest share that is usual, with the doubt of the baseline and the tolerance."""
        shares = len(self.base.rows)
        high = [
            share(b, n, ALPHA / shares).high
            for b, n in zip(self.base.bad.tolist(), self.base.rows.tolist(), strict=True)
        ]
        return np.minimum(np.array(high) + tolerance, _LARGEST)

    def observe(self, now: Counted, start_s: float, tolerance: float) -> "Quality":
        """After one more window."""
        learns = (np.arange(len(now.rows)) == len(now.rows) - 1) & (self.base.rows < _LEARN_IDS)
        here = (now.rows > 0) & ~learns
        bound = self.bounds(tolerance)
        beyond = here & (now.bad > bound * now.rows)
        within = here & ~beyond
        began = beyond & (self.streak == 0) & ~self.told
        going = (beyond & ~began) | (here & self.told)
        recent = Counted(*(np.where(began, new, np.where(going, old + new, old))
                           for old, new in zip(self.recent, now, strict=True)))  # fmt: skip
        counts_on = np.where(self.told, within, beyond)
        base = Counted(*(old + np.where(learns, new, 0) for old, new in zip(self.base, now, strict=True)))
        return replace(
            self, base=base, recent=recent, log_m=np.where(here[:, None], self._won(now, bound), self.log_m),
            streak=np.where(counts_on, self.streak + 1, np.where(here, 0, self.streak)),
            since_s=np.where(began, start_s, self.since_s),
        )  # fmt: skip

    def _won(self, now: Counted, bound: Array) -> Array:
        low = np.maximum(bound[:, None], 1e-9)
        high = low + (1 - low) * np.array(_BETS)
        won = now.bad[:, None] * np.log(high / low) + (now.rows - now.bad)[:, None] * np.log((1 - high) / (1 - low))
        return np.minimum(won + np.logaddexp(self.log_m, np.log(np.maximum(now.rows, 1))[:, None]), 1e4)

    def judge(self, budget_rows: int, elsewhere: Array) -> "Quality":
        """With what is to be told from now on, and without what is over. `elsewhere` [shares]: what an open alarm of
        drift tells already."""
        begins = ~self.told & self.sure(budget_rows) & ~elsewhere
        over = self.told & ((self.streak >= _OVER_AFTER) | elsewhere)
        changed = begins | over
        return replace(
            self, told=(self.told & ~over) | begins, streak=np.where(changed, 0, self.streak),
            log_m=np.where(over[:, None], -np.inf, self.log_m),
        )  # fmt: skip

    def sure(self, budget_rows: int) -> Array:
        """Which shares are proven to be beyond, and not by one odd window."""
        return (self._evidence() >= log(budget_rows) + log(len(self.log_m))) & (self.streak >= _TOLD_AFTER)

    def _evidence(self) -> Array:
        return np.logaddexp.reduce(self.log_m, axis=1) - log(len(_BETS))

    def found(self, before: "Quality", tracks: Sequence[Track]) -> Unusable | None:
        """What is told now, where some of it was not told `before`."""
        if not (self.told & ~before.told).any():
            return None
        return Unusable(tuple(self.departures(tracks)), float(self._evidence()[self.told].max()))

    def accepted(self, budget_rows: int) -> "Quality":
        """What is beyond its bound now is usual: in place of what was where it is told, or would be if the alert of
        drift did not tell it; a window that may be odd is added to it."""
        seen = (self.told | (self.streak > 0)) & (self.recent.rows > 0)
        known = self.told | self.sure(budget_rows)
        base = Counted(*(
            np.where(seen, np.where(known, new, old + new), old)
            for old, new in zip(self.base, self.recent, strict=True)
        ))  # fmt: skip
        none = np.zeros(len(seen), np.int64)
        return replace(self, base=base, told=none > 0, streak=none, log_m=np.full(self.log_m.shape, -np.inf))

    def departures(self, tracks: Sequence[Track]) -> list[Departure]:
        """What is told, the largest first."""
        found = [
            Departure(what, _share(self.base, place), _share(self.recent, place), int(self.recent.rows[place]),
                      float(self.since_s[place]))
            for place, what in enumerate(watched(tracks)) if self.told[place]
        ]  # fmt: skip
        return sorted(found, key=lambda each: each.before - each.now)

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        log_m = [[None if bet == -np.inf else bet for bet in bets] for bets in self.log_m.tolist()]
        return {
            "base": [each.tolist() for each in self.base], "recent": [each.tolist() for each in self.recent],
            "log_m": log_m, "streak": self.streak.tolist(), "told": self.told.tolist(),
            "since_s": self.since_s.tolist(),
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Quality":
        """What `to_json` wrote."""
        base, recent = (Counted(*(np.array(each, np.int64) for each in data[name])) for name in ("base", "recent"))
        log_m = np.array([[-np.inf if bet is None else bet for bet in bets] for bets in data["log_m"]])
        return cls(base, recent, log_m, np.array(data["streak"]), np.array(data["told"]), np.array(data["since_s"]))


def _share(counts: Counted, place: int) -> float:
    return float(counts.bad[place] / max(1, counts.rows[place]))
