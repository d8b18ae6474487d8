"""SQL of where the watching of business rules stands."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ..domain.rules import EXAMPLES, Evidence, Keeping, Key, Rules, Tally
from .endpoints import Endpoint


async def watches(session: AsyncSession, name: str) -> dict[str, Keeping]:
    """Of an endpoint, by rule."""
    rows = await session.execute(text("SELECT rule, state FROM rule_watch WHERE endpoint = :e"), {"e": name})
    return {row.rule: Keeping.from_json(row.state) for row in rows}


async def save(session: AsyncSession, found: Endpoint, rule: str, state: Keeping) -> None:
    """In place of what was known of the rule."""
    insert = """
        INSERT INTO rule_watch (endpoint, rule, unit, state) VALUES (:e, :r, :u, CAST(:s AS jsonb))
        ON CONFLICT (endpoint, rule) DO UPDATE SET unit = excluded.unit, state = excluded.state
    """
    said = orjson.dumps(state.to_json()).decode()
    values = {"e": found.endpoint, "r": rule, "u": found.unit, "s": said}
    await session.execute(text(insert), values)


async def drop(session: AsyncSession, name: str, rule: str) -> None:
    """What is watched next of it is watched anew."""
    await session.execute(text("DELETE FROM rule_watch WHERE endpoint = :e AND rule = :r"), {"e": name, "r": rule})


@dataclass(frozen=True)
class Span:
    """Windows, with how many rows, from the start of the oldest to the end of the newest."""

    windows: int
    rows: int
    start: datetime | None
    end: datetime | None


_NEWEST = """
    WITH newest AS (
        SELECT start, "end", CAST(report->'window'->>'rows' AS bigint) AS rows, report->'rules' AS rules
        FROM closed_window WHERE endpoint = :e ORDER BY start DESC, version DESC LIMIT :limit
    )
"""
_ASKED = """
    newest, jsonb_array_elements(rules) AS r,
    LATERAL (SELECT r->>'name' AS name, r->>'must' AS must) AS key
    JOIN unnest(CAST(:names AS text[]), CAST(:musts AS text[])) AS asked(name, must) USING (name, must)
"""
_SPAN = text(
    f'{_NEWEST} SELECT count(*) AS windows, coalesce(sum(rows), 0) AS rows, min(start), max("end") FROM newest'
)
_COUNTED = text(f"""
    {_NEWEST}
    SELECT name, must, sum(CAST(r->>'rows' AS bigint)), sum(CAST(r->>'broken' AS bigint)),
        sum(CAST(r->>'undecided' AS bigint))
    FROM {_ASKED} GROUP BY name, must
""")
_EXAMPLES = text(f"""
    {_NEWEST}
    SELECT name, must, at, id, line FROM (
        SELECT name, must, at, id, line,
            row_number() OVER (PARTITION BY name, must ORDER BY at, id COLLATE "C", line) AS place
        FROM {_ASKED}, jsonb_array_elements(r->'examples') AS example,
            LATERAL (
                SELECT CAST(example->>'received_at' AS timestamptz) AS at, example->>'inference_id' AS id,
                    CAST(example->>'row' AS int) AS line
            ) AS told
    ) AS numbered WHERE place <= :first
""")


async def kept(session: AsyncSession, name: str, limit: int, asked: Iterable[Key]) -> tuple[Span, Rules]:
    """The newest windows of an endpoint, of whichever version, and what was counted in them of rules."""
    keys = list(asked)
    values = {"e": name, "limit": limit}
    wanted = values | {"names": [key.name for key in keys], "musts": [key.must for key in keys]}
    windows, rows, start, end = (await session.execute(_SPAN, values)).one()
    first: dict[Key, list[Evidence]] = {}
    for rule, must, at, id, line in await session.execute(_EXAMPLES, wanted | {"first": EXAMPLES}):
        first.setdefault(Key(rule, must), []).append(Evidence(at.timestamp(), id, line))
    counted = {
        Key(rule, must): Tally.of(int(looked), int(broken), int(undecided), first.get(Key(rule, must), ()))
        for rule, must, looked, broken, undecided in await session.execute(_COUNTED, wanted)
    }
    return Span(windows, int(rows), start, end), Rules(counted)
