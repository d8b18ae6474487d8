"""Names of endpoints, and how far their topics are."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.kit.db import Database

from ..domain import Endpoint, Topics

_PATIENCE = timedelta(minutes=5)
"""Between two tries to close topics that Kafka refuses to close: a person must do something first."""


async def owner(session: AsyncSession, name: str) -> str | None:
    """The business unit whose name this is, whoever asks."""
    find = "SELECT unit FROM endpoint_name WHERE endpoint = :name"
    return (await session.execute(text(find), {"name": name})).scalar()


async def keep_name(session: AsyncSession, endpoint: Endpoint) -> None:
    """An endpoint is there under its name: the name is its unit's, and says how far its topics are."""
    upsert = """
        INSERT INTO endpoint_name (endpoint, unit, topics) VALUES (:endpoint, :unit, :topics)
        ON CONFLICT (endpoint) DO UPDATE SET topics = excluded.topics, forgotten = false
    """
    row = {"endpoint": endpoint.endpoint, "unit": endpoint.unit, "topics": endpoint.topics}
    await session.execute(text(upsert), row)


async def rolling_since(session: AsyncSession, before: datetime) -> list[str]:
    """Endpoints with a deployment that was never decided on and rolls out since that moment or longer."""
    find = """
        SELECT DISTINCT endpoint.endpoint FROM endpoint JOIN deployment USING (endpoint)
        WHERE deployment.state = 'rolling_out' AND settled_at IS NULL AND endpoint.changed_at <= :before
        ORDER BY endpoint.endpoint
    """
    return list((await session.execute(text(find), {"before": before})).scalars())


async def untidy(session: AsyncSession, removed_before: datetime, now: datetime) -> list[str]:
    """Endpoints whose topics must be made or closed, or whose removed state was in the topic before that moment."""
    find = """
        SELECT endpoint FROM endpoint JOIN endpoint_name USING (endpoint)
        WHERE (refused_at IS NULL OR refused_at <= :patience)
          AND topics <> CASE WHEN state = 'serving' AND streaming THEN 'open' ELSE 'closed' END
           OR state = 'removed' AND NOT forgotten AND changed_at <= :before
        ORDER BY endpoint
    """
    values = {"before": removed_before, "patience": now - _PATIENCE}
    return list((await session.execute(text(find), values)).scalars())


async def streaming(session: AsyncSession) -> list[str]:
    """The endpoints whose topics are open, as they should be."""
    find = """
        SELECT endpoint FROM endpoint JOIN endpoint_name USING (endpoint)
        WHERE state = 'serving' AND streaming AND topics = 'open' ORDER BY endpoint
    """
    return list((await session.execute(text(find))).scalars())


async def topics_are(session: AsyncSession, name: str, topics: Topics) -> bool:
    """Note how far an endpoint's topics are; answers whether Kafka had refused that before."""
    update = """
        UPDATE endpoint_name AS name SET topics = :topics, refused_at = NULL
        FROM (SELECT endpoint, refused_at FROM endpoint_name WHERE endpoint = :name) AS before
        WHERE name.endpoint = before.endpoint RETURNING before.refused_at IS NOT NULL
    """
    return bool((await session.execute(text(update), {"name": name, "topics": topics})).scalar())


async def topics_stay(session: AsyncSession, name: str, now: datetime) -> None:
    """Kafka refuses to close an endpoint's topics."""
    update = "UPDATE endpoint_name SET refused_at = :now WHERE endpoint = :name"
    await session.execute(text(update), {"name": name, "now": now})


@asynccontextmanager
async def alone(db: Database, name: str) -> AsyncIterator[bool]:
    """Whether this process may work on an endpoint's topics. No transaction is open meanwhile: Kafka may be slow."""
    key = {"name": f"topics {name}"}
    async with db.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        taken = await connection.execute(text("SELECT pg_try_advisory_lock(hashtextextended(:name, 12))"), key)
        mine = bool(taken.scalar())
        try:
            yield mine
        finally:
            if mine:
                await connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:name, 12))"), key)


async def forget(session: AsyncSession, name: str) -> bool:
    """The endpoint's state leaves the topic; answers whether it was there."""
    update = "UPDATE endpoint_name SET forgotten = true WHERE endpoint = :name AND NOT forgotten RETURNING 1"
    return (await session.execute(text(update), {"name": name})).first() is not None
