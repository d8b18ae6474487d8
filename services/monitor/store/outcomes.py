"""SQL of what followed from decisions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ..domain.outcomes.labelled import Labelled, Task
from ..domain.outcomes.tally import Groups, Tally, groups_from_json, groups_to_json, merge_groups, packed, unpacked

Place = tuple[str, int]
"""An inference's id and the number of a row of it."""


@dataclass(frozen=True)
class Span:
    """A window of one variant's decisions."""

    endpoint: str
    version: int
    variant: str
    unit: str = field(compare=False)
    start: datetime
    end: datetime


@dataclass(frozen=True)
class Remembered:
    """What was counted of a row, where, and when its outcome was observed."""

    span: Span
    observed_at: datetime
    row: Labelled
    shadow: bool = False
    """Whether this is what a shadow would have decided: nobody was answered so."""


@dataclass
class Counts:
    """What one partition knows of a window."""

    task: Task
    tally: Tally
    groups: Groups


SPAN = 'endpoint, version, variant, unit, start, "end"'
_REMEMBERED = text(f"""
    SELECT inference_id, row, observed_at, counted, shadow, {SPAN} FROM outcome
    JOIN unnest(CAST(:ids AS text[]), CAST(:rows AS int[])) AS asked(inference_id, row) USING (inference_id, row)
""")
_REMEMBER = text(f"""
    INSERT INTO outcome (inference_id, row, observed_at, counted, shadow, {SPAN})
    SELECT inference_id, row, observed_at, counted, shadow, {SPAN}
    FROM jsonb_to_recordset(CAST(:given AS jsonb)) AS given(
        inference_id text, row int, observed_at timestamptz, counted jsonb, shadow boolean, endpoint text, version int,
        variant text, unit text, start timestamptz, "end" timestamptz)
    ON CONFLICT (inference_id, row) DO UPDATE SET observed_at = excluded.observed_at, counted = excluded.counted,
        shadow = excluded.shadow,
        endpoint = excluded.endpoint, version = excluded.version, variant = excluded.variant, unit = excluded.unit,
        start = excluded.start, "end" = excluded."end"
""")
_COUNTS = text(f"""
    SELECT task, data, groups, {SPAN} FROM performance
    JOIN jsonb_to_recordset(CAST(:given AS jsonb)) AS asked(
        endpoint text, version int, variant text, start timestamptz, "end" timestamptz)
    USING (endpoint, version, variant, start, "end") WHERE partition = :partition
""")
_SAVE = text("""
    INSERT INTO performance (endpoint, version, variant, start, "end", partition, unit, task, data, groups)
    VALUES (:endpoint, :version, :variant, :start, :end, :partition, :unit, :task, :data, :groups)
    ON CONFLICT (endpoint, version, variant, start, "end", partition) DO UPDATE SET unit = excluded.unit,
        task = excluded.task, data = excluded.data, groups = excluded.groups
""")


def span_of(row: Any) -> Span:
    """Of a row that has the columns of `SPAN`."""
    return Span(row.endpoint, row.version, row.variant, row.unit, row.start, row.end)


def columns_of(span: Span) -> dict[str, Any]:
    """The values of the columns of `SPAN`."""
    return {
        "endpoint": span.endpoint, "version": span.version, "variant": span.variant, "unit": span.unit,
        "start": span.start, "end": span.end,
    }  # fmt: skip


async def remembered(session: AsyncSession, places: Sequence[Place]) -> dict[Place, Remembered]:
    """What was counted of these rows."""
    asked = {"ids": [id for id, _ in places], "rows": [row for _, row in places]}
    return {
        (r.inference_id, r.row): Remembered(span_of(r), r.observed_at, Labelled.from_json(r.counted), r.shadow)
        for r in await session.execute(_REMEMBERED, asked)
    }


async def remember(session: AsyncSession, rows: Mapping[Place, Remembered]) -> None:
    """In place of what was counted of them before."""
    given = [
        {
            "inference_id": id,
            "row": row,
            "observed_at": each.observed_at,
            "counted": each.row.to_json(),
            "shadow": each.shadow,
        }
        | columns_of(each.span)
        for (id, row), each in sorted(rows.items())
    ]
    await session.execute(_REMEMBER, {"given": orjson.dumps(given).decode()})


async def counts(session: AsyncSession, spans: Iterable[Span], partition: int) -> dict[Span, Counts]:
    """What a partition knows of some windows."""
    given = [columns_of(span) for span in spans]
    rows = await session.execute(_COUNTS, {"given": orjson.dumps(given).decode(), "partition": partition})
    return {span_of(row): _counts(row) for row in rows}


def _counts(row: Any) -> Counts:
    groups = groups_from_json(unpacked(row.groups)) if row.groups else {}
    return Counts(row.task, Tally.from_json(unpacked(row.data)), groups)


async def save(session: AsyncSession, found: Mapping[Span, Counts], partition: int) -> None:
    """In place of what the partition knew of these windows."""
    for span, each in found.items():
        groups = packed(groups_to_json(each.groups)) if each.groups else None
        values = {"partition": partition, "task": each.task, "data": packed(each.tally.to_json()), "groups": groups}
        await session.execute(_SAVE, columns_of(span) | values)


async def windows(session: AsyncSession, name: str, since: datetime, until: datetime) -> list[tuple[Span, Counts]]:
    """What all partitions know of the windows that begin in a span of time, but not by group, the newest first."""
    select = f"""
        SELECT task, data, NULL AS groups, {SPAN} FROM performance
        WHERE endpoint = :e AND start >= :since AND start < :until ORDER BY start DESC, "end", version DESC, variant
    """
    rows = await session.execute(text(select), {"e": name, "since": since, "until": until})
    return [(span_of(row), _counts(row)) for row in rows]


async def groups(
    session: AsyncSession, name: str, since: datetime, until: datetime, segment: str | None = None
) -> dict[tuple[int, str], Groups]:
    """By version and variant, over the windows that begin in a span of time: the groups of one segment or, without
    their scores, of all. Windows are read one after the other, since all of them may be much."""
    select = f"""
        SELECT groups, {SPAN} FROM performance
        WHERE endpoint = :e AND start >= :since AND start < :until AND groups IS NOT NULL
    """
    found: dict[tuple[int, str], Groups] = {}
    rows = await session.stream(text(select), {"e": name, "since": since, "until": until})
    async for row in rows:
        data = unpacked(row.groups)
        wanted = data if segment is None else {segment: data.get(segment, {})}
        known = found.setdefault((row.version, row.variant), {})
        merge_groups(known, groups_from_json(wanted, scores=segment is not None))
    return found


async def decided(session: AsyncSession, name: str, since: datetime, until: datetime, length_s: float) -> dict[
    tuple[int, float], int
]:  # fmt: skip
    """By version and start (seconds since the epoch) of windows of a length, how many rows closed windows hold."""
    select = """
        SELECT version, floor(extract(epoch FROM start) / :length) * :length AS start, sum(rows) AS rows
        FROM closed_window WHERE endpoint = :e AND start >= :since AND start < :until GROUP BY 1, 2
    """
    rows = await session.execute(text(select), {"e": name, "since": since, "until": until, "length": length_s})
    return {(row.version, float(row.start)): int(row.rows) for row in rows}


async def forget(session: AsyncSession, inference_ids: Sequence[str]) -> None:
    """Decisions were erased: what was counted stays counted, and nobody knows any more of whom."""
    delete = "DELETE FROM outcome WHERE inference_id = ANY (CAST(:ids AS text[]))"
    await session.execute(text(delete), {"ids": list(inference_ids)})


async def tidy(session: AsyncSession, kept: timedelta) -> None:
    """Forget old windows, and what was counted in them."""
    for table in ("performance", "outcome"):
        old = f"DELETE FROM {table} WHERE start < now() - CAST(:kept AS interval)"
        await session.execute(text(old), {"kept": kept})
