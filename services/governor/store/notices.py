"""The outbox of alerts: that one was raised or resolved, written in the transaction in which it was."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

What = Literal["raised", "resolved"]


@dataclass(frozen=True)
class Notice:
    """What became of an episode of an alert."""

    alert_id: UUID
    episode: int
    what: What
    number: int = 0
    """Its place in the queue, once it has one."""


async def add(session: AsyncSession, notice: Notice) -> None:
    """Leave it for whoever tells people."""
    insert = "INSERT INTO alert_notice (alert_id, episode, what) VALUES (:alert, :episode, :what)"
    row = {"alert": notice.alert_id, "episode": notice.episode, "what": notice.what}
    await session.execute(text(insert), row)


async def take(session: AsyncSession, aside: Sequence[str]) -> Notice | None:
    """The oldest that nobody holds, whose number is not among these: it is gone when the transaction commits."""
    delete = """
        DELETE FROM alert_notice WHERE number = (
            SELECT number FROM alert_notice WHERE CAST(number AS text) <> ALL (:aside)
            ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED
        ) RETURNING alert_id, episode, what, number
    """
    row = (await session.execute(text(delete), {"aside": aside})).mappings().first()
    return Notice(**row) if row else None


async def is_work(session: AsyncSession, at: datetime) -> bool:
    """Whether anything is to be decided, written or sent: one question a second while nothing is."""
    select = """
        SELECT EXISTS (SELECT FROM alert_notice)
            OR EXISTS (SELECT FROM alert_course WHERE due_at <= :at)
            OR EXISTS (SELECT FROM alert_message WHERE state IN ('gathering', 'waiting') AND send_at <= :at)
    """
    return bool((await session.execute(text(select), {"at": at})).scalar())
