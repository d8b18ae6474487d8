"""All SQL of batch jobs."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.kit.db import Database
from services.kit.errors import NotFound

from .domain import Chunk, Job

_JOB = TypeAdapter(Job)
_CHUNK = TypeAdapter(Chunk)
_LOCKS = 0x62617463
"""The class of our advisory locks: one per job, held by the process that works on it and gone with it."""


async def add(session: AsyncSession, job: Job) -> None:
    """A new job, waiting in line."""
    values = asdict(job)
    names = ", ".join(values)
    await session.execute(text(f"INSERT INTO batch ({names}) VALUES ({_marks(values)})"), values)


async def get(session: AsyncSession, id: UUID) -> Job:
    """A job that the caller's units may see. Raises NotFound."""
    row = (await session.execute(text("SELECT * FROM batch WHERE id = :id"), {"id": id})).mappings().first()
    if row is None:
        raise NotFound(f"there is no batch {id}")
    return _JOB.validate_python(dict(row))


async def latest(session: AsyncSession, endpoint: str | None, limit: int, before: UUID | None) -> list[Job]:
    """Jobs, newest first: ids are ordered by time."""
    select = """
        SELECT * FROM batch WHERE (CAST(:endpoint AS text) IS NULL OR endpoint = :endpoint)
        AND (CAST(:before AS uuid) IS NULL OR id < :before) ORDER BY id DESC LIMIT :limit
    """
    rows = await session.execute(text(select), {"endpoint": endpoint, "before": before, "limit": limit})
    return [_JOB.validate_python(dict(row)) for row in rows.mappings()]


async def waiting(session: AsyncSession, host: str) -> list[UUID]:
    """Jobs that are not at their end and whose input a host can have, oldest first."""
    select = """
        SELECT id FROM batch WHERE state IN ('queued', 'running') AND (input_digest <> '' OR host = :host)
        ORDER BY created_at
    """
    return list((await session.execute(text(select), {"host": host})).scalars())


async def claim(session: AsyncSession, ids: Collection[UUID], host: str) -> None:
    """The only inputs of these jobs, where they are no objects, are on a host: it may have had another name."""
    update = """
        UPDATE batch SET host = :host
        WHERE id = ANY(:ids) AND input_digest = '' AND state IN ('queued', 'running') AND host IS DISTINCT FROM :host
    """
    await session.execute(text(update), {"ids": list(ids), "host": host})


async def going_on(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, bool]:
    """Of those jobs that there are, whether they are not at their end."""
    select = "SELECT id, state IN ('queued', 'running') FROM batch WHERE id = ANY(:ids)"
    rows = await session.execute(text(select), {"ids": list(ids)})
    return {row[0]: row[1] for row in rows}


@asynccontextmanager
async def held(db: Database, id: UUID) -> AsyncIterator[bool]:
    """Whether the job is ours for the block: False where another process has it."""
    about = {"class": _LOCKS, "key": int.from_bytes(id.bytes[-4:], signed=True)}
    async with db.engine.connect() as raw:
        connection = await raw.execution_options(isolation_level="AUTOCOMMIT")
        taken = await connection.execute(text("SELECT pg_try_advisory_lock(:class, :key)"), about)
        if not taken.scalar():
            yield False
            return
        try:
            yield True
        finally:
            await connection.execute(text("SELECT pg_advisory_unlock(:class, :key)"), about)


async def change(session: AsyncSession, id: UUID, **values: Any) -> bool:
    """Set members of a job that is not at its end; whether it was not."""
    sets = ", ".join(f"{name} = :{name}" for name in values)
    update = f"UPDATE batch SET {sets} WHERE id = :id AND state IN ('queued', 'running') RETURNING 1"
    return (await session.execute(text(update), values | {"id": id})).first() is not None


async def goes_on(session: AsyncSession, id: UUID) -> bool:
    """Whether a job is not at its end, nor comes there before this transaction is over."""
    select = "SELECT 1 FROM batch WHERE id = :id AND state IN ('queued', 'running') FOR SHARE"
    return (await session.execute(text(select), {"id": id})).first() is not None


async def chunks(session: AsyncSession, id: UUID) -> Sequence[Chunk]:
    """What was scored of a job so far, in order."""
    select = "SELECT * FROM batch_chunk WHERE batch = :id ORDER BY number"
    rows = (await session.execute(text(select), {"id": id})).mappings()
    return [_CHUNK.validate_python({name: row[name] for name in Chunk.__dataclass_fields__}) for row in rows]


async def add_chunk(session: AsyncSession, job: Job, chunk: Chunk) -> None:
    """Keep a scored chunk; its record is not said yet."""
    values = asdict(chunk) | {"batch": job.id, "unit": job.unit}
    names = ", ".join(values)
    await session.execute(text(f"INSERT INTO batch_chunk ({names}) VALUES ({_marks(values)})"), values)


async def mark_logged(session: AsyncSession, job: Job, chunk: Chunk) -> None:
    """The chunk is in the log: now it counts."""
    mark = "UPDATE batch_chunk SET logged = true WHERE batch = :id AND number = :number AND NOT logged RETURNING 1"
    if (await session.execute(text(mark), {"id": job.id, "number": chunk.number})).first():
        count = "UPDATE batch SET rows_done = rows_done + :rows, rows_failed = rows_failed + :failed WHERE id = :id"
        await session.execute(text(count), {"id": job.id, "rows": chunk.rows, "failed": chunk.failed})


def _marks(values: dict[str, Any]) -> str:
    return ", ".join(f":{name}" for name in values)
