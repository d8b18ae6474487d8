"""Snapshots: which there are, and which took another's place when somebody was erased."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.kit.errors import NotFound


@dataclass(frozen=True)
class Frozen:
    """A snapshot by its digest."""

    digest: str
    unit: str
    endpoint: str
    model: str
    rows: int
    labelled: int
    made_at: datetime
    replaced_by: str | None = None
    """Without the rows of who was erased; empty where no row was left."""
    removed_at: datetime | None = None


async def add_snapshot(session: AsyncSession, new: Frozen) -> None:
    """Before its object is put, so that no object is ever unknown."""
    insert = """
        INSERT INTO snapshot (digest, unit, endpoint, model, rows, labelled, made_at)
        VALUES (:digest, :unit, :endpoint, :model, :rows, :labelled, :made_at)
        ON CONFLICT (digest) DO UPDATE SET replaced_by = NULL, removed_at = NULL
    """
    names = ("digest", "unit", "endpoint", "model", "rows", "labelled", "made_at")
    await session.execute(text(insert), {name: getattr(new, name) for name in names})


async def frozen(session: AsyncSession, digest: str) -> Frozen:
    """Raises NotFound."""
    row = (await session.execute(text("SELECT * FROM snapshot WHERE digest = :d"), {"d": digest})).mappings().first()
    if row is None:
        raise NotFound("there is no snapshot with this digest")
    return Frozen(**row)


async def frozen_of(session: AsyncSession, erasure: UUID, after: str, limit: int = 100) -> list[Frozen]:
    """Snapshots that may hold rows of what an erasure took out, by their digests from `after` on."""
    select = """
        SELECT * FROM snapshot WHERE removed_at IS NULL AND digest > :after
            AND endpoint IN (SELECT endpoint FROM erased WHERE erasure = :erasure)
        ORDER BY digest LIMIT :limit
    """
    rows = await session.execute(text(select), {"erasure": erasure, "after": after, "limit": limit})
    return [Frozen(**row) for row in rows.mappings()]


async def erased_ids(session: AsyncSession, erasure: UUID, endpoint: str) -> Sequence[str]:
    """The inferences that an erasure took out of an endpoint's."""
    select = "SELECT inference_id FROM erased WHERE erasure = :erasure AND endpoint = :endpoint"
    return list(await session.scalars(text(select), {"erasure": erasure, "endpoint": endpoint}))


async def replace_snapshot(session: AsyncSession, erasure: UUID, old: str, new: str) -> None:
    """Another snapshot is in place of an old one, whose object is to go."""
    await session.execute(text("UPDATE snapshot SET replaced_by = :new WHERE digest = :old"), {"old": old, "new": new})
    await session.execute(text("UPDATE erasure SET snapshots = snapshots + 1 WHERE id = :id"), {"id": erasure})


async def remove_snapshot(session: AsyncSession, digest: str, at: datetime) -> None:
    """A replaced snapshot's object is gone."""
    await session.execute(text("UPDATE snapshot SET removed_at = :at WHERE digest = :d"), {"d": digest, "at": at})
