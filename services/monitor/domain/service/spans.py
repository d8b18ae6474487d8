"""The span of time that somebody asks about: `24h`, `7d`, `90m`."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.kit.errors import Invalid

from ..windows import moment, window_start
from .slots import MINUTE_S

HOUR_S = 3_600
KEPT_BY_MINUTE = timedelta(hours=7)
"""So long counts are kept by minute, then by hour."""
_SPAN = re.compile(r"([1-9][0-9]{0,6})(m|h|d)")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_LEAST = timedelta(minutes=5)


@dataclass(frozen=True)
class Span:
    """From a moment, which counts, to one, which does not."""

    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end - self.start).total_seconds()

    @classmethod
    def last(cls, length: timedelta, now: datetime) -> "Span":
        """Up to now, from the beginning of a minute; of an hour where it reaches back to what is kept by hour."""
        unit = MINUTE_S if length <= KEPT_BY_MINUTE - timedelta(hours=1) else HOUR_S
        return cls(moment(window_start((now - length).timestamp(), unit)), now)


def minutes_end(now: datetime) -> datetime:
    """The full hour before which counts are kept by hour alone."""
    return moment(window_start((now - KEPT_BY_MINUTE).timestamp(), HOUR_S))


def length_of(text: str, kept_days: int) -> timedelta:
    """How long a span is. Raises Invalid for what is none, and for more than the platform remembers."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise Invalid("span: it is a whole number of minutes, hours or days, such as 90m, 24h or 7d", "span")
    length = int(found[1]) * _UNITS[found[2]]
    if length < _LEAST:
        raise Invalid("span: the least is 5m", "span")
    if length > timedelta(days=kept_days):
        raise Invalid(f"span: the longest is {kept_days}d, what is older is not kept", "span")
    return length
