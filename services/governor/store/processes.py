"""Processes with their state, and the mailbox of each."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.governor.domain.retraining import UnderWay

_COLUMNS = """
    id, unit, template, state, outcome, endpoint, use_case, model, version, deployment_id, retraining_id, requested_by,
    correlation_id, facts, workflow, awaits, due, started_at, ended_at
"""
_LISTED = _COLUMNS.replace("facts, workflow, ", "")


@dataclass
class Process:
    """One row: about what, at which state."""

    id: UUID
    unit: str
    template: str
    endpoint: str
    use_case: str
    model: str
    version: int
    requested_by: str
    correlation_id: str
    started_at: datetime
    deployment_id: UUID | None = None
    retraining_id: UUID | None = None
    state: str = "running"
    outcome: str | None = None
    awaits: Sequence[str] = ()
    due: datetime | None = None
    ended_at: datetime | None = None
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    workflow: dict[str, Any] = field(default_factory=dict[str, Any])


async def insert(session: AsyncSession, process: Process) -> None:
    """A new process."""
    statement = f"""
        INSERT INTO process ({_COLUMNS}) VALUES (
            :id, :unit, :template, :state, :outcome, :endpoint, :use_case, :model, :version, :deployment_id,
            :retraining_id, :requested_by, :correlation_id, CAST(:facts AS jsonb), CAST(:workflow AS jsonb),
            :awaits, :due, :started_at, :ended_at)
    """
    await session.execute(text(statement), _row(process))


async def save(session: AsyncSession, process: Process) -> None:
    """Where a process stands now; what it is about never changes."""
    update = """
        UPDATE process SET state = :state, outcome = :outcome, facts = CAST(:facts AS jsonb),
            workflow = CAST(:workflow AS jsonb), awaits = :awaits, due = :due, ended_at = :ended_at WHERE id = :id
    """
    row = _row(process)
    names = ("state", "outcome", "facts", "workflow", "awaits", "due", "ended_at", "id")
    await session.execute(text(update), {name: row[name] for name in names})


async def lock(session: AsyncSession, id: UUID) -> Process | None:
    """The process, held until the transaction ends."""
    return await _one(session, "id = :id FOR UPDATE", {"id": id})


async def get(session: AsyncSession, id: UUID) -> Process | None:
    """The process, where the caller may see it."""
    return await _one(session, "id = :id", {"id": id})


async def of_deployment(session: AsyncSession, deployment_id: UUID) -> Process | None:
    """The process of a request for a deployment."""
    return await _one(session, "deployment_id = :id", {"id": deployment_id})


async def of_retraining(session: AsyncSession, retraining_id: UUID) -> Process | None:
    """The process of a retraining."""
    return await _one(session, "retraining_id = :id AND template = 'retraining'", {"id": retraining_id})


async def about(session: AsyncSession, model: str, version: int) -> list[UUID]:
    """The running processes about a version."""
    select = "SELECT id FROM process WHERE model = :model AND version = :version AND state = 'running' ORDER BY id"
    return list((await session.scalars(text(select), {"model": model, "version": version})).all())


async def hold_endpoint(session: AsyncSession, endpoint: str) -> None:
    """Let nobody else decide about a retraining of this endpoint until the transaction ends."""
    await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 11))"), {"name": endpoint})


async def under_way(session: AsyncSession, endpoint: str) -> UnderWay | None:
    """A retraining of this endpoint, or the promotion of what one brought, that has not ended."""
    select = """
        SELECT id, template FROM process
        WHERE endpoint = :endpoint AND state = 'running' AND (template = 'retraining' OR retraining_id IS NOT NULL)
        ORDER BY started_at LIMIT 1
    """
    row = (await session.execute(text(select), {"endpoint": endpoint})).first()
    if row is None:
        return None
    return UnderWay(row.id, "a retraining" if row.template == "retraining" else "the promotion of a retrained version")


async def due(session: AsyncSession) -> list[UUID]:
    """The running processes whose time has come, at most 100, the longest overdue first."""
    select = "SELECT id FROM process WHERE state = 'running' AND due <= now() ORDER BY due LIMIT 100"
    return list((await session.scalars(text(select))).all())


async def due_now(session: AsyncSession, id: UUID) -> None:
    """The timers' job shall look at this process next."""
    await session.execute(text("UPDATE process SET due = now() WHERE id = :id AND state = 'running'"), {"id": id})


async def postpone(session: AsyncSession, id: UUID, until: datetime) -> Process | None:
    """Look at a process that could not be moved on later: what lies behind it must not wait for it."""
    update = "UPDATE process SET due = :until, stuck = true WHERE id = :id AND state = 'running'"
    await session.execute(text(update), {"id": id, "until": until})
    return await get(session, id)


async def freed(session: AsyncSession, id: UUID) -> bool:
    """A process was moved on; answers whether it was stuck before."""
    update = "UPDATE process SET stuck = false WHERE id = :id AND stuck RETURNING 1"
    return (await session.execute(text(update), {"id": id})).first() is not None


async def post(session: AsyncSession, process_id: UUID, message: str, payload: dict[str, Any]) -> None:
    """Put a message into a process's mailbox."""
    insert = "INSERT INTO mailbox (process_id, message, payload) VALUES (:process, :message, CAST(:payload AS jsonb))"
    row = {"process": process_id, "message": message, "payload": orjson.dumps(payload).decode()}
    await session.execute(text(insert), row)


async def take(session: AsyncSession, process_id: UUID, awaited: Collection[str]) -> tuple[str, dict[str, Any]] | None:
    """The oldest message that the process waits for, out of its mailbox; others stay until it does."""
    delete = """
        DELETE FROM mailbox WHERE number = (
            SELECT number FROM mailbox WHERE process_id = :process AND message = ANY (:awaited)
            ORDER BY number LIMIT 1
        ) RETURNING message, payload
    """
    row = (await session.execute(text(delete), {"process": process_id, "awaited": sorted(awaited)})).first()
    return (row.message, row.payload) if row else None


async def empty(session: AsyncSession, process_id: UUID) -> None:
    """Forget what an ended process will never wait for."""
    await session.execute(text("DELETE FROM mailbox WHERE process_id = :process"), {"process": process_id})


async def page(
    session: AsyncSession,
    *,
    model: str | None,
    use_case: str | None,
    endpoint: str | None,
    state: str | None,
    limit: int,
    before: tuple[datetime, UUID] | None,
) -> list[Process]:
    """Newest first, without their state."""
    select = f"""
        SELECT {_LISTED} FROM process
        WHERE (CAST(:model AS text) IS NULL OR model = :model)
          AND (CAST(:use_case AS text) IS NULL OR use_case = :use_case)
          AND (CAST(:endpoint AS text) IS NULL OR endpoint = :endpoint)
          AND (CAST(:state AS text) IS NULL OR state = :state)
          AND (CAST(:at AS timestamptz) IS NULL OR (started_at, id) < (:at, CAST(:id AS uuid)))
        ORDER BY started_at DESC, id DESC LIMIT :limit
    """
    at, id = before or (None, None)
    row = {"model": model, "use_case": use_case, "endpoint": endpoint, "state": state}
    found = await session.execute(text(select), row | {"at": at, "id": id, "limit": limit})
    return [Process(**r) for r in found.mappings()]


async def _one(session: AsyncSession, where: str, row: dict[str, Any]) -> Process | None:
    found = (await session.execute(text(f"SELECT {_COLUMNS} FROM process WHERE {where}"), row)).mappings().first()
    return Process(**found) if found else None


def _row(process: Process) -> dict[str, Any]:
    row = dict(vars(process))
    return row | {
        "facts": orjson.dumps(process.facts).decode(),
        "workflow": orjson.dumps(process.workflow).decode(),
        "awaits": list(process.awaits),
    }
