"""The schemas to read the log with, by endpoint and version."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import DeploymentChanged, ModelSchema
from services.kit.errors import NotFound


async def save_versions(session: AsyncSession, event: DeploymentChanged) -> None:
    """The schemas of every version that a deployment names, in place of what was known of them."""
    insert = """
        INSERT INTO version (endpoint, version, unit, model, model_schema)
        VALUES (:endpoint, :version, :unit, :model, CAST(:schema AS jsonb))
        ON CONFLICT (endpoint, version) DO UPDATE SET unit = excluded.unit, model = excluded.model,
            model_schema = excluded.model_schema
    """
    for variant in event.variants:
        row = {"endpoint": event.endpoint, "version": variant.version, "unit": event.unit, "model": variant.model}
        await session.execute(text(insert), row | {"schema": variant.model_schema.model_dump_json()})


async def schema(session: AsyncSession, endpoint: str, version: int) -> ModelSchema | None:
    """None for a version that no deployment has named yet."""
    select = "SELECT model_schema FROM version WHERE endpoint = :e AND version = :v"
    row = (await session.execute(text(select), {"e": endpoint, "v": version})).first()
    return ModelSchema.model_validate(row.model_schema) if row else None


async def newest_schema(session: AsyncSession, endpoint: str, model: str) -> tuple[ModelSchema, str]:
    """Of the newest version of a model behind an endpoint, with its unit. Raises NotFound."""
    select = """
        SELECT model_schema, unit FROM version WHERE endpoint = :e AND model = :m ORDER BY version DESC LIMIT 1
    """
    row = (await session.execute(text(select), {"e": endpoint, "m": model})).first()
    if row is None:
        raise NotFound(f"no version of the model {model} serves or served behind the endpoint {endpoint}")
    return ModelSchema.model_validate(row.model_schema), row.unit
