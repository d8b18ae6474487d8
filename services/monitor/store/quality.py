"""SQL of where the watching of unusable values stands."""

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ..domain.quality import Quality
from .endpoints import Endpoint


async def watch(session: AsyncSession, name: str, version: int) -> Quality | None:
    """The state of watching a version; None where it has just begun."""
    select = "SELECT state FROM quality_watch WHERE endpoint = :e AND version = :v"
    row = (await session.execute(text(select), {"e": name, "v": version})).first()
    return Quality.from_json(row.state) if row else None


async def save(session: AsyncSession, found: Endpoint, state: Quality) -> None:
    """In place of the state of whatever version was watched before."""
    insert = """
        INSERT INTO quality_watch (endpoint, version, unit, told, state) VALUES (:e, :v, :u, :told, CAST(:s AS jsonb))
        ON CONFLICT (endpoint) DO UPDATE SET version = excluded.version, unit = excluded.unit, told = excluded.told,
            state = excluded.state
    """
    said = orjson.dumps(state.to_json()).decode()
    values = {"e": found.endpoint, "v": found.version, "u": found.unit, "told": bool(state.told.any()), "s": said}
    await session.execute(text(insert), values)


async def drop(session: AsyncSession, name: str) -> bool:
    """Watch anew from the next window on; answers whether something was told."""
    delete = "DELETE FROM quality_watch WHERE endpoint = :e RETURNING told"
    return bool(await session.scalar(text(delete), {"e": name}))
