"""SQL of what decisions rest on: the reference of a version, and what was counted of its windows."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ..domain.influence import Influence
from ..domain.windows import Block
from .endpoints import Endpoint

Array = NDArray[Any]


@dataclass(frozen=True)
class Known:
    """What is known of a version's attributions."""

    facts: Mapping[str, Any]
    """How they are made (`method`, `scale`, `output`), or why they cannot be (`cannot`, for which `explaining`)."""
    influence: Influence | None
    said_at: datetime

    @property
    def cannot(self) -> str | None:
        """Why nothing of the version can be explained."""
        return self.facts.get("cannot")


async def known(session: AsyncSession, name: str, version: int) -> Known | None:
    """None before anything was measured."""
    select = "SELECT facts, reference, said_at FROM influence WHERE endpoint = :e AND version = :v"
    row = (await session.execute(text(select), {"e": name, "v": version})).first()
    if row is None:
        return None
    return Known(row.facts, Influence.from_bytes(row.reference) if row.reference else None, row.said_at)


async def save(session: AsyncSession, found: Endpoint, facts: Mapping[str, Any], influence: Influence | None) -> None:
    """In place of what was known of whatever version."""
    insert = """
        INSERT INTO influence (endpoint, version, unit, facts, reference)
        VALUES (:e, :v, :u, CAST(:f AS jsonb), :r)
        ON CONFLICT (endpoint) DO UPDATE SET version = excluded.version, unit = excluded.unit, facts = excluded.facts,
            reference = excluded.reference, said_at = now()
    """
    values = {"e": found.endpoint, "v": found.version, "u": found.unit, "f": orjson.dumps(facts).decode()}
    await session.execute(text(insert), values | {"r": influence.to_bytes() if influence else None})


async def forget(session: AsyncSession, name: str) -> None:
    """The reference, where its detector stands and what was counted: they begin anew."""
    for table in ("influence", "attribution_watch", "attribution_window"):
        await session.execute(text(f"DELETE FROM {table} WHERE endpoint = :e"), {"e": name})


async def add(session: AsyncSession, found: Endpoint, start: datetime, end: datetime, block: Block) -> bool:
    """Keep what was counted of a window; answers whether it is the first time."""
    insert = """
        INSERT INTO attribution_window (endpoint, version, unit, start, "end", rows, data)
        VALUES (:e, :v, :u, :start, :end, :rows, :data) ON CONFLICT DO NOTHING RETURNING 1
    """
    values = {
        "e": found.endpoint, "v": found.version, "u": found.unit, "start": start, "end": end, "rows": block.rows,
        "data": block.counts.astype("<u2").tobytes(),
    }  # fmt: skip
    return (await session.execute(text(insert), values)).first() is not None


async def counts(
    session: AsyncSession, name: str, version: int, windows: int, shape: tuple[int, ...]
) -> tuple[Array, int]:
    """Of the newest windows, counts [columns, width] of all their rows, and how many windows they are."""
    select = """
        SELECT data FROM attribution_window WHERE endpoint = :e AND version = :v ORDER BY start DESC LIMIT :n
    """
    rows = await session.scalars(text(select), {"e": name, "v": version, "n": windows})
    found = [each for data in rows if len(each := np.frombuffer(data, "<u2")) == shape[0] * shape[1]]
    total: Array = np.zeros(shape, np.int64)
    for each in found:
        total += each.reshape(shape)
    return total, len(found)


async def tidy(session: AsyncSession, kept: timedelta) -> None:
    """Windows that are older than reports are kept."""
    delete = "DELETE FROM attribution_window WHERE start < now() - CAST(:kept AS interval)"
    await session.execute(text(delete), {"kept": kept})
