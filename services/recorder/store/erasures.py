"""What somebody wants forgotten: how far it came, and what recognises it later."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.kit.errors import NotFound

from ..domain.erasures import Tombstone
from .rewriting import MEMBER, Member

_WHOSE = """
    entity = :entity AND received_at <= :until AND (CAST(:use_case AS text) IS NULL OR use_case = :use_case)
    AND (CAST(:unit AS text) = '*' OR decision.unit = :unit)
"""


@dataclass(frozen=True)
class Erasure:
    """One request; `entity` is None once it is done."""

    id: UUID
    unit: str
    use_case: str | None
    entity: str | None
    entity_hash: str
    reason: str
    requested_by: str
    requested_at: datetime
    state: str = "running"
    problem: str | None = None
    decisions: int = 0
    outcomes: int = 0
    files: int = 0
    snapshots: int = 0
    late: int = 0
    finished_at: datetime | None = None
    told: bool = True
    """Whether others heard which decisions it took; not of one that was begun before they could."""

    @property
    def whose(self) -> dict[str, Any]:
        """Which decisions it is about."""
        return {"entity": self.entity, "until": self.requested_at, "use_case": self.use_case, "unit": self.unit}


_NAMES = [field.name for field in fields(Erasure)]


def _erasure(row: Any) -> Erasure:
    return Erasure(**{name: getattr(row, name) for name in _NAMES})


async def add_erasure(session: AsyncSession, new: Erasure) -> None:
    """A new request."""
    names = ("id", "unit", "use_case", "entity", "entity_hash", "reason", "requested_by", "requested_at", "told")
    insert = f"INSERT INTO erasure ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)})"
    await session.execute(text(insert), {name: getattr(new, name) for name in names})


async def erasure(session: AsyncSession, id: UUID) -> Erasure:
    """Raises NotFound."""
    row = (await session.execute(text("SELECT * FROM erasure WHERE id = :id"), {"id": id})).first()
    if row is None:
        raise NotFound("there is no erasure with this id")
    return _erasure(row)


async def running(session: AsyncSession) -> list[Erasure]:
    """Those that are not done, in their order."""
    select = "SELECT * FROM erasure WHERE state = 'running' ORDER BY requested_at"
    return [_erasure(row) for row in await session.execute(text(select))]


async def left(session: AsyncSession, erasure: Erasure) -> int:
    """Decisions that are still to be erased, or of which a row of an outcome still lies in a file."""
    select = f"""
        SELECT (SELECT count(*) FROM decision WHERE {_WHOSE}) + (
            SELECT count(DISTINCT inference_id) FROM erased JOIN observation USING (inference_id) WHERE erasure = :id)
    """
    return await session.scalar(text(select), erasure.whose | {"id": erasure.id}) or 0 if erasure.entity else 0


async def next_file(session: AsyncSession, erasure: Erasure, without: Sequence[int]) -> Member | None:
    """A file in its place that holds decisions of the entity."""
    select = f"""
        SELECT {MEMBER} FROM decision JOIN segment ON segment.id = decision.segment JOIN file ON file.id = segment.file
        WHERE {_WHOSE} AND placed AND NOT removing AND file.id <> ALL (CAST(:without AS bigint[])) LIMIT 1
    """
    row = (await session.execute(text(select), erasure.whose | {"without": list(without)})).first()
    return Member.of(row) if row else None


async def ids_in(session: AsyncSession, erasure: Erasure, file: int) -> list[str]:
    """The entity's inferences in a file."""
    select = f"""
        SELECT inference_id FROM decision JOIN segment ON segment.id = decision.segment
        WHERE segment.file = :file AND {_WHOSE}
    """
    return list(await session.scalars(text(select), erasure.whose | {"file": file}))


async def all_in(session: AsyncSession, file: int) -> list[str]:
    """Everybody's inferences in a file."""
    select = """
        SELECT inference_id FROM decision JOIN segment ON segment.id = decision.segment WHERE segment.file = :file
    """
    return list(await session.scalars(text(select), {"file": file}))


async def erase(session: AsyncSession, erasure: Erasure, ids: Sequence[str]) -> None:
    """Take decisions out of the books, with what followed from them, and count it. The caller is alone with FILING."""
    delete = """
        WITH gone AS (
            DELETE FROM decision WHERE inference_id = ANY (CAST(:ids AS text[]))
            RETURNING inference_id, endpoint, unit
        ), kept AS (
            INSERT INTO erased (erasure, inference_id, endpoint, unit)
            SELECT :erasure, inference_id, endpoint, unit FROM gone ON CONFLICT DO NOTHING
        ), payloads AS (
            DELETE FROM payload WHERE inference_id = ANY (CAST(:ids AS text[])) RETURNING digest
        ), objects AS (
            INSERT INTO doomed SELECT DISTINCT digest FROM payloads ON CONFLICT DO NOTHING
        ), outcomes AS (
            DELETE FROM outcome WHERE inference_id = ANY (CAST(:ids AS text[])) RETURNING 1
        ), written AS (
            UPDATE observation SET due = now() WHERE inference_id = ANY (CAST(:ids AS text[]))
        )
        UPDATE erasure SET decisions = decisions + (SELECT count(*) FROM gone), files = files + 1,
            outcomes = outcomes + (SELECT count(*) FROM outcomes) WHERE id = :erasure
    """
    await session.execute(text(delete), {"erasure": erasure.id, "ids": list(ids)})


async def tell_problem(session: AsyncSession, id: UUID, problem: str | None) -> None:
    """What keeps it from being done, if anything does."""
    update = "UPDATE erasure SET problem = :problem WHERE id = :id AND problem IS DISTINCT FROM :problem"
    await session.execute(text(update), {"id": id, "problem": problem})


async def finish(session: AsyncSession, id: UUID, at: datetime) -> Erasure:
    """It is done: the entity's name goes too."""
    update = """
        UPDATE erasure SET state = 'done', entity = NULL, problem = NULL, finished_at = :at WHERE id = :id RETURNING *
    """
    done = (await session.execute(text(update), {"id": id, "at": at})).one()
    await session.execute(text("DELETE FROM erased WHERE erasure = :id"), {"id": id})
    return _erasure(done)


async def tombstones(session: AsyncSession, hashes: Sequence[str]) -> list[Tombstone]:
    """What was erased of some entities."""
    select = "SELECT * FROM erasure WHERE entity_hash = ANY (CAST(:hashes AS text[]))"
    rows = await session.execute(text(select), {"hashes": list(hashes)})
    return [Tombstone(r.id, r.entity_hash, r.unit, r.use_case, r.requested_at) for r in rows]


async def any_tombstone(session: AsyncSession) -> bool:
    """Whether anything was ever erased."""
    return bool(await session.scalar(text("SELECT EXISTS (SELECT FROM erasure)")))


async def count_late(session: AsyncSession, id: UUID, count: int) -> None:
    """Decisions of an erased entity came after it and were left out."""
    await session.execute(text("UPDATE erasure SET late = late + :n WHERE id = :id"), {"id": id, "n": count})
