"""Silences: made, ended, and those that hold."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.governor.domain.silence import Silence

_STATE = """
    CASE WHEN CAST(:at AS timestamptz) >= ends_at OR ends_at <= starts_at THEN 'over'
         WHEN :at >= starts_at THEN 'active' ELSE 'coming' END
    = ANY (CAST(:states AS text[]))
"""
_COLUMNS = "id, unit, endpoint, kind, starts_at, ends_at, comment, author, made_at, ended_by"


async def add(session: AsyncSession, silence: Silence) -> None:
    """Keep a new one."""
    insert = f"""
        INSERT INTO alert_silence ({_COLUMNS}) VALUES
            (:id, :unit, :endpoint, :kind, :starts_at, :ends_at, :comment, :author, :made_at, :ended_by)
    """
    await session.execute(text(insert), asdict(silence))


async def get(session: AsyncSession, id: UUID, *, lock: bool = False) -> Silence | None:
    """One that the caller may see."""
    select = f"SELECT {_COLUMNS} FROM alert_silence WHERE id = :id{' FOR UPDATE' if lock else ''}"
    row = (await session.execute(text(select), {"id": id})).mappings().first()
    return Silence(**row) if row else None


async def end(session: AsyncSession, id: UUID, at: datetime, actor: str) -> None:
    """It ends then."""
    update = "UPDATE alert_silence SET ends_at = :at, ended_by = :actor WHERE id = :id"
    await session.execute(text(update), {"id": id, "at": at, "actor": actor})


async def forget(session: AsyncSession, before: datetime) -> None:
    """Those that ended before that."""
    await session.execute(text("DELETE FROM alert_silence WHERE ends_at < :before"), {"before": before})


async def active(session: AsyncSession, at: datetime) -> list[Silence]:
    """Those of all units that the caller sees, whose time it is."""
    select = f"SELECT {_COLUMNS} FROM alert_silence WHERE ends_at > :at AND starts_at <= :at"
    return [Silence(**row) for row in (await session.execute(text(select), {"at": at})).mappings()]


async def page(
    session: AsyncSession, *, states: Sequence[str], at: datetime, limit: int, before: tuple[datetime, UUID] | None
) -> list[Silence]:
    """The last made first; without states, in any."""
    select = f"""
        SELECT {_COLUMNS} FROM alert_silence
        WHERE (cardinality(CAST(:states AS text[])) = 0 OR {_STATE})
          AND (CAST(:made_at AS timestamptz) IS NULL OR (made_at, id) < (:made_at, CAST(:id AS uuid)))
        ORDER BY made_at DESC, id DESC LIMIT :limit
    """
    made_at, id = before or (None, None)
    row = {"states": list(states), "at": at, "made_at": made_at, "id": id, "limit": limit}
    return [Silence(**found) for found in (await session.execute(text(select), row)).mappings()]
