"""Whether a season that nobody declared explains what departed from the baseline: the counts of past hours tell.

A change that came once must never pass for a season, so five things have to hold over one and a half periods at least:
1. The first half, of whole periods, moves by itself, and so does the rest: evidence beyond the budget without any
   reference. A change that came once leaves one of them at rest, and of a passing one that ended with the first
   period there is nothing to see in the second.
2. Under the season nothing is raised in what came after the first period: each hour was like that of the one before.
3. Nothing is in doubt at the end.
4. Out of step, a quarter or half a period later, something would have been raised: few rows agree with anything.
5. Each column was at some time of the period as it is in the reference, or on both sides of it. One that was elsewhere
   all the time moved for good, whatever rises and falls beside it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.monitoring import check_season

from .detectors.edetector import EDetector
from .effects import Effect, effects
from .reference import Reference
from .season import NONE, Season
from .trial import Setting, Trial
from .watch import Watch
from .windows import HOUR_S, Block, moment

Array = NDArray[Any]

PERIODS = {86_400.0: "daily", 604_800.0: "weekly"}
"""Seconds, and what such a season is called."""
KEPT_S = 16 * 86_400.0
"""So far back hours say something: two weeks and a little."""
_LEAST_PERIODS = 1.5
_OUT_OF_STEP = (0.5, 0.25)
"""Of a period; what comes again twice in it is in step after half of it."""


def candidates(window_s: float, present_s: float | None) -> list[float]:
    """Periods that may be learned, the shortest first: longer than what was learned, and of more than a few windows."""
    return [each for each in PERIODS if each > (present_s or 0.0) and _fits(each, window_s)]


def _fits(period_s: float, window_s: float) -> bool:
    try:
        check_season(period_s, window_s)
    except ValueError:
        return False
    return True


def learned(reference: Reference, hours: Sequence[Block], setting: Setting) -> Watch | None:
    """The watch that goes on with the season of a setting, if that explains some hours; each begins at its middle, in
    order."""
    period_s = setting.season_s
    if not hours or not period_s:
        return None
    periods = (hours[-1].start_s + HOUR_S - hours[0].start_s) / period_s
    if periods < _LEAST_PERIODS:
        return None
    middle_s = hours[0].start_s + max(1, periods // 2) * period_s
    halves = [hour for hour in hours if hour.start_s < middle_s], [hour for hour in hours if hour.start_s >= middle_s]
    if not all(_moves(half, reference, setting) for half in halves):
        return None
    watch = _calm(reference, hours, setting)
    if watch is None or not _passes(reference, watch.detector.bag.counts, setting.tolerance):
        return None
    if all(_calm(reference, _out_of_step(hours, period_s, by), setting) for by in _OUT_OF_STEP):
        return None
    return watch


def _calm(reference: Reference, hours: Sequence[Block], setting: Setting) -> Watch | None:
    """The watch under a setting after some hours, if it raised nothing and doubts nothing."""
    trial = Trial(reference, setting)
    for hour in hours:
        trial.see(hour.start_s, moment(hour.start_s + HOUR_S / 2), [hour])
    alarm = any(each.finding.kind == "alarm" for each in trial.raised)
    return None if alarm or trial.watch.phase != "watching" else trial.watch


def _out_of_step(hours: Sequence[Block], period_s: float, by: float) -> list[Block]:
    """As if the hours after the first period came later by a part of it."""
    first_s = hours[0].start_s + period_s
    return [replace(hour, start_s=hour.start_s + by * period_s * (hour.start_s >= first_s)) for hour in hours]


def _moves(hours: Sequence[Block], reference: Reference, setting: Setting) -> bool:
    """Whether rows of some hours could not change places, by themselves."""
    detector = EDetector.start(np.zeros(reference.counts.shape), pairs=reference.pairs)
    threshold = np.log(setting.budget)
    for hour in hours:
        detector = detector.observe(hour)
        if detector.evidence().statistic >= threshold:
            return True
    return False


def _passes(reference: Reference, slots: Array, tolerance: float) -> bool:
    """Whether each column passes the reference on its way through the slots [slots, tracks, bins]."""
    columns = [place for place, track in enumerate(reference.tracks) if track.kind in ("numeric", "categorical")]
    some = reference.part(columns)
    found = [effects(some, counts[columns]) for counts in slots if counts[0].sum()]
    return all(_passed([slot[at] for slot in found], tolerance) for at in range(len(columns)))


def _passed(found: Sequence[Effect], tolerance: float) -> bool:
    sides = {effect.size > 0 for effect in found if effect.measure == "location"}
    return len(sides) > 1 or any(not effect.beyond(tolerance) for effect in found)


def season(given_s: float | None, learned_s: float | None, window_s: float) -> Season:
    """What holds: what is set wins, 0 forbids any; one that was learned does not while windows are longer than a slot
    of it."""
    if given_s is None and learned_s and not _fits(learned_s, window_s):
        return NONE
    return Season((learned_s if given_s is None else given_s) or None)
