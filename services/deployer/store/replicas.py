"""What each replica last said of an endpoint."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import ReplicaReported

from ..domain import readable


async def save_report(session: AsyncSession, report: ReplicaReported, unit: str) -> None:
    """Keep what a replica last said; an older word never replaces a newer one."""
    upsert = """
        INSERT INTO replica (endpoint, replica, unit, revision, state, reason, reported_at)
        VALUES (:endpoint, :replica, :unit, :revision, :state, :reason, :at)
        ON CONFLICT (endpoint, replica) DO UPDATE SET
            revision = excluded.revision, state = excluded.state, reason = excluded.reason,
            reported_at = excluded.reported_at
        WHERE replica.reported_at <= excluded.reported_at
    """
    values = {
        "endpoint": report.endpoint, "replica": report.replica, "unit": unit, "revision": report.revision,
        "state": report.state, "reason": readable(report.reason) if report.reason else None, "at": report.reported_at,
    }  # fmt: skip
    await session.execute(text(upsert), values)


async def reports(session: AsyncSession, endpoint: str) -> list[ReplicaReported]:
    """What each replica last said, whatever revision it spoke of."""
    find = "SELECT * FROM replica WHERE endpoint = :endpoint ORDER BY replica"
    return [
        ReplicaReported(
            endpoint=row.endpoint, replica=row.replica, revision=row.revision, state=row.state, reason=row.reason,
            slots=0, reported_at=row.reported_at,
        )
        for row in await session.execute(text(find), {"endpoint": endpoint})
    ]  # fmt: skip
