"""SQL of losses by slice."""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ..domain.outcomes.labelled import Task
from ..domain.outcomes.slices import Losses
from ..domain.outcomes.tally import packed, unpacked
from .outcomes import SPAN, Span, columns_of, span_of

_FIND = text(f"""
    SELECT task, data, {SPAN} FROM slices
    JOIN jsonb_to_recordset(CAST(:given AS jsonb)) AS asked(
        endpoint text, version int, variant text, start timestamptz, "end" timestamptz)
    USING (endpoint, version, variant, start, "end") WHERE partition = :partition
""")
_SAVE = text("""
    INSERT INTO slices (endpoint, version, variant, start, "end", partition, unit, task, data)
    VALUES (:endpoint, :version, :variant, :start, :end, :partition, :unit, :task, :data)
    ON CONFLICT (endpoint, version, variant, start, "end", partition) DO UPDATE SET unit = excluded.unit,
        task = excluded.task, data = excluded.data
""")


@dataclass
class Sliced:
    """What one partition knows of a day."""

    task: Task
    losses: Losses = field(default_factory=Losses)


def day_of(span: Span) -> Span:
    """The day (UTC) in which a window begins."""
    start = midnight(span.start)
    return replace(span, start=start, end=start + timedelta(days=1))


def midnight(at: datetime) -> datetime:
    """Of the day (UTC) of a moment."""
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


async def known(session: AsyncSession, days: Iterable[Span], partition: int) -> dict[Span, Sliced]:
    """What a partition knows of some days."""
    given = orjson.dumps([columns_of(day) for day in days]).decode()
    rows = await session.execute(_FIND, {"given": given, "partition": partition})
    return {span_of(row): Sliced(row.task, Losses.from_json(unpacked(row.data))) for row in rows}


async def save(session: AsyncSession, found: Mapping[Span, Sliced], partition: int) -> None:
    """In place of what the partition knew of these days."""
    for day, each in found.items():
        values = {"partition": partition, "task": each.task, "data": packed(each.losses.to_json())}
        await session.execute(_SAVE, columns_of(day) | values)


async def days(
    session: AsyncSession, name: str, version: int | None, since: datetime, until: datetime
) -> AsyncIterator[tuple[Span, Sliced]]:
    """What all partitions know of the days that begin in a span of time, one after the other: all may be much."""
    select = f"""
        SELECT task, data, {SPAN} FROM slices
        WHERE endpoint = :e AND (CAST(:v AS int) IS NULL OR version = :v) AND start >= :since AND start < :until
    """
    rows = await session.stream(text(select), {"e": name, "v": version, "since": since, "until": until})
    async for row in rows:
        yield span_of(row), Sliced(row.task, Losses.from_json(unpacked(row.data)))


async def tidy(session: AsyncSession, kept: timedelta) -> None:
    """Forget old days."""
    await session.execute(text("DELETE FROM slices WHERE start < now() - CAST(:kept AS interval)"), {"kept": kept})
