"""When an error budget burns too fast: one alarm an episode.

Multiwindow, multi-burn-rate alerts of The Site Reliability Workbook (2018), chapter 5, table 5-8, for objectives over
30 days: the long window says that it matters (2 %, 5 % or 10 % of the budget are gone), the short one that it goes on.
The slow rule is a ticket, not a page; it must go on in the last half hour as well, so that it is not told of an outage
that is over.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from .objectives import Events

Severity = Literal["info", "warning", "critical"]
Windows = Mapping[timedelta, Events]
"""What happened in the last so much time."""

LEAST_BAD = 10
"""Bad requests in the long window, or nothing is said: a service that is asked seldom breaks any share by a few."""
_SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")


@dataclass(frozen=True)
class Rule:
    """An alarm where the budget burns at this rate in all its windows."""

    severity: Severity
    rate: float
    long: timedelta
    short: timedelta
    lately: timedelta
    """Looked at first; of the fast ones it is the short window."""

    @property
    def windows(self) -> tuple[timedelta, ...]:
        """All of them."""
        return self.long, self.short, self.lately


_5_MIN, _30_MIN, _HOUR, _6_H = (timedelta(minutes=minutes) for minutes in (5, 30, 60, 360))
RULES = (
    Rule("critical", 14.4, _HOUR, _5_MIN, _5_MIN),
    Rule("warning", 6.0, _6_H, _30_MIN, _30_MIN),
    Rule("info", 1.0, timedelta(days=3), _6_H, _30_MIN),
)
LATELY = (_5_MIN, _30_MIN)
LONGER = tuple(sorted({length for rule in RULES for length in rule.windows} - {*LATELY}))
"""Read only where a rule may hold."""
CALM: Mapping[Severity, timedelta] = {"info": _6_H, "warning": _30_MIN, "critical": _30_MIN}
"""An episode is over when the budget lasts again, in so much time."""
OVER: Mapping[Severity, float] = {"info": 0.8, "warning": 1.0, "critical": 1.0}
"""At this rate or below. The slow rule is raised at 1: over at 1, too, it would begin and end with every request."""


@dataclass(frozen=True)
class Burning:
    """A budget that burns too fast, with the rule that says so."""

    rule: Rule
    events: Events
    """Of the long window."""
    rate: float


@dataclass(frozen=True)
class Over:
    """It does so no longer."""

    asked: bool
    """Whether somebody asked lately, so that it is known to be well."""


def may_burn(objective: float, lately: Windows) -> bool:
    """Whether the last minutes alone leave open that a rule holds: only then are the longer windows looked at."""
    return any(lately[rule.lately].burn_rate(objective) >= rule.rate for rule in RULES)


def judge(objective: float, windows: Windows, told: Severity | None) -> Burning | Over | None:
    """What is to be said: that it burns, first and when it is worse than what was `told`; that it is over; nothing."""
    for rule in RULES:
        long = windows[rule.long]
        holds = all(windows[length].burn_rate(objective) >= rule.rate for length in rule.windows)
        if holds and long.bad >= LEAST_BAD:
            return Burning(rule, long, long.burn_rate(objective)) if _worse(rule.severity, told) else None
    if told is None:
        return None
    calm = windows[CALM[told]]
    return Over(calm.valid > 0) if calm.burn_rate(objective) <= OVER[told] else None


def _worse(severity: Severity, told: Severity | None) -> bool:
    return told is None or _SEVERITIES.index(severity) > _SEVERITIES.index(told)
