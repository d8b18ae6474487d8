"""Closed windows as they are kept, for whoever looks at them again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ..domain.windows import Part


@dataclass(frozen=True)
class Recorded:
    """A closed window of one version with its counts."""

    start: datetime
    end: datetime
    part: Part


async def windows(
    session: AsyncSession, name: str, version: int, after: datetime | None, limit: int
) -> Sequence[Recorded]:
    """Those that still have their counts, by start, after the one that starts at `after`."""
    select = """
        SELECT start, "end", data FROM closed_window
        WHERE endpoint = :name AND version = :version AND data IS NOT NULL
            AND (CAST(:after AS timestamptz) IS NULL OR start > :after)
        ORDER BY start LIMIT :limit
    """
    rows = await session.execute(text(select), {"name": name, "version": version, "after": after, "limit": limit})
    return [Recorded(r.start, r.end, Part.from_bytes(r.data)) for r in rows]


async def newest(session: AsyncSession, name: str, version: int, limit: int) -> Sequence[Recorded]:
    """The newest of those that still have their counts."""
    select = """
        SELECT start, "end", data FROM closed_window
        WHERE endpoint = :name AND version = :version AND data IS NOT NULL ORDER BY start DESC LIMIT :limit
    """
    rows = await session.execute(text(select), {"name": name, "version": version, "limit": limit})
    return [Recorded(r.start, r.end, Part.from_bytes(r.data)) for r in rows]
