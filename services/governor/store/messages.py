"""Messages about alerts: gathered, written down, claimed by who sends them, and how that ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.governor.domain.message import Told
from services.governor.domain.routing import Channel, channel_of

from .notices import What


@dataclass(frozen=True)
class Receiver:
    """A channel, and the unit for which its connection is used."""

    channel: Channel
    spoken_for: str
    group_s: float
    """How long to gather for it, by the route that leads to it."""
    key: str
    document: str
    """The channel as it is kept, in JSON: nothing of it is lost where this version cannot read it."""

    @classmethod
    def of(cls, channel: Channel, spoken_for: str, group_s: float) -> "Receiver":
        """One that a route names."""
        return cls(channel, spoken_for, group_s, channel.key(spoken_for), channel.model_dump_json())


@dataclass(frozen=True)
class Item:
    """What a receiver is told of an alert: that an episode began, or reached a step, or ended."""

    alert_id: UUID
    episode: int
    what: What
    unit: str
    subject: str
    step: int = 0
    severity: str = ""
    """Of what was raised: it is told again when it became worse."""


@dataclass(frozen=True)
class Outgoing:
    """A message on its way."""

    id: UUID
    unit: str
    subject: str
    to: Receiver
    body: bytes
    attempts: int
    """This one included."""
    beats: bool
    """It says what is open, again and again, and has no bytes of its own."""


@dataclass(frozen=True)
class Shown:
    """A message as a person sees it."""

    number: int
    id: UUID
    unit: str
    subject: str
    channel: Channel
    state: str
    title: str
    attempts: int
    reason: str | None
    gathered_at: datetime
    send_at: datetime
    ended_at: datetime | None
    alerts: tuple[UUID, ...]


async def gather(session: AsyncSession, to: Receiver, item: Item, id: UUID, now: datetime) -> None:
    """Put it into the message that is gathered for this receiver about this subject, or into a new one of this id.

    Nothing where the receiver is told of it already.
    """
    known = """
        SELECT 1 FROM alert_told
        WHERE alert_id = :alert AND episode = :episode AND channel_key = :key AND what = :what AND step = :step
          AND severity = :severity
    """
    open_ = """
        INSERT INTO alert_message AS known
            (id, unit, subject, channel_key, channel, spoken_for, group_s, state, send_at, gathered_at)
        VALUES (:id, :unit, :subject, :key, CAST(:channel AS jsonb), :spoken_for, :group_s, 'gathering', :send_at, :now)
        ON CONFLICT (channel_key, unit, subject) WHERE state = 'gathering' DO UPDATE SET channel = excluded.channel
        RETURNING id
    """
    row = _item(to.key, item) | {
        "id": id, "subject": item.subject, "channel": to.document, "spoken_for": to.spoken_for,
        "group_s": to.group_s, "send_at": now + timedelta(seconds=to.group_s), "now": now,
    }  # fmt: skip
    if (await session.execute(text(known), row)).first() is None:
        message = (await session.execute(text(open_), row)).scalar_one()
        await session.execute(_NOTE, _item(to.key, item) | {"message": message})


async def begin(session: AsyncSession, to: Receiver, id: UUID, unit: str, subject: str, now: datetime) -> None:
    """A message that nothing is gathered into, to be written down in the same transaction."""
    insert = """
        INSERT INTO alert_message
            (id, unit, subject, channel_key, channel, spoken_for, group_s, state, send_at, gathered_at)
        VALUES (:id, :unit, :subject, :key, CAST(:channel AS jsonb), :spoken_for, :group_s, 'waiting', :now, :now)
    """
    row = {"id": id, "unit": unit, "subject": subject, "key": to.key, "spoken_for": to.spoken_for, "now": now}
    await session.execute(text(insert), row | {"channel": to.document, "group_s": to.group_s})


async def receivers(session: AsyncSession, alert_id: UUID, episode: int) -> list[Receiver]:
    """Who was told of this episode, or will be, and has to be told of its end.

    A message that is gathered yet will say how the alert stands then. All are held, so that none is written down
    meanwhile by somebody who has not seen the end.
    """
    select = """
        SELECT m.channel_key, m.channel, m.spoken_for, m.group_s, m.state FROM alert_message m
        WHERE m.id IN (
            SELECT message_id FROM alert_told WHERE alert_id = :alert AND episode = :episode AND what = 'raised'
        ) ORDER BY m.number FOR UPDATE
    """
    found = (await session.execute(text(select), {"alert": alert_id, "episode": episode})).all()
    told = {row.channel_key: row for row in found if row.state in ("waiting", "sent")}
    return [_receiver(row) for row in told.values()]


async def next_gathered(session: AsyncSession, at: datetime, aside: Sequence[str]) -> tuple[UUID, Receiver] | None:
    """A message that was gathered long enough and whose id is not among these, held until the transaction ends."""
    select = """
        SELECT id, channel_key, channel, spoken_for, group_s FROM alert_message
        WHERE state = 'gathering' AND send_at <= :at AND CAST(id AS text) <> ALL (:aside)
        ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED
    """
    row = (await session.execute(text(select), {"at": at, "aside": aside})).first()
    return (row.id, _receiver(row)) if row else None


async def contents(session: AsyncSession, id: UUID) -> list[Told]:
    """The alerts of a message as they stand now, with the last step of each; not those that were raised again since."""
    select = f"""
        SELECT DISTINCT ON (a.id) {_TOLD}
        FROM alert_told t JOIN alert a ON a.id = t.alert_id AND a.episode = t.episode
        LEFT JOIN endpoint e ON e.endpoint = a.subject
        WHERE t.message_id = :id ORDER BY a.id, t.step DESC
    """
    found = [Told(**row) for row in (await session.execute(text(select), {"id": id})).mappings()]
    return sorted(found, key=lambda told: told.raised_at)


_TOLD = """
    a.id AS alert_id, a.episode, a.unit, a.subject, a.kind, a.severity, a.title, a.detail, a.todo, a.times, a.raised_at,
    e.use_case, t.step, a.owner, a.resolved_at, a.resolution, a.since, a.how_much, a.segment, a.cost
"""


async def write_down(session: AsyncSession, id: UUID, to: Receiver, told: Sequence[Told], title: str, body: str,
                     now: datetime) -> None:  # fmt: skip
    """From now on it is sent, as it is. Who is told that something is over is not told that again."""
    update = """
        UPDATE alert_message
        SET state = 'waiting', title = :title, body = :body, send_at = :now, attempts = 0, ended_at = NULL
        WHERE id = :id
    """
    await session.execute(text(update), {"id": id, "title": title, "body": body, "now": now})
    for over in (each for each in told if each.status == "resolved" and each.episode):
        item = Item(over.alert_id, over.episode, "resolved", over.unit, over.subject)
        await session.execute(_NOTE, _item(to.key, item) | {"message": id})


async def hold(session: AsyncSession, id: UUID) -> tuple[Shown, Receiver] | None:
    """A message that the caller may see, held until the transaction ends."""
    select = (
        f"SELECT {_SHOWN}, m.channel_key, m.spoken_for, m.group_s FROM alert_message m "
        "WHERE m.id = :id AND NOT m.beats FOR UPDATE"
    )
    row = (await session.execute(text(select), {"id": id})).first()
    if row is None:
        return None
    said = dict(row._mapping)  # pyright: ignore[reportPrivateUsage]
    for name in ("channel_key", "spoken_for", "group_s"):
        del said[name]
    return _shown(said), _receiver(row)


async def drop(session: AsyncSession, id: UUID) -> None:
    """There is nothing left to say."""
    await session.execute(text("DELETE FROM alert_message WHERE id = :id"), {"id": id})


async def claim(session: AsyncSession, now: datetime, until: datetime, limit: int) -> list[Outgoing]:
    """Messages that are due, for this process alone until then: of each channel one, in order about each subject.

    Where there are more channels than that, those on which nothing fails come first, then the one that failed longest
    ago: receivers that are away cannot take every turn.
    """
    update = """
        UPDATE alert_message SET claimed_until = :until, attempts = attempts + 1
        WHERE id IN (
            SELECT ready.id FROM (
            SELECT DISTINCT ON (m.channel_key) m.id, m.channel_key, m.send_at, m.number FROM alert_message m
            WHERE m.state = 'waiting' AND m.send_at <= :now AND NOT EXISTS (
                SELECT FROM alert_message o WHERE o.channel_key = m.channel_key AND o.state = 'waiting' AND (
                    o.claimed_until >= :now
                    OR (o.number < m.number AND NOT o.beats AND o.subject = m.subject AND o.unit = m.unit))
            ) ORDER BY m.channel_key, m.send_at, m.number) ready
            ORDER BY (
                SELECT max(o.send_at) FROM alert_message o
                WHERE o.channel_key = ready.channel_key AND o.state = 'waiting' AND o.attempts > 0 AND NOT o.beats
            ) NULLS FIRST, ready.send_at, ready.number LIMIT :limit
        ) AND (claimed_until IS NULL OR claimed_until < :now)
        RETURNING id, unit, subject, channel_key, channel, spoken_for, group_s, body, attempts, beats
    """
    found = await session.execute(text(update), {"now": now, "until": until, "limit": limit})
    return [
        Outgoing(row.id, row.unit, row.subject, _receiver(row), row.body.encode(), row.attempts, row.beats)
        for row in found
    ]


async def beat(session: AsyncSession, to: Outgoing, id: UUID, now: datetime, at: datetime) -> None:
    """From then on this receiver is told again and again what is open about this subject; once is enough to ask for."""
    insert = """
        INSERT INTO alert_message
            (id, unit, subject, channel_key, channel, spoken_for, group_s, state, send_at, gathered_at, beats)
        VALUES (:id, :unit, :subject, :key, CAST(:channel AS jsonb), :spoken_for, 0, 'waiting', :at, :now, true)
        ON CONFLICT (channel_key, unit, subject) WHERE beats DO NOTHING
    """
    row = {"id": id, "unit": to.unit, "subject": to.subject, "key": to.to.key, "now": now, "at": at}
    row |= {"channel": to.to.document, "spoken_for": to.to.spoken_for}
    await session.execute(text(insert), row)


async def still_open(session: AsyncSession, to: Outgoing) -> list[Told]:
    """The alerts about a subject that this receiver knows of, and that are not over."""
    select = f"""
        SELECT DISTINCT ON (a.id) {_TOLD}
        FROM alert_told t JOIN alert a ON a.id = t.alert_id AND a.episode = t.episode AND a.state <> 'resolved'
        JOIN alert_message m ON m.id = t.message_id AND m.state = 'sent'
        LEFT JOIN endpoint e ON e.endpoint = a.subject
        WHERE t.channel_key = :key AND t.what = 'raised' AND m.unit = :unit AND m.subject = :subject
        ORDER BY a.id, t.step DESC
    """
    row = {"key": to.to.key, "unit": to.unit, "subject": to.subject}
    return [Told(**found) for found in (await session.execute(text(select), row)).mappings()]


async def sent(session: AsyncSession, id: UUID, at: datetime, untaken: str) -> None:
    """The receiver has it; some of its recipients may not."""
    await _settle(session, id, state="sent", send_at=at, ended_at=at, reason=untaken or None)


async def failed(session: AsyncSession, id: UUID, at: datetime, reason: str) -> None:
    """It is not tried any more."""
    await _settle(session, id, state="failed", send_at=at, ended_at=at, reason=reason)


async def put_off(session: AsyncSession, id: UUID, until: datetime, reason: str) -> None:
    """It is tried again then."""
    await _settle(session, id, state="waiting", send_at=until, ended_at=None, reason=reason)


async def _settle(session: AsyncSession, id: UUID, **values: Any) -> None:
    update = """
        UPDATE alert_message
        SET state = :state, send_at = :send_at, ended_at = :ended_at, reason = :reason, claimed_until = NULL
        WHERE id = :id AND state = 'waiting'
    """
    await session.execute(text(update), {"id": id, **values})


async def forget(session: AsyncSession, before: datetime) -> None:
    """What ended before that and is about nothing that is still open, and courses that are long over."""
    messages = """
        DELETE FROM alert_message m WHERE m.ended_at < :before AND NOT EXISTS (
            SELECT FROM alert_told t JOIN alert a ON a.id = t.alert_id AND a.episode = t.episode
            WHERE t.message_id = m.id AND a.state <> 'resolved')
    """
    courses = """
        DELETE FROM alert_course c USING alert a
        WHERE a.id = c.alert_id AND c.due_at IS NULL AND a.last_at < :before
          AND (c.episode < a.episode OR a.state = 'resolved')
    """
    for statement in (messages, courses):
        await session.execute(text(statement), {"before": before})


_SHOWN = """
    m.number, m.id, m.unit, m.subject, m.channel, m.state, m.title, m.attempts, m.reason, m.gathered_at, m.send_at,
    m.ended_at, ARRAY (SELECT DISTINCT alert_id FROM alert_told t WHERE t.message_id = m.id) AS alerts
"""


async def page(
    session: AsyncSession, *, states: Sequence[str], alert: UUID | None, limit: int, before: int | None
) -> list[Shown]:
    """Newest first; without states, of any."""
    select = f"""
        SELECT {_SHOWN} FROM alert_message m
        WHERE NOT m.beats AND (cardinality(CAST(:states AS text[])) = 0 OR m.state = ANY (CAST(:states AS text[])))
          AND (CAST(:alert AS uuid) IS NULL
               OR EXISTS (SELECT FROM alert_told t WHERE t.message_id = m.id AND t.alert_id = :alert))
          AND (CAST(:before AS bigint) IS NULL OR m.number < :before)
        ORDER BY m.number DESC LIMIT :limit
    """
    row = {"states": list(states), "alert": alert, "before": before, "limit": limit}
    found = (await session.execute(text(select), row)).mappings()
    return [_shown(dict(r)) for r in found]


def _shown(row: dict[str, Any]) -> Shown:
    read: dict[str, Any] = {"channel": channel_of(row["channel"]), "alerts": tuple(row["alerts"])}
    return Shown(**row | read)


def _receiver(row: Any) -> Receiver:
    document = orjson.dumps(row.channel).decode()
    return Receiver(channel_of(row.channel), row.spoken_for, row.group_s, row.channel_key, document)


def _item(key: str, item: Item) -> dict[str, Any]:
    return {
        "alert": item.alert_id, "episode": item.episode, "key": key, "what": item.what, "step": item.step,
        "severity": item.severity, "unit": item.unit,
    }  # fmt: skip


_NOTE = text("""
    INSERT INTO alert_told (alert_id, episode, channel_key, what, step, severity, unit, message_id)
    VALUES (:alert, :episode, :key, :what, :step, :severity, :unit, :message) ON CONFLICT DO NOTHING
""")
