"""Reports of outcomes that have not met their decisions: when each is looked up, and what becomes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ..domain.outcomes import Known, Report
from .patience import PATIENCE_S, in_time

WINDOW = 10_000
"""Of so many new reports, in the order in which they came, those are joined together whose rows lie together."""

_TOO_MANY = (
    f"so many reports met no decision that to tell whose takes longer than {PATIENCE_S} s: "
    "fairlead_recorder_outcomes_unmet counts them"
)

_NEW = """
    SELECT inference_id, "row" FROM outcome
    WHERE state = 'waiting' AND seek_at IS NULL ORDER BY reported_at LIMIT :window
"""

# Locked are only those that change, and nobody is waited for: who holds one changes it, or gives it back as it is.
_SEEK = text(f"""
    WITH asked AS MATERIALIZED (
        ({_NEW}) UNION ALL (
            SELECT inference_id, "row" FROM outcome
            WHERE state = 'waiting' AND seek_at IS NOT NULL AND seek_at <= now() ORDER BY seek_at LIMIT :again)
    ), looked AS MATERIALIZED (
        SELECT asked.*, EXISTS (SELECT FROM decision AS d WHERE d.inference_id = asked.inference_id) AS there
        FROM asked
    ), changing AS (
        SELECT o.inference_id, o."row", looked.there FROM outcome AS o JOIN looked USING (inference_id, "row")
        WHERE o.state = 'waiting' AND (NOT looked.there OR o.seek_at IS NOT NULL) FOR UPDATE OF o SKIP LOCKED
    ), changed AS (
        UPDATE outcome AS o SET sought = LEAST(o.sought + 1, 1000),
            seek_at = CASE WHEN NOT changing.there THEN now() + make_interval(
                secs => (CAST(:pauses AS double precision[]))[LEAST(o.sought + 1, CAST(:most AS integer))]) END
        FROM changing WHERE o.inference_id = changing.inference_id AND o."row" = changing."row" RETURNING 1
    )
    SELECT count(*) FROM changed
""")

_ASLEEP = "o.state = 'waiting' AND o.seek_at IS NOT NULL"

_WAKE = text(f"""
    WITH asleep AS (
        SELECT inference_id, "row" FROM outcome AS o
        WHERE {_ASLEEP} AND inference_id = ANY (CAST(:ids AS text[])) FOR UPDATE SKIP LOCKED
    ), woken AS (
        UPDATE outcome AS o SET seek_at = NULL FROM asleep
        WHERE o.inference_id = asleep.inference_id AND o."row" = asleep."row"
    )
    INSERT INTO missed SELECT DISTINCT inference_id FROM outcome AS o
    WHERE {_ASLEEP} AND inference_id = ANY (CAST(:ids AS text[]))
        AND NOT EXISTS (SELECT FROM asleep WHERE asleep.inference_id = o.inference_id AND asleep."row" = o."row")
    ON CONFLICT DO NOTHING
""")

# Who is still held stays in the list.
_WAKE_MISSED = text(f"""
    WITH told AS MATERIALIZED (
        SELECT inference_id FROM missed LIMIT :again FOR UPDATE SKIP LOCKED
    ), asleep AS (
        SELECT inference_id, "row" FROM outcome AS o JOIN told USING (inference_id)
        WHERE {_ASLEEP} FOR UPDATE OF o SKIP LOCKED
    ), woken AS (
        UPDATE outcome AS o SET seek_at = NULL FROM asleep
        WHERE o.inference_id = asleep.inference_id AND o."row" = asleep."row"
    )
    DELETE FROM missed USING told WHERE missed.inference_id = told.inference_id AND NOT EXISTS (
        SELECT FROM outcome AS o WHERE {_ASLEEP} AND o.inference_id = told.inference_id
            AND NOT EXISTS (SELECT FROM asleep WHERE asleep.inference_id = o.inference_id AND asleep."row" = o."row"))
""")


async def seek(session: AsyncSession, pauses: Sequence[timedelta], again: int = 2_000, window: int = WINDOW) -> int:
    """Look new reports up, and those whose pause is over; answers of how many that changed something.

    What has no decision is put off, each time by the next of the pauses.
    """
    await session.execute(_WAKE_MISSED, {"again": again})
    seconds = [pause.total_seconds() for pause in pauses]
    values = {"pauses": seconds, "most": len(seconds), "again": again, "window": window}
    return await session.scalar(_SEEK, values) or 0


async def wake(session: AsyncSession, ids: Sequence[str]) -> None:
    """Decisions are being written: reports that wait for them are looked up at once.

    One that somebody holds is noted, for the next round. A report that is written at the same moment is not seen here:
    it is found when its pause is over.
    """
    await session.execute(_WAKE, {"ids": list(ids)})


async def met(session: AsyncSession, limit: int, window: int = WINDOW) -> list[Known]:
    """Reports whose inference is recorded, among the first new ones; they are locked."""
    select = f"""
        SELECT o.inference_id, o."row", o.label, o.value, o.units, o.reported_by, o.partition, o."offset",
               o.reported_at, d.unit, d.endpoint, d.rows, s.file, d.shadow_of, own.file AS answered_file
        FROM ({_NEW}) AS new JOIN outcome AS o USING (inference_id, "row") JOIN decision AS d USING (inference_id)
            JOIN segment AS s ON s.id = d.segment
            LEFT JOIN decision AS told ON told.inference_id = d.shadow_of AND told.unit = d.unit
            LEFT JOIN segment AS own ON own.id = told.segment
        WHERE o.state = 'waiting' AND o.seek_at IS NULL
        ORDER BY s.file LIMIT :limit FOR UPDATE OF o SKIP LOCKED
    """
    return [
        Known(_said(r), r.unit, r.endpoint, r.rows, r.file, r.reported_at, r.shadow_of, r.answered_file)
        for r in await session.execute(text(select), {"limit": limit, "window": window})
    ]


async def expired(session: AsyncSession, patience: timedelta, limit: int = 1_000) -> list[Report]:
    """Reports that waited in vain for so long: they wait no more, and stay to be seen for as long again."""
    end = """
        UPDATE outcome SET state = 'expired', observed_at = now(), reason = :reason
        WHERE (inference_id, "row") IN (
            SELECT inference_id, "row" FROM outcome
            WHERE state = 'waiting' AND reported_at < now() - CAST(:patience AS interval)
            LIMIT :limit FOR UPDATE SKIP LOCKED)
        RETURNING *
    """
    reason = f"no decision with this id came within {patience.days} days"
    rows = await session.execute(text(end), {"patience": patience, "limit": limit, "reason": reason})
    return [_said(r) for r in rows]


async def forget_expired(session: AsyncSession, kept: timedelta, limit: int = 1_000) -> int:
    """Remove some that expired longer ago; answers how many."""
    delete = """
        DELETE FROM outcome WHERE (inference_id, "row") IN (
            SELECT inference_id, "row" FROM outcome
            WHERE state = 'expired' AND observed_at < now() - CAST(:kept AS interval)
            LIMIT :limit FOR UPDATE SKIP LOCKED)
        RETURNING 1
    """
    return len((await session.execute(text(delete), {"kept": kept, "limit": limit})).all())


@dataclass(frozen=True)
class Unmet:
    """What somebody reported of decisions that are not recorded."""

    state: str
    """`waiting` or `expired`."""
    reported_by: str
    units: list[str] | None
    """In which business units that somebody is at home; None: as the service itself."""
    reports: int
    oldest: datetime
    newest: datetime
    examples: list[str]
    """Ids of a few, the least first."""


async def unmet(session: AsyncSession, limit: int, *, by_now: timedelta = timedelta(minutes=1)) -> list[Unmet]:
    """By reporter, the most reports first. What came within `by_now` is not there yet: decisions take seconds.

    Raises Invalid where it takes longer than a list may.
    """
    select = """
        SELECT state, reported_by, units, count(*) AS reports, min(reported_at) AS oldest, max(reported_at) AS newest,
               array_agg(inference_id ORDER BY inference_id) FILTER (WHERE another AND place <= 3) AS examples
        FROM (
            SELECT state, reported_by, units, reported_at, inference_id, dense_rank() OVER ids AS place,
                   inference_id IS DISTINCT FROM lag(inference_id) OVER ids AS another
            FROM outcome
            WHERE (state = 'waiting' AND reported_at < now() - CAST(:by_now AS interval)) OR state = 'expired'
            WINDOW ids AS (PARTITION BY state, reported_by, units ORDER BY inference_id)
        ) AS unmet
        GROUP BY state, reported_by, units ORDER BY reports DESC, reported_by, state LIMIT :limit
    """
    async with in_time(session, _TOO_MANY):
        rows = await session.execute(text(select), {"limit": limit, "by_now": by_now})
        return [Unmet(**row) for row in rows.mappings()]


async def count_unmet(session: AsyncSession) -> dict[str, int]:
    """How many reports wait, and how many waited in vain."""
    select = """
        SELECT (SELECT count(*) FROM outcome WHERE state = 'waiting') AS waiting,
               (SELECT count(*) FROM outcome WHERE state = 'expired') AS expired
    """
    return dict((await session.execute(text(select))).mappings().one())


def _said(r: Any) -> Report:
    """From its row."""
    units = None if r.units is None else frozenset(r.units)
    return Report(r.inference_id, r.row, r.label, r.value, r.reported_by, units, r.partition, r.offset)
