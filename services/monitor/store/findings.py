"""Where each detector stands, and what was found."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import DriftDetected

from ..domain.watch import Watch
from .endpoints import Endpoint

Dimension = Literal["data", "performance", "attributions"]
"""What an alarm is about: what the model sees, how right it is, or what its decisions rest on."""


Table = Literal["watch", "group_watch", "attribution_watch"]
"""Of what is watched: columns as wholes, or within groups of segments; or what decisions rest on."""


_STATES = ("watch", "loss_watch", "group_watch", "season_hour", "chosen_watch", "attribution_watch", "influence")


async def watch(session: AsyncSession, name: str, number: int, table: Table = "watch") -> Watch | None:
    """The state of watching a version; None where it has just begun."""
    select = f"SELECT state FROM {table} WHERE endpoint = :e AND version = :v"
    row = (await session.execute(text(select), {"e": name, "v": number})).first()
    return await asyncio.to_thread(Watch.from_bytes, row.state) if row else None


async def is_grouped(session: AsyncSession, name: str, number: int) -> bool:
    """Whether groups of segments of a version are watched."""
    select = "SELECT EXISTS (SELECT 1 FROM group_watch WHERE endpoint = :e AND version = :v)"
    return bool(await session.scalar(text(select), {"e": name, "v": number}))


async def save_watch(session: AsyncSession, found: Endpoint, state: Watch, table: Table = "watch") -> None:
    """In place of the state of whatever version was watched before."""
    insert = f"""
        INSERT INTO {table} (endpoint, version, unit, state) VALUES (:e, :v, :u, :s)
        ON CONFLICT (endpoint) DO UPDATE SET version = excluded.version, unit = excluded.unit, state = excluded.state
    """
    packed = await asyncio.to_thread(state.to_bytes)  # of a weekly season megabytes
    values = {"e": found.endpoint, "v": found.version, "u": found.unit, "s": packed}
    await session.execute(text(insert), values)


async def drop_watch(session: AsyncSession, name: str) -> None:
    """What is watched next is watched anew."""
    for table in _STATES:
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

    @property
    def is_open(self) -> bool:
        """Whether it is an alarm that stands."""
        return self.kind == "alarm" and self.closed_at is None


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
    """Close the open alarms, or the one of a dimension; answers of what they were."""
    update = """
        UPDATE finding SET closed_at = now(), closed_because = :reason
        WHERE endpoint = :e AND kind = 'alarm' AND closed_at IS NULL
            AND (CAST(:d AS text) IS NULL OR dimension = :d) RETURNING dimension
    """
    return list(await session.scalars(text(update), {"e": name, "reason": reason, "d": dimension}))


async def open_alarm(session: AsyncSession, name: str, dimension: Dimension = "data") -> DriftDetected | None:
    """The open alarm of a dimension."""
    select = """
        SELECT event FROM finding
        WHERE endpoint = :e AND dimension = :d AND kind = 'alarm' AND closed_at IS NULL
    """
    row = (await session.execute(text(select), {"e": name, "d": dimension})).first()
    return DriftDetected.model_validate(row.event) if row else None


async def findings(session: AsyncSession, name: str, limit: int, dimension: Dimension = "data") -> list[FindingRow]:
    """Newest first."""
    select = "SELECT * FROM finding WHERE endpoint = :e AND dimension = :d ORDER BY found_at DESC LIMIT :limit"
    rows = await session.execute(text(select), {"e": name, "limit": limit, "d": dimension})
    return [
        FindingRow(r.id, r.kind, r.found_at, DriftDetected.model_validate(r.event), r.closed_at, r.closed_because)
        for r in rows
    ]
