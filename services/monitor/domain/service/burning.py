"""When an error budget burns too fast: one alarm an episode.

Multiwindow, multi-burn-rate alerts of The Site Reliability Workbook (2018), chapter 5, table 5-8, for objectives over
30 days: the long window says that it matters (2 % or 5 % of the budget are gone), the short one that it goes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from .objectives import Events

Severity = Literal["warning", "critical"]
Windows = Mapping[timedelta, Events]
"""What happened in the last so much time."""

LEAST_BAD = 10
"""Bad requests in the long window, or nothing is said: a service that is asked seldom breaks any share by a few."""
_SEVERITIES: tuple[Severity, ...] = ("warning", "critical")


@dataclass(frozen=True)
class Rule:
    """An alarm where the budget burns at this rate in both windows."""

    severity: Severity
    rate: float
    long: timedelta
    short: timedelta


RULES = (
    Rule("critical", 14.4, timedelta(hours=1), timedelta(minutes=5)),
    Rule("warning", 6.0, timedelta(hours=6), timedelta(minutes=30)),
)
SHORT = tuple(rule.short for rule in RULES)
CALM = max(SHORT)
"""An episode is over when the budget lasts again, in so much time."""


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


def may_burn(objective: float, short: Windows) -> bool:
    """Whether the short windows alone leave open that a rule holds: only then are the long ones looked at."""
    return any(short[rule.short].burn_rate(objective) >= rule.rate for rule in RULES)


def judge(objective: float, windows: Windows, told: Severity | None) -> Burning | Over | None:
    """What is to be said: that it burns, first and when it is worse than what was `told`; that it is over; nothing."""
    for rule in RULES:
        long, short = windows[rule.long], windows[rule.short]
        rate = long.burn_rate(objective)
        if long.bad >= LEAST_BAD and min(rate, short.burn_rate(objective)) >= rule.rate:
            return Burning(rule, long, rate) if _worse(rule.severity, told) else None
    calm = windows[CALM]
    return Over(calm.valid > 0) if told and calm.burn_rate(objective) <= 1 else None


def _worse(severity: Severity, told: Severity | None) -> bool:
    return told is None or _SEVERITIES.index(severity) > _SEVERITIES.index(told)
