"""All SQL of explanations."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from uuid import UUID

import orjson
from pydantic import TypeAdapter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.kit.errors import NotFound

from .domain import PATH, Explanation

_EXPLANATION = TypeAdapter(Explanation)
_MOST = 100


_ERASING = "scorer.erasing"
"""Shared by explanations that are being kept, exclusive for who must know that none is that knows of no erasure."""


async def add(session: AsyncSession, made: Explanation, decided_at: datetime) -> bool:
    """Keep one as long as its decision; answers whether it was kept: not where the decision was erased meanwhile."""
    await session.execute(text("SELECT pg_advisory_xact_lock_shared(hashtext(:what))"), {"what": _ERASING})
    insert = """
        INSERT INTO explanation (id, unit, inference_id, asked_at, decided_at, said)
        SELECT :id, :unit, CAST(:inference_id AS text), :asked_at, :decided_at, CAST(:said AS jsonb)
        WHERE NOT EXISTS (SELECT FROM erased_decision WHERE inference_id = :inference_id) RETURNING 1
    """
    values = {"id": made.id, "unit": made.unit, "inference_id": made.inference_id, "asked_at": made.asked_at}
    values |= {"decided_at": decided_at, "said": orjson.dumps(asdict(made)).decode()}
    return (await session.execute(text(insert), values)).first() is not None


async def erase(session: AsyncSession, inference_ids: Sequence[str]) -> int:
    """Remove the explanations of decisions with the answers that told them, and keep none of them from now on; answers
    how many they were."""
    await session.execute(text("SELECT pg_advisory_xact_lock(hashtext(:what))"), {"what": _ERASING})
    note = """
        INSERT INTO erased_decision (inference_id) SELECT unnest(CAST(:ids AS text[])) ON CONFLICT DO NOTHING
    """
    delete = """
        WITH gone AS (DELETE FROM explanation WHERE inference_id = ANY (CAST(:ids AS text[])) RETURNING id),
             answers AS (DELETE FROM idempotency WHERE headers ->> 'location' IN (SELECT :path || '/' || id FROM gone))
        SELECT count(*) FROM gone
    """
    await session.execute(text(note), {"ids": list(inference_ids)})
    return await session.scalar(text(delete), {"ids": list(inference_ids), "path": PATH}) or 0


async def forget(session: AsyncSession, kept: timedelta) -> None:
    """Explanations of decisions that are older than that, and erasures that nothing can come late to any more."""
    old = "DELETE FROM explanation WHERE decided_at < now() - CAST(:kept AS interval)"
    await session.execute(text(old), {"kept": kept})
    await session.execute(text("DELETE FROM erased_decision WHERE at < now() - interval '9 days'"))


async def get(session: AsyncSession, id: UUID) -> Explanation:
    """One of the caller's units. Raises NotFound."""
    found = (await session.execute(text("SELECT said FROM explanation WHERE id = :id"), {"id": id})).scalar()
    if found is None:
        raise NotFound(f"there is no explanation {id}")
    return _EXPLANATION.validate_python(found)


async def of_decision(session: AsyncSession, inference_id: str) -> list[Explanation]:
    """The newest first, at most 100."""
    select = "SELECT said FROM explanation WHERE inference_id = :id ORDER BY asked_at DESC LIMIT :most"
    rows = await session.execute(text(select), {"id": inference_id, "most": _MOST})
    return [_EXPLANATION.validate_python(said) for said in rows.scalars()]
