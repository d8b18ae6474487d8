"""Counts by hour, which outlast those of windows, and the seasons that were learned from them."""

from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ..domain.windows import Part
from .endpoints import Endpoint


async def upto(session: AsyncSession, found: Endpoint) -> datetime | None:
    """The start of the newest window that is in the hours of the serving version."""
    select = "SELECT max(upto) FROM season_hour WHERE endpoint = :e AND version = :v"
    return await session.scalar(text(select), {"e": found.endpoint, "v": found.version})


async def ask(session: AsyncSession, found: Endpoint) -> datetime | None:
    """`upto`, once: None where the same hours were asked already, by whomever, or where there are none."""
    update = """
        UPDATE season_hour SET asked = true
        WHERE endpoint = :e AND version = :v AND NOT asked
            AND upto = (SELECT max(upto) FROM season_hour WHERE endpoint = :e AND version = :v)
        RETURNING upto
    """
    return await session.scalar(text(update), {"e": found.endpoint, "v": found.version})


async def hours(session: AsyncSession, found: Endpoint, since: datetime) -> list[tuple[datetime, Part]]:
    """Of the serving version those that begin at or after a moment, in order."""
    select = """
        SELECT start, data FROM season_hour WHERE endpoint = :e AND version = :v AND start >= :since ORDER BY start
    """
    rows = await session.execute(text(select), {"e": found.endpoint, "v": found.version, "since": since})
    return [(row.start, Part.from_bytes(row.data)) for row in rows]


async def save_hour(session: AsyncSession, found: Endpoint, start: datetime, upto: datetime, part: Part) -> None:
    """In place of what was known of it."""
    insert = """
        INSERT INTO season_hour (endpoint, version, unit, start, upto, data) VALUES (:e, :v, :u, :start, :upto, :data)
        ON CONFLICT (endpoint, version, start) DO UPDATE SET upto = excluded.upto, data = excluded.data,
            asked = false
    """
    values = {"e": found.endpoint, "v": found.version, "u": found.unit, "start": start, "upto": upto,
              "data": part.to_bytes()}  # fmt: skip
    await session.execute(text(insert), values)


async def forget_hours(session: AsyncSession, found: Endpoint, before: datetime) -> None:
    """Those that begin before a moment, and those of other versions."""
    delete = "DELETE FROM season_hour WHERE endpoint = :e AND (version <> :v OR start < :before)"
    await session.execute(text(delete), {"e": found.endpoint, "v": found.version, "before": before})


async def forget(session: AsyncSession, name: str) -> None:
    """All hours of an endpoint."""
    await session.execute(text("DELETE FROM season_hour WHERE endpoint = :e"), {"e": name})


async def learn(session: AsyncSession, name: str, season_s: float) -> None:
    """From now on it holds, unless one is set; what groups were compared with does no longer."""
    update = """
        UPDATE endpoint SET learned_season_s = :s, season_learned_at = now(), changed_at = now() WHERE endpoint = :e
    """
    await session.execute(text(update), {"e": name, "s": season_s})
    await session.execute(text("DELETE FROM group_watch WHERE endpoint = :e"), {"e": name})


async def tidy(session: AsyncSession, kept: timedelta) -> None:
    """Forget the hours of endpoints that are no longer asked."""
    old = "DELETE FROM season_hour WHERE start < now() - CAST(:kept AS interval)"
    await session.execute(text(old), {"kept": kept})
