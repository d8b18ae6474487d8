"""Approvals, with their evidence and their grants."""

from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import Gate, Grant
from services.governor.domain.approval import Approval

_COLUMNS = """
    id, process_id, deployment_id, unit, endpoint, use_case, model, version, digest, requested_by, also_asked_by, gates,
    evidence_digest, policy_version, requested_at, state, decided_by, decided_at, reason, "grant"
"""


async def insert(session: AsyncSession, approval: Approval) -> None:
    """A new approval; each process has at most one."""
    statement = f"""
        INSERT INTO approval ({_COLUMNS}) VALUES (
            :id, :process_id, :deployment_id, :unit, :endpoint, :use_case, :model, :version, :digest, :requested_by,
            :also_asked_by, CAST(:gates AS jsonb), :evidence_digest, :policy_version, :requested_at, :state,
            :decided_by, :decided_at, :reason, CAST(:grant AS jsonb))
    """
    await session.execute(text(statement), _row(approval))


async def save(session: AsyncSession, approval: Approval) -> None:
    """What was decided; what was asked never changes."""
    update = """
        UPDATE approval SET state = :state, decided_by = :decided_by, decided_at = :decided_at, reason = :reason,
            "grant" = CAST(:grant AS jsonb) WHERE id = :id
    """
    row = _row(approval)
    names = ("state", "decided_by", "decided_at", "reason", "grant", "id")
    await session.execute(text(update), {name: row[name] for name in names})


async def get(session: AsyncSession, id: UUID) -> Approval | None:
    """The approval, where the caller may see it."""
    return await _one(session, "id = :id", {"id": id})


async def lock(session: AsyncSession, id: UUID) -> Approval | None:
    """The approval, held until the transaction ends: of fifty who decide at once one is first."""
    return await _one(session, "id = :id FOR UPDATE", {"id": id})


async def of_process(session: AsyncSession, process_id: UUID) -> Approval | None:
    """The approval that a process asked for, held until the transaction ends."""
    return await _one(session, "process_id = :id FOR UPDATE", {"id": process_id})


async def of_model(session: AsyncSession, model: str, after: tuple[datetime, UUID], limit: int) -> list[Approval]:
    """Approvals about a model, the oldest first, those after a moment and an id."""
    select = f"""
        SELECT {_COLUMNS} FROM approval WHERE model = :model AND (requested_at, id) > (:at, CAST(:id AS uuid))
        ORDER BY requested_at, id LIMIT :limit
    """
    at, id = after
    found = await session.execute(text(select), {"model": model, "at": at, "id": id, "limit": limit})
    return [_approval(r) for r in found.mappings()]


async def page(
    session: AsyncSession, *, state: str | None, limit: int, before: tuple[datetime, UUID] | None
) -> list[Approval]:
    """Newest first."""
    select = f"""
        SELECT {_COLUMNS} FROM approval
        WHERE (CAST(:state AS text) IS NULL OR state = :state)
          AND (CAST(:at AS timestamptz) IS NULL OR (requested_at, id) < (:at, CAST(:id AS uuid)))
        ORDER BY requested_at DESC, id DESC LIMIT :limit
    """
    at, id = before or (None, None)
    found = await session.execute(text(select), {"state": state, "at": at, "id": id, "limit": limit})
    return [_approval(r) for r in found.mappings()]


async def _one(session: AsyncSession, where: str, row: dict[str, Any]) -> Approval | None:
    found = (await session.execute(text(f"SELECT {_COLUMNS} FROM approval WHERE {where}"), row)).mappings().first()
    return _approval(found) if found else None


def _approval(row: Any) -> Approval:
    typed: dict[str, Any] = {
        "gates": tuple(Gate.model_validate(gate) for gate in row["gates"]),
        "grant": Grant.model_validate(row["grant"]) if row["grant"] else None,
        "also_asked_by": tuple(row["also_asked_by"]),
    }
    return Approval(**{**row, **typed})


def _row(approval: Approval) -> dict[str, Any]:
    return dict(vars(approval)) | {
        "gates": orjson.dumps([gate.model_dump(mode="json") for gate in approval.gates]).decode(),
        "grant": approval.grant.model_dump_json() if approval.grant else None,
        "also_asked_by": list(approval.also_asked_by),
    }
