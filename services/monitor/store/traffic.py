"""SQL of how rows came: how many of them, and how new they are."""

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from .windows import WindowKey


async def rows_before(
    session: AsyncSession, key: WindowKey, limit: int, period_s: float | None, from_s: float, length_s: float
) -> list[int]:  # fmt: skip
    """Rows of the latest closed windows of a version and a length that begin before one, the newest first; with a
    period those alone that begin in a part of it, from so many seconds on, so long."""
    select = """
        SELECT rows FROM closed_window
        WHERE endpoint = :endpoint AND version = :version AND start < :start AND "end" - start = :end - :start
    """
    if period_s:
        select += """
            AND mod(extract(epoch FROM start), CAST(:period AS numeric)) >= :from
            AND mod(extract(epoch FROM start), CAST(:period AS numeric)) < :from + :length
        """
    values = {
        "endpoint": key.endpoint, "version": key.version, "start": key.start, "end": key.end, "limit": limit,
    }  # fmt: skip
    if period_s:
        values |= {"period": period_s, "from": from_s, "length": length_s}
    return list(await session.scalars(text(select + " ORDER BY start DESC LIMIT :limit"), values))


async def newest(session: AsyncSession, name: str) -> datetime | None:
    """The minute, or the hour where that is long ago, that the newest row of an endpoint came in."""
    return await session.scalar(text("SELECT max(start) FROM slot WHERE endpoint = :e"), {"e": name})
