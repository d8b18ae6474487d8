"""What every service says, through the kit: its audit rows and its alerts."""

from datetime import datetime, timedelta
from typing import ClassVar, Literal
from uuid import UUID

from pydantic import Field

from .base import Event, Service, Topic, absent


class AuditRecorded(Event):
    """One fact of one service, numbered without gaps: the raw material of the ledger."""

    topic: ClassVar[Topic] = Topic("audit.recorded", speaker="every", keep=timedelta(days=365))
    key_field: ClassVar[str] = "service"

    service: Service
    number: int
    """From 1, without gaps within a service."""
    action: str
    subject: str
    actor: str
    unit: str
    at: datetime
    correlation_id: str
    event_id: str | None
    """The event that tells the same fact, where there is one."""
    detail: dict[str, str | int | float | bool | None]


class AlertRaised(Event):
    """A service saw something that a person should look at. Governor keeps its owner and state."""

    topic: ClassVar[Topic] = Topic("alert.raised", speaker="every", keep=timedelta(days=365))
    key_field: ClassVar[str] = "subject"

    alert_id: UUID
    subject: str
    kind: str
    severity: Literal["info", "warning", "critical"]
    title: str
    detail: str
    todo: str
    """What a person can do about it."""
    since: datetime | None = Field(default=None, exclude_if=absent)
    """When what it tells of began, where that is known: perhaps long before it was seen."""
    how_much: str | None = Field(default=None, exclude_if=absent)
    """How far something is from where it should be, in figures."""
    segment: str | None = Field(default=None, exclude_if=absent)
    """The part of the rows that it is about, where it is not about all."""
    cost: str | None = Field(default=None, exclude_if=absent)
    """What it costs, where that is known."""


class AlertResolved(Event):
    """What an alert told of is over."""

    topic: ClassVar[Topic] = Topic("alert.resolved", speaker="every", keep=timedelta(days=365))
    key_field: ClassVar[str] = "subject"

    alert_id: UUID
    subject: str
    reason: str
