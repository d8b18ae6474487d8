"""All SQL of schedules."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.kit.errors import NotFound

from .domain import Due, Run, Schedule

_SCHEDULE = TypeAdapter(Schedule)
_RUN = TypeAdapter(Run)


async def add(session: AsyncSession, schedule: Schedule) -> None:
    values = asdict(schedule)
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    await session.execute(text(f"INSERT INTO batch_schedule ({names}) VALUES ({marks})"), values)


async def get(session: AsyncSession, id: UUID) -> Schedule:
    """A schedule that the caller's units may see. Raises NotFound."""
    row = (await session.execute(text("SELECT * FROM batch_schedule WHERE id = :id"), {"id": id})).mappings().first()
    if row is None:
        raise NotFound(f"there is no schedule {id}")
    return _SCHEDULE.validate_python(dict(row))


async def latest(session: AsyncSession, limit: int, before: UUID | None) -> list[Schedule]:
    """The newest first: ids are ordered by time."""
    select = """
        SELECT * FROM batch_schedule WHERE (CAST(:before AS uuid) IS NULL OR id < :before) ORDER BY id DESC LIMIT :limit
    """
    rows = await session.execute(text(select), {"before": before, "limit": limit})
    return [_SCHEDULE.validate_python(dict(row)) for row in rows.mappings()]


async def active(session: AsyncSession) -> list[Schedule]:
    rows = await session.execute(text("SELECT * FROM batch_schedule WHERE state = 'active' ORDER BY id"))
    return [_SCHEDULE.validate_python(dict(row)) for row in rows.mappings()]


async def change(session: AsyncSession, id: UUID, **values: Any) -> None:
    sets = ", ".join(f"{name} = :{name}" for name in values)
    await session.execute(text(f"UPDATE batch_schedule SET {sets} WHERE id = :id"), values | {"id": id})


async def delete(session: AsyncSession, id: UUID) -> None:
    await session.execute(text("DELETE FROM batch_schedule WHERE id = :id"), {"id": id})


async def claim(session: AsyncSession, due: Due, batch: UUID | None, reason: str | None, at: datetime) -> bool:
    """Whether a time or a file is ours: False where it was run before, or the schedule is gone."""
    insert = """
        INSERT INTO batch_run (schedule, key, unit, batch, reason, at)
        SELECT id, :key, unit, :batch, :reason, :at FROM batch_schedule WHERE id = :schedule
        ON CONFLICT DO NOTHING RETURNING 1
    """
    values = {"schedule": due.schedule.id, "key": due.key, "batch": batch, "reason": reason, "at": at}
    is_ours = (await session.execute(text(insert), values)).first() is not None
    if is_ours and due.next_at:
        await change(session, due.schedule.id, next_at=due.next_at, missed=due.schedule.missed + due.missed)
    return is_ours


async def unseen(session: AsyncSession, id: UUID, keys: Sequence[str]) -> list[str]:
    """Of keys those that were not run, in their order."""
    select = "SELECT key FROM batch_run WHERE schedule = :id AND key = ANY(CAST(:keys AS text[]))"
    seen = set((await session.execute(text(select), {"id": id, "keys": list(keys)})).scalars())
    return [key for key in keys if key not in seen]


async def runs(session: AsyncSession, id: UUID, limit: int) -> list[Run]:
    """The latest first."""
    select = "SELECT key, batch, reason, at FROM batch_run WHERE schedule = :id ORDER BY at DESC, key DESC LIMIT :limit"
    rows = await session.execute(text(select), {"id": id, "limit": limit})
    return [_RUN.validate_python(dict(row)) for row in rows.mappings()]
