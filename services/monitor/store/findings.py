"""Where each detector stands, and what was found."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import DriftDetected

from ..domain.watch import Watch
from .endpoints import Endpoint

Dimension = Literal["data", "performance"]
"""What an alarm is about: what the model sees, or how right it is."""


async def watch(session: AsyncSession, name: str, number: int) -> Watch | None:
    """The state of watching a version; None where it has just begun."""
    select = "SELECT state FROM watch WHERE endpoint = :e AND version = :v"
    row = (await session.execute(text(select), {"e": name, "v": number})).first()
    return Watch.from_bytes(row.state) if row else None


async def save_watch(session: AsyncSession, found: Endpoint, state: Watch) -> None:
    """In place of the state of whatever version was watched before."""
    insert = """
        INSERT INTO watch (endpoint, version, unit, state) VALUES (:e, :v, :u, :s)
        ON CONFLICT (endpoint) DO UPDATE SET version = excluded.version, unit = excluded.unit, state = excluded.state
    """
    values = {"e": found.endpoint, "v": found.version, "u": found.unit, "s": state.to_bytes()}
    await session.execute(text(insert), values)


async def drop_watch(session: AsyncSession, name: str) -> None:
    """What is watched next is watched anew."""
    for table in ("watch", "loss_watch"):
        await session.execute(text(f"DELETE FROM {table} WHERE endpoint = :e"), {"e": name})


@dataclass(frozen=True)
class FindingRow:
    """An alarm or a note as it was told."""

    id: UUID
    kind: str
    found_at: datetime
    event: DriftDetected
    closed_at: datetime | None
    closed_because: str | None


async def add_finding(
    session: AsyncSession, id: UUID, unit: str, kind: str, found_at: datetime, event: DriftDetected,
    dimension: Dimension = "data",
) -> None:  # fmt: skip
    """An alarm that is open until `close_alarms`, or a note."""
    insert = """
        INSERT INTO finding (id, endpoint, unit, kind, found_at, event, dimension)
        VALUES (:id, :endpoint, :unit, :kind, :found_at, CAST(:event AS jsonb), :dimension)
    """
    values = {"id": id, "endpoint": event.endpoint, "unit": unit, "kind": kind, "found_at": found_at,
              "event": event.to_json().decode(), "dimension": dimension}  # fmt: skip
    await session.execute(text(insert), values)


async def close_alarms(
    session: AsyncSession, name: str, reason: str, dimension: Dimension | None = None
) -> list[Dimension]:
    """Close the open alarms, of one dimension or of all; answers of what they were."""
    update = """
        UPDATE finding SET closed_at = now(), closed_because = :reason
        WHERE endpoint = :e AND kind = 'alarm' AND closed_at IS NULL AND dimension = coalesce(:d, dimension)
        RETURNING dimension
    """
    return list(await session.scalars(text(update), {"e": name, "reason": reason, "d": dimension}))


async def drifting(session: AsyncSession, name: str) -> frozenset[str]:
    """What the open alarm of the data names, columns and axes."""
    select = """
        SELECT feature ->> 'name' FROM finding, jsonb_array_elements(event -> 'features') AS feature
        WHERE endpoint = :e AND dimension = 'data' AND kind = 'alarm' AND closed_at IS NULL
    """
    return frozenset(await session.scalars(text(select), {"e": name}))


async def findings(session: AsyncSession, name: str, limit: int, dimension: Dimension = "data") -> list[FindingRow]:
    """Newest first."""
    select = "SELECT * FROM finding WHERE endpoint = :e AND dimension = :d ORDER BY found_at DESC LIMIT :limit"
    rows = await session.execute(text(select), {"e": name, "limit": limit, "d": dimension})
    return [
        FindingRow(r.id, r.kind, r.found_at, DriftDetected.model_validate(r.event), r.closed_at, r.closed_because)
        for r in rows
    ]
