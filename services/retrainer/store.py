"""All SQL of the retrainer."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import ModelRegistered
from services.kit.db import Database
from services.kit.errors import NotFound

from .domain import Job, Kind, State

_JOB = """
    SELECT id, kind, unit, model, version, endpoint, use_case, since, requested_by, state, reason, attempt, orphaned,
           correlation_id, traceparent, requested_at, started_at, ended_at, result, wish
    FROM job
"""
_TURN = 7_301_655_482


async def save_version(session: AsyncSession, event: ModelRegistered) -> None:
    """A version as the catalog told it."""
    insert = """
        INSERT INTO model_version (model, version, unit, registration)
        VALUES (:model, :version, :unit, CAST(:registration AS jsonb)) ON CONFLICT DO NOTHING
    """
    values = {"model": event.model, "version": event.version, "unit": event.unit}
    await session.execute(text(insert), values | {"registration": event.to_json().decode()})


async def version(session: AsyncSession, model: str, number: int) -> ModelRegistered:
    """A version as it was registered. Raises NotFound."""
    find = "SELECT registration FROM model_version WHERE model = :model AND version = :version"
    row = (await session.execute(text(find), {"model": model, "version": number})).first()
    if row is None:
        raise NotFound(f"there is no model {model} version {number}")
    return ModelRegistered.model_validate(row.registration)


async def add(session: AsyncSession, job: Job) -> None:
    """Queue a job; one that is there already stays as it is."""
    insert = """
        INSERT INTO job (id, kind, unit, model, version, endpoint, use_case, since, requested_by, state,
                         correlation_id, traceparent, requested_at, wish)
        VALUES (:id, :kind, :unit, :model, :version, :endpoint, :use_case, :since, :requested_by, :state,
                :correlation_id, :traceparent, :requested_at, CAST(:wish AS jsonb))
        ON CONFLICT (id) DO NOTHING
    """
    values = {name: getattr(job, name) for name in _WRITTEN}
    await session.execute(text(insert), values | {"wish": orjson.dumps(dict(job.wish)).decode()})


_WRITTEN = (
    "id", "kind", "unit", "model", "version", "endpoint", "use_case", "since", "requested_by", "state",
    "correlation_id", "traceparent", "requested_at",
)  # fmt: skip


async def is_work(session: AsyncSession) -> bool:
    """Whether a job waits, or was left by a process that died."""
    find = "SELECT EXISTS (SELECT 1 FROM job WHERE state IN ('requested', 'running'))"
    return bool((await session.execute(text(find))).scalar())


@asynccontextmanager
async def turn(db: Database) -> AsyncGenerator[bool]:
    """Whether it is this process's turn to work, until the block ends. The kernel of a dead process lets go at once."""
    async with db.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        taken = bool((await connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _TURN})).scalar())
        try:
            yield taken
        finally:
            # A pooled connection outlives this block, and the lock with it: close the connection for good.
            await connection.invalidate()


async def claim(session: AsyncSession, now: datetime) -> Job | None:
    """Start the job that waits longest since it was asked for or last tried: one that cannot go on holds up no other.

    One that is still running, while it is nobody's turn, was left by a process that died or failed: that is counted.
    """
    update = """
        UPDATE job SET
            orphaned = orphaned + CASE WHEN state = 'running' THEN 1 ELSE 0 END,
            state = 'running', attempt = attempt + 1, started_at = :now, reason = NULL
        WHERE id = (
            SELECT id FROM job WHERE state IN ('requested', 'running')
            ORDER BY coalesce(started_at, requested_at), id LIMIT 1 FOR UPDATE
        )
        RETURNING id
    """
    row = (await session.execute(text(update), {"now": now})).first()
    return await get(session, row.id) if row else None


async def put_back(session: AsyncSession, job: Job, reason: str) -> None:
    """A part that the job needs is away: it waits."""
    update = "UPDATE job SET state = 'requested', reason = :reason WHERE id = :id AND attempt = :attempt"
    await session.execute(text(update), {"id": job.id, "attempt": job.attempt, "reason": reason})


async def end(
    session: AsyncSession, job: Job, state: State, reason: str, result: Mapping[str, Any], now: datetime
) -> bool:
    """End a job, unless a later attempt holds it; answers whether this did."""
    update = """
        UPDATE job SET state = :state, reason = :reason, result = CAST(:result AS jsonb), ended_at = :now
        WHERE id = :id AND attempt = :attempt AND state = 'running' RETURNING 1
    """
    values = {"id": job.id, "attempt": job.attempt, "state": state, "reason": reason, "now": now}
    done = await session.execute(text(update), values | {"result": orjson.dumps(result).decode()})
    return done.first() is not None


async def get(session: AsyncSession, id: UUID, kind: Kind | None = None) -> Job:
    """Raises NotFound."""
    row = (await session.execute(text(f"{_JOB} WHERE id = :id"), {"id": id})).first()
    if row is None or (kind and row.kind != kind):
        raise NotFound(f"there is no {kind or 'job'} {id}")
    return Job(**row._mapping)  # pyright: ignore[reportPrivateUsage]


async def page(
    session: AsyncSession, kind: Kind, about: Mapping[str, str | None], before: tuple[datetime, UUID] | None, limit: int
) -> list[Job]:
    """Newest first; `about` may name a model and an endpoint, `before` is the place of the last one seen."""
    wanted = {name: about.get(name) for name in ("model", "endpoint") if about.get(name) is not None}
    where = ["kind = :kind", *(f"{name} = :{name}" for name in wanted)]
    values: dict[str, Any] = {"kind": kind, "limit": limit, **wanted}
    if before:
        where.append("(requested_at, id) < (:at, :id)")
        values |= {"at": before[0], "id": before[1]}
    find = f"{_JOB} WHERE {' AND '.join(where)} ORDER BY requested_at DESC, id DESC LIMIT :limit"
    return [Job(**row._mapping) for row in await session.execute(text(find), values)]  # pyright: ignore[reportPrivateUsage]
