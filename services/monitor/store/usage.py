"""SQL of what versions used of scorer hosts."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import UsageReported

from ..domain.service.costs import Used
from ..domain.service.spans import Span

Place = tuple[datetime, str, int, str]
"""Where a list goes on: `since`, model, version, replica of the last one."""

_SAVE = text("""
    INSERT INTO usage (endpoint, model, version, replica, since, until, unit, report)
    VALUES (:endpoint, :model, :version, :replica, :since, :until, :unit, CAST(:report AS jsonb))
    ON CONFLICT (endpoint, model, version, replica, since)
    DO UPDATE SET unit = excluded.unit, until = excluded.until, report = excluded.report
""")
_SUM = text("""
    SELECT model, version, count(*) AS reports, CAST(sum(inferences) AS bigint) AS inferences,
           CAST(sum(refused) AS bigint) AS refused,
           CASE WHEN bool_and(faults IS NOT NULL) THEN CAST(sum(faults) AS bigint) END AS faults,
           sum(model_cpu_s) AS model_cpu_s, sum(serving_cpu_s) AS serving_cpu_s,
           sum(memory_bytes * seconds) AS memory_byte_s, sum(seconds) AS seconds
    FROM (
        SELECT usage.model, usage.version, CAST(extract(epoch FROM until - since) AS double precision) AS seconds,
               said.*
        FROM usage CROSS JOIN jsonb_to_record(report) AS said(
            inferences bigint, refused bigint, faults bigint, model_cpu_s double precision,
            serving_cpu_s double precision, memory_bytes double precision)
        WHERE endpoint = :endpoint AND until > :start AND until <= :end
    ) AS told
    GROUP BY model, version
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
        "since": event.since, "until": event.until, "unit": unit, "report": event.to_json().decode(),
    }  # fmt: skip
    await session.execute(_SAVE, values)


async def reports(session: AsyncSession, name: str, before: Place | None, limit: int) -> Sequence[UsageReported]:
    """Newest first."""
    since, model, version, replica = before or (None, "", 0, "")
    values = {
        "endpoint": name, "since": since, "model": model, "version": version, "replica": replica, "limit": limit,
    }  # fmt: skip
    return [UsageReported.model_validate(row.report) for row in await session.execute(_LIST, values)]


async def used(session: AsyncSession, name: str, span: Span) -> dict[tuple[str, int], Used]:
    """By model and version, the sums of the reports whose periods end in a span."""
    rows = await session.execute(_SUM, {"endpoint": name, "start": span.start, "end": span.end})
    return {
        (row.model, row.version): Used(
            row.reports, row.inferences, row.refused, row.faults, row.model_cpu_s, row.serving_cpu_s,
            row.memory_byte_s, row.seconds,
        )
        for row in rows
    }  # fmt: skip


async def tidy(session: AsyncSession, kept: timedelta) -> None:
    """Forget old reports."""
    old = "DELETE FROM usage WHERE since < now() - CAST(:kept AS interval)"
    await session.execute(text(old), {"kept": kept})
