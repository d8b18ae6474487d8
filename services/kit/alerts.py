"""Alerts that any service raises; governor alone keeps their owner and state."""

from datetime import datetime
from typing import Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from contracts import AlertRaised, AlertResolved

from .db import Tx


def alert_id(kind: str, subject: str) -> UUID:
    """One alert per kind and subject: raising it again is the same alert."""
    return uuid5(NAMESPACE_URL, f"fairlead:alert:{kind}:{subject}")


def raise_alert(
    tx: Tx,
    kind: str,
    subject: str,
    severity: Literal["info", "warning", "critical"],
    title: str,
    detail: str,
    todo: str,
    *,
    unit: str | None = None,
    since: datetime | None = None,
    how_much: str | None = None,
    segment: str | None = None,
    cost: str | None = None,
) -> AlertRaised:
    """Tell that a person should look at something, and what can be done about it; answers what was said.

    `since`, `how_much`, `segment` and `cost` are for messages about it, where they are known.
    """
    event = AlertRaised(
        alert_id=alert_id(kind, subject),
        subject=subject,
        kind=kind,
        severity=severity,
        title=title,
        detail=detail,
        todo=todo,
        since=since,
        how_much=how_much,
        segment=segment,
        cost=cost,
    )
    tx.emit(event, unit=unit)
    return event


def resolve_alert(tx: Tx, kind: str, subject: str, reason: str, *, unit: str | None = None) -> None:
    """Tell that what an alert told of is over."""
    tx.emit(AlertResolved(alert_id=alert_id(kind, subject), subject=subject, reason=reason), unit=unit)
