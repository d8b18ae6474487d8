"""SQL of where the detectors stand that an operator chose."""

from typing import Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from .endpoints import Endpoint

Of = Literal["columns", "labels"]


async def state(session: AsyncSession, found: Endpoint, of: Of) -> bytes | None:
    """Of the version that serves; None where they have just begun."""
    select = 'SELECT state FROM chosen_watch WHERE endpoint = :e AND "of" = :of AND version = :v'
    return await session.scalar(text(select), {"e": found.endpoint, "of": of, "v": found.version})


async def save(session: AsyncSession, found: Endpoint, of: Of, kept: bytes) -> None:
    """In place of the state of whatever version was watched before."""
    insert = """
        INSERT INTO chosen_watch (endpoint, "of", version, unit, state) VALUES (:e, :of, :v, :u, :s)
        ON CONFLICT (endpoint, "of") DO UPDATE SET version = excluded.version, unit = excluded.unit,
            state = excluded.state
    """
    values = {"e": found.endpoint, "of": of, "v": found.version, "u": found.unit, "s": kept}
    await session.execute(text(insert), values)


async def drop(session: AsyncSession, name: str) -> None:
    """They begin anew."""
    await session.execute(text("DELETE FROM chosen_watch WHERE endpoint = :e"), {"e": name})
