"""SQL of what is estimated without labels: what was decided in windows of outcomes, and what labels taught so far."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ..domain.outcomes.decided import Counts, Decided, added, counts_from_json, counts_to_json
from ..domain.outcomes.learned import Learned
from ..domain.outcomes.tally import packed, unpacked
from .outcomes import Span

WEEK_S = 604_800.0


@dataclass(frozen=True)
class Lesson:
    """Decisions of a week, whose labels are counted together."""

    endpoint: str
    version: int
    unit: str = field(compare=False)
    start: datetime


_KEY = 'endpoint = :endpoint AND version = :version AND variant = :variant AND start = :start AND "end" = :end'
_DECIDED = text(f"SELECT data FROM decided WHERE {_KEY}")
_SAVE_DECIDED = text("""
    INSERT INTO decided (endpoint, version, variant, unit, start, "end", data)
    VALUES (:endpoint, :version, :variant, :unit, :start, :end, :data)
    ON CONFLICT (endpoint, version, variant, start, "end") DO UPDATE SET unit = excluded.unit, data = excluded.data
""")
_LEARNED = text("""
    SELECT endpoint, version, unit, start, data FROM learned
    JOIN jsonb_to_recordset(CAST(:given AS jsonb)) AS asked(endpoint text, version int, start timestamptz)
    USING (endpoint, version, start) WHERE partition = :partition
""")
_SAVE_LEARNED = text("""
    INSERT INTO learned (endpoint, version, unit, start, partition, data)
    VALUES (:endpoint, :version, :unit, :start, :partition, :data)
    ON CONFLICT (endpoint, version, start, partition) DO UPDATE SET unit = excluded.unit, data = excluded.data
""")


async def add_decided(
    session: AsyncSession, endpoint: str, version: int, unit: str, start: datetime, end: datetime, decided: Decided
) -> None:  # fmt: skip
    """Count more in a window of outcomes. Only the endpoint's owner does."""
    for variant, counts in decided.variants.items():
        key = {"endpoint": endpoint, "version": version, "variant": variant, "start": start, "end": end}
        known = await session.scalar(_DECIDED, key)
        whole = added(counts_from_json(unpacked(known)), counts) if known is not None else counts
        await session.execute(_SAVE_DECIDED, key | {"unit": unit, "data": packed(counts_to_json(whole))})


async def decided(session: AsyncSession, name: str, since: datetime, until: datetime) -> dict[Span, Counts]:
    """What was decided in the windows that begin in a span of time."""
    select = """
        SELECT endpoint, version, variant, unit, start, "end", data FROM decided
        WHERE endpoint = :e AND start >= :since AND start < :until
    """
    rows = await session.execute(text(select), {"e": name, "since": since, "until": until})
    return {
        Span(r.endpoint, r.version, r.variant, r.unit, r.start, r.end): counts_from_json(unpacked(r.data))
        for r in rows
    }  # fmt: skip


async def lessons(session: AsyncSession, asked: Iterable[Lesson], partition: int) -> dict[Lesson, Learned]:
    """What a partition's labels of some weeks taught."""
    given = [{"endpoint": each.endpoint, "version": each.version, "start": each.start} for each in asked]
    rows = await session.execute(_LEARNED, {"given": orjson.dumps(given).decode(), "partition": partition})
    return {Lesson(r.endpoint, r.version, r.unit, r.start): _learned(r) for r in rows}


async def save_lessons(session: AsyncSession, found: Mapping[Lesson, Learned], partition: int) -> None:
    """In place of what the partition's labels had taught."""
    for lesson, learned in found.items():
        values = {
            "endpoint": lesson.endpoint, "version": lesson.version, "unit": lesson.unit, "start": lesson.start,
            "partition": partition, "data": packed(learned.to_json()),
        }  # fmt: skip
        await session.execute(_SAVE_LEARNED, values)


async def learned(session: AsyncSession, name: str) -> dict[int, Learned]:
    """By version, what all labels of an endpoint taught."""
    found: dict[int, Learned] = {}
    for row in await session.execute(text("SELECT version, data FROM learned WHERE endpoint = :e"), {"e": name}):
        found.setdefault(row.version, Learned()).merge(_learned(row))
    return found


def _learned(row: Any) -> Learned:
    return Learned.from_json(unpacked(row.data))


async def tidy(session: AsyncSession, kept: timedelta) -> None:
    """Forget old windows, and weeks that ended as long ago."""
    for table, more in (("decided", timedelta()), ("learned", timedelta(seconds=WEEK_S))):
        old = f"DELETE FROM {table} WHERE start < now() - CAST(:kept AS interval)"
        await session.execute(text(old), {"kept": kept + more})
