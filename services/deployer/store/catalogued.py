"""Use cases and versions, as the catalog says them."""

from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import ModelRegistered, UseCaseRegistered
from services.kit.errors import NotFound


async def save_use_case(session: AsyncSession, event: UseCaseRegistered) -> None:
    """Keep what the catalog says; a use case never changes its unit."""
    insert = """
        INSERT INTO use_case (use_case, unit, protected) VALUES (:use_case, :unit, CAST(:protected AS jsonb))
        ON CONFLICT (use_case) DO UPDATE SET protected = excluded.protected
    """
    protected = TypeAdapter(tuple[str, ...]).dump_json(event.protected).decode()
    await session.execute(text(insert), {"use_case": event.use_case, "unit": event.unit, "protected": protected})


async def unit_of_use_case(session: AsyncSession, use_case: str) -> str:
    """Raises NotFound."""
    found = await session.execute(text("SELECT unit FROM use_case WHERE use_case = :name"), {"name": use_case})
    unit = found.scalar()
    if unit is None:
        raise NotFound(f"there is no use case {use_case}")
    return unit


async def save_version(session: AsyncSession, event: ModelRegistered) -> None:
    """Keep a version as it was registered, the first time that is heard."""
    insert = """
        INSERT INTO model_version (model, version, unit, retraining_id, registration)
        VALUES (:model, :version, :unit, :retraining_id, CAST(:registration AS jsonb)) ON CONFLICT DO NOTHING
    """
    values = {
        "model": event.model, "version": event.version, "unit": event.unit,
        "retraining_id": event.training.retraining_id, "registration": event.to_json().decode(),
    }  # fmt: skip
    await session.execute(text(insert), values)


async def version(session: AsyncSession, model: str, number: int) -> tuple[ModelRegistered, bool]:
    """A version as it was registered, and whether it is retired. Raises NotFound."""
    find = "SELECT registration, retired FROM model_version WHERE model = :model AND version = :version"
    row = (await session.execute(text(find), {"model": model, "version": number})).first()
    if row is None:
        raise NotFound(f"there is no model {model} version {number}")
    return ModelRegistered.model_validate(row.registration), row.retired


async def version_of_retraining(session: AsyncSession, retraining_id: UUID) -> ModelRegistered | None:
    """The candidate that a retraining registered, once it is known."""
    find = "SELECT registration FROM model_version WHERE retraining_id = :id"
    row = (await session.execute(text(find), {"id": str(retraining_id)})).first()
    return ModelRegistered.model_validate(row.registration) if row else None


async def retire(session: AsyncSession, model: str, number: int) -> bool:
    """A version must not serve any more; answers whether it is known."""
    update = "UPDATE model_version SET retired = true WHERE model = :model AND version = :version RETURNING 1"
    return (await session.execute(text(update), {"model": model, "version": number})).first() is not None
