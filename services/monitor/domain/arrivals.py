"""Whether an endpoint's rows come as they use to come at such a time: how long they may stay away, how many there are.

No window closes without rows, so this looks at the clock. What is usual is learned from up to 28 days of the endpoint
itself: after 15 days from the same hour of the week (and the ones beside it) of the weeks before, so that nights and
weekends explain themselves; before that from all its hours. A silence is five times the longest one that is usual: a
night of 14 hours explains a first weekend, too.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from math import log, sqrt
from statistics import median
from typing import Literal

from .windows import HOUR_S, window_start

DAY_S = 86_400.0
KEPT_S = 29 * DAY_S
"""So long hours are remembered: four weeks, and the hour before them."""
HELD_S = 1800.0
"""So long a partition of the log that stands still, or was never read, keeps back what is told of rows that stay
away."""
CONFIRM_S = 60.0
"""A silence must be seen at two looks so far apart: a monitor that was away reads what came meanwhile."""
VOLUME_CONFIRM_S = 900.0
"""A volume must be seen at looks over so long."""
LEAST_SILENT_S = 300.0

_WEEK_S = 7 * DAY_S
_BESIDE = (-1, 0, 1)
_LEAST_HISTORY_S, _LEAST_MINUTES = DAY_S, 100
_WEEKLY_S = 15 * DAY_S
_TIMES = 5.0
_LEAST_HOURS = 24
_LEAST_COUNT = 40
_TIMES_VOLUME, _TIMES_OVER = 2.0, 1.5
_SDS = 5.0
_MAD_TO_SD = 1.4826

Volume = Literal["fewer", "more"]


def lulls(minutes: Sequence[float]) -> dict[float, float]:
    """By hour (its start), the longest time between minutes with rows that reaches into it; `minutes` ascend."""
    found: dict[float, float] = {}
    for one, next_ in pairwise(minutes):
        hour = window_start(one, HOUR_S)
        while hour <= next_:
            found[hour] = max(found.get(hour, 0.0), next_ - one)
            hour += HOUR_S
    return found


@dataclass(frozen=True)
class History:
    """What is known of an endpoint's rows, in seconds since the epoch."""

    first_s: float
    """Its first minute."""
    newest_s: float
    """Its newest one."""
    minutes: int
    """With rows, so far."""
    longest: Mapping[float, float]
    """By hour, `lulls`; an hour within a silence that was told is left out."""

    @property
    def length_s(self) -> float:
        """From the first minute to the newest."""
        return self.newest_s - self.first_s

    def silent_after_s(self, at_s: float) -> float | None:
        """So long rows may stay away at a moment; None of an endpoint that did not have rows regularly."""
        if self.length_s < _LEAST_HISTORY_S or self.minutes < _LEAST_MINUTES:
            return None
        like = [self.longest[hour] for hour in _like(at_s, self.length_s) if hour in self.longest]
        usual = max(like or self.longest.values(), default=0.0)
        return max(LEAST_SILENT_S, usual * _TIMES)


def _like(at_s: float, length_s: float) -> list[float]:
    """Hours of earlier weeks that are like a moment's; none before two weeks are known."""
    if length_s < _WEEKLY_S:
        return []
    hour, weeks = window_start(at_s, HOUR_S), range(1, min(4, int(length_s // _WEEK_S)) + 1)
    return [hour - week * _WEEK_S + beside * HOUR_S for week in weeks for beside in _BESIDE]


@dataclass(frozen=True)
class Usual:
    """How many rows an hour had that is like the last one."""

    low: float
    high: float
    middle: float
    sd: float
    """Of the logarithms."""

    @classmethod
    def of(cls, hours: Iterable[int], sd: float | None = None) -> "Usual":
        """Of some hours, one at least; their own spread, where none is given."""
        counts = list(hours)
        logs = [log(count + 1) for count in counts]
        middle = median(logs)
        own = _MAD_TO_SD * median(abs(each - middle) for each in logs)
        return cls(min(counts), max(counts), middle, own if sd is None else sd)

    def departs(self, rows: int, told: Volume | None) -> Volume | None:
        """How an hour departs. What was told before goes on until it is well within."""
        far = told is not None or abs(log(rows + 1) - self.middle) > _SDS * self.sd
        times = _TIMES_OVER if told else _TIMES_VOLUME
        if far and rows < self.low / times and self.low >= _LEAST_COUNT and told != "more":
            return "fewer"
        if far and rows > self.high * times + _LEAST_COUNT and told != "fewer":
            return "more"
        return None


def hours_of(begin_s: float, end_s: float) -> list[float]:
    """The hours that a span touches, by their starts; at most those that are kept."""
    end = window_start(end_s, HOUR_S)
    hour = max(window_start(begin_s, HOUR_S), end - KEPT_S)
    return [hour + place * HOUR_S for place in range(int((end - hour) // HOUR_S) + 1)]


def usual(by_hour: Mapping[float, int], first_s: float, at_s: float, outages: Collection[float] = ()) -> Usual | None:
    """What is usual of the hour before a moment, by the rows of earlier hours (none is zero); None of too few.

    Hours of `outages`, within a silence that was told, are like no other. Nor is an hour before the oldest one with
    rows: what was forgotten is not zero. The last day is left out where weeks are not known yet, so that what changed
    is not its own measure at once; after that day it is the new normal.
    """
    begin = window_start(max(first_s, min(by_hour, default=first_s)), HOUR_S) + HOUR_S
    by_hour = {hour: rows for hour, rows in by_hour.items() if hour not in outages}
    like = [hour for hour in _like(at_s - HOUR_S / 2, at_s - first_s) if hour >= begin and hour not in outages]
    if like:
        return Usual.of((by_hour.get(hour, 0) for hour in like), _weekly_sd(by_hour, window_start(at_s, HOUR_S)))
    last = window_start(at_s - DAY_S, HOUR_S)
    oldest = max(begin, last - KEPT_S)
    every = [oldest + place * HOUR_S for place in range(max(0, int((last - oldest) // HOUR_S)))]
    like = [hour for hour in every if hour not in outages]
    return Usual.of(by_hour.get(hour, 0) for hour in like) if len(like) >= _LEAST_HOURS else None


def _weekly_sd(by_hour: Mapping[float, int], before_s: float) -> float:
    """How much an hour differs from the same one a week before, in logarithms: of all hours, since a dozen tell no
    spread."""
    moved = [
        abs(log((rows + 1) / (then + 1)))
        for hour, rows in by_hour.items()
        if rows and hour < before_s - HOUR_S and (then := by_hour.get(hour - _WEEK_S))
    ]
    return _MAD_TO_SD * median(moved) / sqrt(2) if moved else 0.0


@dataclass(frozen=True)
class ReadUpTo:
    """As of when rows can be missed."""

    at: datetime | None
    """Up to where the log is read; None: that is not known yet."""
    behind: Mapping[int, datetime | None]
    """Partitions that stand still while others go on, which nobody waits for: up to where each is read, None of one
    that never was."""

    @classmethod
    def of(
        cls, reached: Mapping[int, datetime | None], seen: Mapping[int, datetime], partitions: int
    ) -> "ReadUpTo":  # fmt: skip
        """By up to where each partition is read, and since when it is known; one that nobody looked at, as long as any
        is. One that is long behind the foremost is left out: it would keep back what is told of all. All that lag
        together do, for what they have not read is not missing."""
        foremost = max((at for at in reached.values() if at), default=None)
        if foremost is None:
            return cls(None, {})
        first = min(seen.values(), default=foremost)
        each = {number: reached.get(number) for number in sorted({*range(partitions), *reached})}
        late = {
            number: (foremost - (at or seen.get(number, first))).total_seconds() > HELD_S for number, at in each.items()
        }
        there = [at for number, at in each.items() if not late[number]]
        read = [at for at in there if at]
        return cls(min(read) if len(read) == len(there) else None, {n: at for n, at in each.items() if late[n]})
