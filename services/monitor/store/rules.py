"""SQL of where the watching of business rules stands."""

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ..domain.rules import Keeping
from .endpoints import Endpoint


async def watches(session: AsyncSession, name: str) -> dict[str, Keeping]:
    """Of an endpoint, by rule."""
    rows = await session.execute(text("SELECT rule, state FROM rule_watch WHERE endpoint = :e"), {"e": name})
    return {row.rule: Keeping.from_json(row.state) for row in rows}


async def save(session: AsyncSession, found: Endpoint, rule: str, state: Keeping) -> None:
    """In place of what was known of the rule."""
    insert = """
        INSERT INTO rule_watch (endpoint, rule, unit, told, state) VALUES (:e, :r, :u, :told, CAST(:s AS jsonb))
        ON CONFLICT (endpoint, rule) DO UPDATE SET unit = excluded.unit, told = excluded.told, state = excluded.state
    """
    said = orjson.dumps(state.to_json()).decode()
    values = {"e": found.endpoint, "r": rule, "u": found.unit, "told": state.told, "s": said}
    await session.execute(text(insert), values)


async def drop(session: AsyncSession, name: str, rule: str) -> None:
    """What is watched next of it is watched anew."""
    await session.execute(text("DELETE FROM rule_watch WHERE endpoint = :e AND rule = :r"), {"e": name, "r": rule})
