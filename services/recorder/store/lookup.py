"""Decisions found again."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.kit.errors import NotFound

from .files import INDEXED


@dataclass(frozen=True)
class DecisionRow:
    """A decision as the index has it."""

    inference_id: str
    unit: str
    endpoint: str
    use_case: str
    model: str
    version: int
    mode: str
    application: str
    entity: str | None
    rows: int
    received_at: datetime
    shadow_of: str | None
    """The decision that callers were told, where this one is a shadow's."""
    file: int


@dataclass(frozen=True)
class Wanted:
    """Which decisions a caller asks for."""

    use_case: str | None = None
    application: str | None = None
    entity: str | None = None
    endpoint: str | None = None
    start: datetime | None = None
    end: datetime | None = None


def _decision(row: Any) -> DecisionRow:
    return DecisionRow(**{name: getattr(row, name) for name in (*INDEXED, "file")})


async def decision(session: AsyncSession, inference_id: str) -> DecisionRow:
    """Raises NotFound."""
    select = "SELECT * FROM decision WHERE inference_id = :id"
    row = (await session.execute(text(select), {"id": inference_id})).first()
    if row is None:
        raise NotFound("there is no recorded decision with this id")
    return _decision(row)


async def decisions(
    session: AsyncSession, wanted: Wanted, before: tuple[datetime, str] | None, limit: int
) -> list[DecisionRow]:
    """Newest first; what shadows would have decided is none."""
    conditions = [f"{name} = :{name}" for name in ("use_case", "application", "entity", "endpoint")
                  if getattr(wanted, name) is not None]  # fmt: skip
    if wanted.start:
        conditions.append("received_at >= :start")
    if wanted.end:
        conditions.append("received_at < :end")
    values = {name: value for name, value in vars(wanted).items() if value is not None} | {"limit": limit}
    if before:
        conditions.append("(received_at, inference_id) < (:before_at, :before_id)")
        values |= {"before_at": before[0], "before_id": before[1]}
    where = " AND ".join(("shadow_of IS NULL", *conditions))
    select = f"SELECT * FROM decision WHERE {where} ORDER BY received_at DESC, inference_id DESC LIMIT :limit"
    return [_decision(row) for row in await session.execute(text(select), values)]
