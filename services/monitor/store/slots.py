"""SQL of inferences by minute and hour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ..domain.latency import LatencyCounts
from ..domain.service.slots import MINUTE_S, Counts, Place
from ..domain.service.spans import HOUR_S, Span
from ..domain.windows import moment

_COLUMNS = "endpoint, unit, model, version, mode, start, length_s, partition, inferences, rows, latency"
# Merged in the statement: nobody reads what another is about to move.
_MERGED = """
    ON CONFLICT (endpoint, start, length_s, model, version, mode, partition) DO UPDATE SET
        unit = excluded.unit, inferences = known.inferences + excluded.inferences, rows = known.rows + excluded.rows,
        latency = (
            SELECT coalesce(jsonb_object_agg(bucket, counted), '{}') FROM (
                SELECT key AS bucket, sum(CAST(value AS bigint)) AS counted FROM (
                    SELECT key, value FROM jsonb_each_text(known.latency)
                    UNION ALL SELECT key, value FROM jsonb_each_text(excluded.latency)
                ) AS both_of_them GROUP BY key
            ) AS summed
        )
"""
_ADD = text(f"""
    INSERT INTO slot AS known ({_COLUMNS})
    VALUES (:endpoint, :unit, :model, :version, :mode, :start, :length_s, :partition, :inferences, :rows,
            CAST(:latency AS jsonb))
    {_MERGED}
""")
_ROLL_UP = text(f"""
    WITH old AS (
        SELECT ctid FROM slot WHERE length_s = :minute_s AND start < :before FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM slot WHERE ctid IN (SELECT ctid FROM old)
        RETURNING endpoint, unit, model, version, mode, date_trunc('hour', start, 'UTC') AS hour, inferences, rows,
                  latency
    ), summed AS (
        SELECT endpoint, max(unit) AS unit, model, version, mode, hour, sum(inferences) AS inferences,
               sum(rows) AS rows
        FROM gone GROUP BY endpoint, model, version, mode, hour
    ), buckets AS (
        SELECT endpoint, model, version, mode, hour, key, sum(CAST(value AS bigint)) AS counted
        FROM gone CROSS JOIN jsonb_each_text(latency) GROUP BY endpoint, model, version, mode, hour, key
    ), sketches AS (
        SELECT endpoint, model, version, mode, hour, jsonb_object_agg(key, counted) AS latency
        FROM buckets GROUP BY endpoint, model, version, mode, hour
    )
    INSERT INTO slot AS known ({_COLUMNS})
    SELECT endpoint, unit, model, version, mode, hour, :hour_s, 0, inferences, rows, coalesce(latency, '{{}}')
    FROM summed LEFT JOIN sketches USING (endpoint, model, version, mode, hour)
    {_MERGED}
""")
_READ = text("""
    SELECT unit, model, version, mode, start, inferences, rows, latency FROM slot
    WHERE endpoint = :endpoint AND start >= :start AND start < :end
""")


@dataclass(frozen=True)
class Slot:
    """What came to one place in a minute or an hour."""

    place: Place
    start: datetime
    counts: Counts


async def add(session: AsyncSession, partition: int, counted: Mapping[tuple[Place, float], Counts]) -> None:
    """Count more in a partition's minutes."""
    values = [
        {
            "endpoint": place.endpoint, "unit": place.unit, "model": place.model, "version": place.version,
            "mode": place.mode, "start": moment(start_s), "length_s": MINUTE_S, "partition": partition,
            "inferences": counts.inferences, "rows": counts.rows,
            "latency": orjson.dumps(counts.latency.buckets, option=orjson.OPT_NON_STR_KEYS).decode(),
        }
        for (place, start_s), counts in counted.items()
    ]  # fmt: skip
    if values:
        await session.execute(_ADD, values)


async def read(session: AsyncSession, endpoint: str, span: Span) -> Sequence[Slot]:
    """What begins in a span."""
    rows = await session.execute(_READ, {"endpoint": endpoint, "start": span.start, "end": span.end})
    return [
        Slot(Place(endpoint, row.unit, row.model, row.version, row.mode), row.start, _counts(row)) for row in rows
    ]  # fmt: skip


def _counts(row: Any) -> Counts:
    buckets = {int(bucket): count for bucket, count in row.latency.items()}
    return Counts(row.inferences, row.rows, LatencyCounts(buckets))


async def tidy(session: AsyncSession, before: datetime, kept: timedelta) -> None:
    """Minutes before a full hour become hours, by one worker at a time; what is older than is kept goes."""
    mine = "SELECT pg_try_advisory_xact_lock(hashtextextended('slots', 7))"
    if not await session.scalar(text(mine)):
        return
    await session.execute(_ROLL_UP, {"minute_s": MINUTE_S, "hour_s": HOUR_S, "before": before})
    old = "DELETE FROM slot WHERE start < now() - CAST(:kept AS interval)"
    await session.execute(text(old), {"kept": kept})
