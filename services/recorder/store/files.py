"""What lies on the disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ..domain.layout import Head


@dataclass(frozen=True)
class NewFile:
    """A file of one batch: its place and what is in it."""

    path: str
    endpoint: str
    unit: str
    partition: int
    first: int
    last: int
    rows: int
    heads: tuple[Head, ...]


_ADD_FILE = text("""
    INSERT INTO file (path, endpoint, unit, partition, first_offset, last_offset, rows, earliest, latest)
    VALUES (:path, :endpoint, :unit, :partition, :first, :last, :rows, :earliest, :latest) RETURNING id
""")
_ADD_DECISIONS = text("""
    INSERT INTO decision (inference_id, unit, endpoint, use_case, model, version, mode, application, entity, rows,
                          received_at, shadow_of, file)
    SELECT *, :file FROM unnest(
        CAST(:inference_id AS text[]), CAST(:unit AS text[]), CAST(:endpoint AS text[]), CAST(:use_case AS text[]),
        CAST(:model AS text[]), CAST(:version AS int[]), CAST(:mode AS text[]), CAST(:application AS text[]),
        CAST(:entity AS text[]), CAST(:rows AS int[]), CAST(:received_at AS timestamptz[]),
        CAST(:shadow_of AS text[]))
    ON CONFLICT (inference_id) DO NOTHING
""")
INDEXED = (
    "inference_id", "unit", "endpoint", "use_case", "model", "version", "mode", "application", "entity", "rows",
    "received_at", "shadow_of",
)  # fmt: skip


async def add_file(session: AsyncSession, new: NewFile) -> None:
    """A file's row and the index of its decisions."""
    times = [head.received_at for head in new.heads]
    values = {
        "path": new.path, "endpoint": new.endpoint, "unit": new.unit, "partition": new.partition, "first": new.first,
        "last": new.last, "rows": new.rows, "earliest": min(times), "latest": max(times),
    }  # fmt: skip
    file = await session.scalar(_ADD_FILE, values)
    columns = {name: [getattr(head, name) for head in new.heads] for name in INDEXED}
    await session.execute(_ADD_DECISIONS, columns | {"file": file})


async def already_there(session: AsyncSession, ids: Sequence[str]) -> set[str]:
    """Which of these inferences were recorded before."""
    select = "SELECT inference_id FROM decision WHERE inference_id = ANY (CAST(:ids AS text[]))"
    return set(await session.scalars(text(select), {"ids": list(ids)}))


async def unplaced(session: AsyncSession) -> list[tuple[int, str]]:
    """Files that committed and have not got their names yet."""
    rows = await session.execute(text("SELECT id, path FROM file WHERE NOT placed AND NOT removing ORDER BY id"))
    return [(row.id, row.path) for row in rows]


async def mark_placed(session: AsyncSession, ids: Sequence[int]) -> None:
    """These files have their names."""
    await session.execute(
        text("UPDATE file SET placed = true WHERE id = ANY (CAST(:ids AS bigint[]))"), {"ids": list(ids)}
    )


async def paths(session: AsyncSession, files: Sequence[int]) -> dict[int, str]:
    """Of some files, by their ids, below the folder of Parquet files; an id that is not known is left out."""
    select = "SELECT id, path FROM file WHERE id = ANY (CAST(:ids AS bigint[]))"
    return {row.id: row.path for row in await session.execute(text(select), {"ids": list(files)})}


@dataclass(frozen=True)
class Recorded:
    """A file of the books: where it lies, how many rows it has, and its place in their order."""

    path: str
    rows: int
    latest: datetime
    id: int


async def files_of(
    session: AsyncSession, endpoint: str, since: datetime | None, before: Recorded | None, limit: int
) -> list[Recorded]:
    """An endpoint's files that reach beyond `since`, newest first, those before `before`."""
    select = """
        SELECT path, rows, latest, id FROM file
        WHERE endpoint = :e AND NOT removing AND (CAST(:since AS timestamptz) IS NULL OR latest >= :since)
            AND (CAST(:latest AS timestamptz) IS NULL OR (latest, id) < (:latest, :id))
        ORDER BY latest DESC, id DESC LIMIT :limit
    """
    latest, id = (before.latest, before.id) if before else (None, 0)
    values = {"e": endpoint, "since": since, "latest": latest, "id": id, "limit": limit}
    return [Recorded(**row) for row in (await session.execute(text(select), values)).mappings()]


async def forget(session: AsyncSession, kept: timedelta, limit: int = 1_000) -> int:
    """Mark files that are too old as to be removed, and delete their decisions and outcomes; answers how many files."""
    # Without the cast PostgreSQL takes what is subtracted from a moment for a moment, and compares an interval.
    mark = """
        UPDATE file SET removing = true WHERE id IN (
            SELECT id FROM file WHERE latest < now() - CAST(:kept AS interval) AND NOT removing
            ORDER BY latest LIMIT :limit FOR UPDATE
        ) RETURNING id
    """
    gone = list(await session.scalars(text(mark), {"kept": kept, "limit": limit}))
    decisions = """
        WITH gone AS (DELETE FROM decision WHERE file = ANY (CAST(:ids AS bigint[])) RETURNING inference_id)
        DELETE FROM outcome USING gone WHERE outcome.inference_id = gone.inference_id
    """
    if gone:
        await session.execute(text(decisions), {"ids": gone})
    return len(gone)


async def removing(session: AsyncSession, limit: int = 1_000) -> list[tuple[int, str]]:
    """Files that are out of the books and perhaps still on the disk."""
    rows = await session.execute(text("SELECT id, path FROM file WHERE removing LIMIT :limit"), {"limit": limit})
    return [(row.id, row.path) for row in rows]


async def drop(session: AsyncSession, file: int) -> None:
    """A file that is to be removed is off the disk."""
    await session.execute(text("DELETE FROM file WHERE id = :id AND removing"), {"id": file})
