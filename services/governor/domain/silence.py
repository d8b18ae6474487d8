"""Maintenance windows: when people are not told of alerts."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from services.kit.errors import Conflict, Invalid

from .routing import EVERY_UNIT, Case

LONGEST = timedelta(days=90)


@dataclass(frozen=True)
class Silence:
    """From `starts_at` until before `ends_at`; None for an endpoint or a kind: all of them."""

    id: UUID
    unit: str
    endpoint: str | None
    kind: str | None
    starts_at: datetime
    ends_at: datetime
    comment: str
    author: str
    made_at: datetime
    ended_by: str | None = None
    """Who ended it before its time."""

    def state(self, at: datetime) -> str:
        """`coming`, `active` or `over`; one that was ended before it began is over."""
        if at >= self.ends_at or self.ends_at <= self.starts_at:
            return "over"
        return "active" if at >= self.starts_at else "coming"

    def ended(self, at: datetime) -> datetime:
        """When it ends if somebody ends it now. Raises Conflict for one that is over."""
        if self.state(at) == "over":
            ended = f"{self.ended_by} ended it" if self.ended_by else f"since {self.ends_at:%Y-%m-%d %H:%M:%S} UTC"
            raise Conflict(f"this silence is over: {ended}")
        return max(at, self.starts_at)


def check(silence: Silence) -> None:
    """Raises Invalid naming what is wrong with one that is being made."""
    if silence.endpoint is None and silence.kind is None:
        raise Invalid("endpoint: name an endpoint, a kind, or both: a silence of everything is none", "endpoint")
    if silence.ends_at <= silence.starts_at:
        raise Invalid("ends_at: it is not after starts_at", "ends_at")
    if silence.ends_at <= silence.made_at:
        raise Invalid("ends_at: it is over", "ends_at")
    if silence.ends_at - silence.starts_at > LONGEST:
        raise Invalid(f"ends_at: a silence lasts {LONGEST.days} days at most", "ends_at")


def quiet_until(silences: Iterable[Silence], case: Case, at: datetime) -> datetime | None:
    """The end of the last of those that hold now for an alert; None where none does."""
    return max((each.ends_at for each in silences if _holds(each, case, at)), default=None)


def _holds(silence: Silence, case: Case, at: datetime) -> bool:
    return (
        silence.state(at) == "active"
        and silence.unit in (EVERY_UNIT, case.unit)
        and silence.endpoint in (None, case.subject)
        and (silence.kind is None or case.is_of(silence.kind))
    )
