"""All SQL of explanations."""

from dataclasses import asdict
from uuid import UUID

import orjson
from pydantic import TypeAdapter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.kit.errors import NotFound

from .domain import Explanation

_EXPLANATION = TypeAdapter(Explanation)
_MOST = 100


async def add(session: AsyncSession, made: Explanation) -> None:
    """Keep one for good."""
    insert = """
        INSERT INTO explanation (id, unit, inference_id, asked_at, said)
        VALUES (:id, :unit, :inference_id, :asked_at, CAST(:said AS jsonb))
    """
    values = {"id": made.id, "unit": made.unit, "inference_id": made.inference_id, "asked_at": made.asked_at}
    await session.execute(text(insert), values | {"said": orjson.dumps(asdict(made)).decode()})


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
