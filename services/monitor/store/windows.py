"""Windows: their parts until they close, and what was found in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import MonitorReported

from ..domain.windows import Part


@dataclass(frozen=True)
class WindowKey:
    """One window of one version."""

    endpoint: str
    version: int
    unit: str
    start: datetime
    end: datetime


_ADD_PART = text("""
    INSERT INTO part (endpoint, version, unit, start, "end", partition, first_offset, data)
    VALUES (:endpoint, :version, :unit, :start, :end, :partition, :first, :data)
""")


async def add_part(session: AsyncSession, key: WindowKey, partition: int, first_offset: int, part: Part) -> None:
    """What a batch counted of a window; `first_offset` gives it its place among the parts."""
    values = {
        "endpoint": key.endpoint, "version": key.version, "unit": key.unit, "start": key.start, "end": key.end,
        "partition": partition, "first": first_offset, "data": part.to_bytes(),
    }  # fmt: skip
    await session.execute(_ADD_PART, values)


async def note_event_time(session: AsyncSession, partition: int, event_time: datetime) -> None:
    """How far event time has come in a partition. A clock that is ahead must not tell what is yet to come: rows that
    wait behind such a record would be late."""
    insert = """
        INSERT INTO progress AS known (partition, event_time) VALUES (:p, least(CAST(:at AS timestamptz), now()))
        ON CONFLICT (partition) DO UPDATE SET event_time = greatest(known.event_time, excluded.event_time)
    """
    await session.execute(text(insert), {"p": partition, "at": event_time})


async def note_read_to_end(
    session: AsyncSession, partitions: Sequence[int], behind: Sequence[int], at: datetime
) -> None:
    """Which partitions were read to their end at a moment, and which are behind."""
    insert = """
        INSERT INTO progress (partition, read_to_end_at, seen_at)
        SELECT p, CASE WHEN ahead THEN CAST(:at AS timestamptz) END, CAST(:at AS timestamptz)
        FROM unnest(CAST(:all AS int[]), CAST(:ahead AS bool[])) AS given(p, ahead)
        ON CONFLICT (partition) DO UPDATE SET read_to_end_at = excluded.read_to_end_at
    """
    every = [*partitions, *behind]
    ahead = [True] * len(partitions) + [False] * len(behind)
    await session.execute(text(insert), {"all": every, "ahead": ahead, "at": at})


async def watermark(session: AsyncSession, partitions: int, lateness: timedelta) -> datetime | None:
    """Up to where event time is complete; None while a partition was never looked at."""
    times = await reached(session)
    known = [at for at in times.values() if at]
    return min(known) - lateness if len(times) >= partitions and len(known) == len(times) else None


async def reached(session: AsyncSession) -> dict[int, datetime | None]:
    """Up to where each partition that was looked at is read; None: nothing of it was read yet."""
    select = """
        SELECT partition, greatest(read_to_end_at,
                                   CASE WHEN event_time IS NOT NULL THEN least(event_time, now()) END) AS at
        FROM progress
    """
    return {row.partition: row.at for row in await session.execute(text(select))}


async def seen(session: AsyncSession) -> dict[int, datetime]:
    """Since when each partition is known that was looked at."""
    rows = await session.execute(text("SELECT partition, seen_at FROM progress"))
    return {row.partition: row.seen_at for row in rows}


async def windows_to_close(session: AsyncSession, until: datetime, at_once: int = 100) -> list[WindowKey]:
    """Windows with parts that are not merged, in order, at most so many of each endpoint: none waits for another."""
    select = """
        SELECT endpoint, version, unit, start, "end" FROM (
            SELECT endpoint, version, unit, start, "end",
                   row_number() OVER (PARTITION BY endpoint ORDER BY start, "end", version) AS place
            FROM (SELECT DISTINCT endpoint, version, unit, start, "end" FROM part WHERE "end" <= :until) AS due
        ) AS placed WHERE place <= :at_once ORDER BY endpoint, start, "end", version
    """
    rows = await session.execute(text(select), {"until": until, "at_once": at_once})
    return [WindowKey(r.endpoint, r.version, r.unit, r.start, r.end) for r in rows]


async def anything_open(session: AsyncSession) -> bool:
    """Whether rows lie in windows that are not closed."""
    return bool(await session.scalar(text("SELECT EXISTS (SELECT 1 FROM part)")))


_KEY = 'endpoint = :endpoint AND version = :version AND start = :start AND "end" = :end'


def _key(key: WindowKey) -> dict[str, Any]:
    return {"endpoint": key.endpoint, "version": key.version, "start": key.start, "end": key.end}


async def take_parts(session: AsyncSession, key: WindowKey) -> list[Part]:
    """The parts of a window, by partition and offset; they are gone then."""
    take = f"""
        WITH taken AS (DELETE FROM part WHERE {_KEY} RETURNING partition, first_offset, data)
        SELECT data FROM taken ORDER BY partition, first_offset
    """
    return [Part.from_bytes(row.data) for row in await session.execute(text(take), _key(key))]


async def open_parts(session: AsyncSession, after: int, limit: int) -> dict[int, bytes]:
    """Parts of windows that are not closed, by their numbers, a page of them: those after `after`."""
    select = "SELECT id, data FROM part WHERE id > :after ORDER BY id LIMIT :limit"
    return {row.id: row.data for row in await session.execute(text(select), {"after": after, "limit": limit})}


async def lock_part(session: AsyncSession, number: int) -> Part | None:
    """For `replace_part`; None of a window that was closed meanwhile."""
    data = await session.scalar(text("SELECT data FROM part WHERE id = :id FOR UPDATE"), {"id": number})
    return Part.from_bytes(data) if data is not None else None


async def replace_part(session: AsyncSession, number: int, part: Part) -> None:
    """With what is left of it."""
    await session.execute(text("UPDATE part SET data = :data WHERE id = :id"), {"id": number, "data": part.to_bytes()})


async def closed(session: AsyncSession, key: WindowKey) -> tuple[int, Part | None, MonitorReported] | None:
    """Revision, counts (None where they are too old) and report of a window that was closed before."""
    select = f"SELECT revision, data, report FROM closed_window WHERE {_KEY}"
    row = (await session.execute(text(select), _key(key))).first()
    if row is None:
        return None
    part = Part.from_bytes(row.data) if row.data is not None else None
    return row.revision, part, MonitorReported.model_validate(row.report)


async def save_closed(session: AsyncSession, key: WindowKey, part: Part | None, report: MonitorReported) -> None:
    """A window's newest revision in place of the one before; without a part its counts are gone."""
    insert = """
        INSERT INTO closed_window (endpoint, version, start, "end", unit, revision, rows, data, report)
        VALUES (:endpoint, :version, :start, :end, :unit, :revision, :rows, :data, CAST(:report AS jsonb))
        ON CONFLICT (endpoint, version, start, "end") DO UPDATE SET revision = excluded.revision,
            rows = excluded.rows, data = excluded.data, report = excluded.report
    """
    values = _key(key) | {
        "unit": key.unit, "revision": report.revision, "rows": report.window.rows,
        "data": part.to_bytes() if part else None, "report": report.to_json().decode(),
    }  # fmt: skip
    await session.execute(text(insert), values)


@dataclass(frozen=True)
class Kept:
    """The counts of a closed window as they are stored: what `Part.from_bytes` reads, which takes its time."""

    start: datetime
    end: datetime
    data: bytes


async def parts_since(
    session: AsyncSession, key: WindowKey, since: datetime, after: Kept | None, limit: int
) -> list[Kept]:
    """Closed windows of the same version that begin at or after `since` and before this one, in order, a page of them:
    those after `after`."""
    select = """
        SELECT start, "end", data FROM closed_window
        WHERE endpoint = :endpoint AND version = :version AND start < :start AND data IS NOT NULL
            AND (start, "end") > (CAST(:since AS timestamptz), coalesce(CAST(:end AS timestamptz), '-infinity'))
        ORDER BY start, "end" LIMIT :limit
    """
    values = {"endpoint": key.endpoint, "version": key.version, "start": key.start, "limit": limit}
    place = {"since": after.start, "end": after.end} if after else {"since": since, "end": None}
    return [Kept(row.start, row.end, row.data) for row in await session.execute(text(select), values | place)]


async def reports(
    session: AsyncSession, name: str, before: tuple[datetime, int] | None, limit: int
) -> list[MonitorReported]:
    """Newest first."""
    select = """
        SELECT report FROM closed_window WHERE endpoint = :e
            AND (CAST(:start AS timestamptz) IS NULL OR (start, version) < (CAST(:start AS timestamptz), :version))
        ORDER BY start DESC, version DESC LIMIT :limit
    """
    start, number = before or (None, 0)
    rows = await session.execute(text(select), {"e": name, "start": start, "version": number, "limit": limit})
    return [MonitorReported.model_validate(row.report) for row in rows]


async def tidy(session: AsyncSession, kept_counts: int, kept: timedelta) -> None:
    """Forget the counts of old windows, and very old windows."""
    counts = """
        UPDATE closed_window AS w SET data = NULL FROM (
            SELECT endpoint, start FROM (
                SELECT endpoint, start, row_number() OVER (PARTITION BY endpoint ORDER BY start DESC) AS place
                FROM closed_window WHERE data IS NOT NULL
            ) AS numbered WHERE place = :kept
        ) AS edge WHERE w.endpoint = edge.endpoint AND w.start < edge.start AND w.data IS NOT NULL
    """
    await session.execute(text(counts), {"kept": kept_counts})
    # Without the cast PostgreSQL takes what is subtracted from a moment for a moment, and compares an interval.
    old = "DELETE FROM closed_window WHERE start < now() - CAST(:kept AS interval)"
    await session.execute(text(old), {"kept": kept})
