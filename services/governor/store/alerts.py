"""Alerts: what was raised by whom, who owns it, and how it ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import AlertRaised
from services.governor.domain.alert import ENDED_BY_A_PERSON
from services.governor.domain.routing import Case

from . import notices
from .notices import Notice

_COLUMNS = """
    id, unit, subject, kind, severity, title, detail, todo, source, state, times, episode, raised_at, last_at,
    retraining_id, owner, comment, acknowledged_at, resolved_at, resolution, since, how_much, segment, cost
"""


@dataclass(frozen=True)
class Alert:
    """One alert with its state."""

    id: UUID
    unit: str
    subject: str
    kind: str
    severity: str
    title: str
    detail: str
    todo: str
    source: str
    state: str
    times: int
    episode: int
    """How often it began anew."""
    raised_at: datetime
    last_at: datetime
    retraining_id: UUID | None
    owner: str | None
    comment: str | None
    acknowledged_at: datetime | None
    resolved_at: datetime | None
    resolution: str | None
    since: datetime | None = None
    how_much: str | None = None
    segment: str | None = None
    cost: str | None = None

    @property
    def closable(self) -> bool:
        """Whether it waits for a person to end it."""
        return self.state != "resolved" and self.kind in ENDED_BY_A_PERSON


async def raised(session: AsyncSession, event: AlertRaised, unit: str, source: str, at: datetime) -> Alert:
    """Open the alert, open it again, or count it; one that was resolved later than `at` stays resolved.

    Whoever tells people of alerts gets notice of it.
    """
    upsert = f"""
        INSERT INTO alert AS known
            (id, unit, subject, kind, severity, title, detail, todo, source, state, raised_at, last_at, since, how_much,
             segment, cost)
        VALUES (:id, :unit, :subject, :kind, :severity, :title, :detail, :todo, :source, 'open', :at, :at, :since,
                :how_much, :segment, :cost)
        ON CONFLICT (id) DO UPDATE SET
            severity = excluded.severity, title = excluded.title, detail = excluded.detail, todo = excluded.todo,
            since = excluded.since, how_much = excluded.how_much, segment = excluded.segment, cost = excluded.cost,
            times = known.times + 1, last_at = greatest(known.last_at, excluded.last_at),
            episode = CASE WHEN {_AGAIN} THEN known.episode + 1 ELSE known.episode END,
            raised_at = CASE WHEN {_AGAIN} THEN excluded.raised_at ELSE known.raised_at END,
            state = CASE WHEN {_AGAIN} AND {_OVER} THEN 'resolved' WHEN {_AGAIN} THEN 'open' ELSE known.state END,
            owner = CASE WHEN {_AGAIN} THEN NULL ELSE known.owner END,
            comment = CASE WHEN {_AGAIN} THEN NULL ELSE known.comment END,
            acknowledged_at = CASE WHEN {_AGAIN} THEN NULL ELSE known.acknowledged_at END,
            retraining_id = CASE WHEN {_AGAIN} THEN NULL ELSE known.retraining_id END,
            resolved_at = CASE WHEN {_AGAIN} AND {_OVER} THEN known.over_at WHEN {_AGAIN} THEN NULL
                ELSE known.resolved_at END,
            resolution = CASE WHEN {_AGAIN} AND {_OVER} THEN known.over_reason WHEN {_AGAIN} THEN NULL
                ELSE known.resolution END,
            over_at = CASE WHEN {_AGAIN} THEN NULL ELSE known.over_at END,
            over_reason = CASE WHEN {_AGAIN} THEN NULL ELSE known.over_reason END
        RETURNING {_COLUMNS}
    """
    row: dict[str, Any] = {name: getattr(event, name) for name in _SAID}
    row |= {"id": event.alert_id, "unit": unit, "source": source, "at": at}
    alert = Alert(**(await session.execute(text(upsert), row)).mappings().one())
    if alert.state != "resolved" or alert.raised_at == at:  # an episode may be over before it is heard of
        await notices.add(session, Notice(alert.id, alert.episode, "raised"))
    return alert


_SAID = ("subject", "kind", "severity", "title", "detail", "todo", "since", "how_much", "segment", "cost")
_AGAIN = "(known.state = 'resolved' AND known.resolved_at < excluded.raised_at)"
_OVER = "COALESCE(known.over_at >= excluded.raised_at, false)"


async def resolved(session: AsyncSession, id: UUID, reason: str, at: datetime) -> bool:
    """Close an alert; answers whether it is known. A resolution older than the last raising closes nothing.

    What is over keeps the time and the reason that ended it: a person's finding outlives what is heard later. What is
    heard later may have ended an episode whose raising is still on its way, over another topic: it is kept for that.
    Whoever tells people of alerts gets notice of it.
    """
    later = "state = 'resolved' AND resolved_at < :at AND (over_at IS NULL OR over_at < :at)"
    update = f"""
        UPDATE alert SET
            state = CASE WHEN last_at <= :at THEN 'resolved' ELSE state END,
            resolved_at = CASE WHEN last_at <= :at AND state <> 'resolved' THEN :at ELSE resolved_at END,
            over_at = CASE WHEN {later} THEN :at ELSE over_at END,
            over_reason = CASE WHEN {later} THEN :reason ELSE over_reason END,
            resolution = CASE WHEN last_at <= :at AND state <> 'resolved' THEN :reason ELSE resolution END
        WHERE id = :id RETURNING state, episode
    """
    found = (await session.execute(text(update), {"id": id, "reason": reason, "at": at})).first()
    if found and found.state == "resolved":
        await notices.add(session, Notice(id, found.episode, "resolved"))
    return found is not None


async def bind(session: AsyncSession, id: UUID, retraining_id: UUID) -> None:
    """This open alarm led to that retraining."""
    update = "UPDATE alert SET retraining_id = :retraining WHERE id = :id"
    await session.execute(text(update), {"id": id, "retraining": retraining_id})


async def release(session: AsyncSession, retraining_id: UUID) -> None:
    """The retraining of this alarm failed: the next drift may ask for another."""
    update = "UPDATE alert SET retraining_id = NULL WHERE retraining_id = :retraining"
    await session.execute(text(update), {"retraining": retraining_id})


async def get(session: AsyncSession, id: UUID) -> Alert | None:
    """The alert, where the caller may see it."""
    return await _one(session, "id = :id", {"id": id})


async def lock(session: AsyncSession, id: UUID) -> Alert | None:
    """The alert, held until the transaction ends."""
    return await _one(session, "id = :id FOR UPDATE", {"id": id})


async def acknowledge(session: AsyncSession, id: UUID, owner: str, comment: str | None, at: datetime) -> None:
    """Somebody takes care of an alert from now on."""
    update = """
        UPDATE alert SET state = 'acknowledged', owner = :owner, comment = :comment, acknowledged_at = :at
        WHERE id = :id
    """
    await session.execute(text(update), {"id": id, "owner": owner, "comment": comment, "at": at})


async def case(session: AsyncSession, alert: Alert) -> Case:
    """What routes and silences look at of an alert."""
    select = "SELECT use_case FROM endpoint WHERE endpoint = :subject"
    use_case = (await session.execute(text(select), {"subject": alert.subject})).scalar()
    return Case(alert.unit, alert.subject, alert.kind, alert.severity, use_case)


async def page(
    session: AsyncSession,
    *,
    states: Sequence[str],
    subject: str | None,
    limit: int,
    before: tuple[datetime, UUID] | None,
) -> list[Alert]:
    """Newest first; without states, of any."""
    select = f"""
        SELECT {_COLUMNS} FROM alert
        WHERE (cardinality(CAST(:states AS text[])) = 0 OR state = ANY(CAST(:states AS text[])))
          AND (CAST(:subject AS text) IS NULL OR subject = :subject)
          AND (CAST(:at AS timestamptz) IS NULL OR (last_at, id) < (:at, CAST(:id AS uuid)))
        ORDER BY last_at DESC, id DESC LIMIT :limit
    """
    at, id = before or (None, None)
    found = await session.execute(
        text(select), {"states": list(states), "subject": subject, "at": at, "id": id, "limit": limit}
    )
    return [Alert(**r) for r in found.mappings()]


async def _one(session: AsyncSession, where: str, row: dict[str, Any]) -> Alert | None:
    found = (await session.execute(text(f"SELECT {_COLUMNS} FROM alert WHERE {where}"), row)).mappings().first()
    return Alert(**found) if found else None
