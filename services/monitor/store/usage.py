"""SQL of what versions used of scorer hosts."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import UsageReported

Place = tuple[datetime, str, int, str]
"""Where a list goes on: `since`, model, version, replica of the last one."""

_SAVE = text("""
    INSERT INTO usage (endpoint, model, version, replica, since, unit, report)
    VALUES (:endpoint, :model, :version, :replica, :since, :unit, CAST(:report AS jsonb))
    ON CONFLICT (endpoint, model, version, replica, since) DO UPDATE SET unit = excluded.unit, report = excluded.report
""")
_LIST = text("""
    SELECT report FROM usage WHERE endpoint = :endpoint
        AND (CAST(:since AS timestamptz) IS NULL
             OR (since, model, version, replica) < (CAST(:since AS timestamptz), :model, :version, :replica))
    ORDER BY since DESC, model DESC, version DESC, replica DESC LIMIT :limit
""")


async def save(session: AsyncSession, event: UsageReported, unit: str) -> None:
    """Keep a report; one of the same beginning is replaced."""
    values = {
        "endpoint": event.endpoint, "model": event.model, "version": event.version, "replica": event.replica,
        "since": event.since, "unit": unit, "report": event.to_json().decode(),
    }  # fmt: skip
    await session.execute(_SAVE, values)


async def reports(session: AsyncSession, name: str, before: Place | None, limit: int) -> Sequence[UsageReported]:
    """Newest first."""
    since, model, version, replica = before or (None, "", 0, "")
    values = {
        "endpoint": name, "since": since, "model": model, "version": version, "replica": replica, "limit": limit,
    }  # fmt: skip
    return [UsageReported.model_validate(row.report) for row in await session.execute(_LIST, values)]


async def tidy(session: AsyncSession, kept: timedelta) -> None:
    """Forget old reports."""
    old = "DELETE FROM usage WHERE since < now() - CAST(:kept AS interval)"
    await session.execute(text(old), {"kept": kept})
