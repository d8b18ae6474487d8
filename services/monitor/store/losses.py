"""SQL of the test of whether a model became worse."""

from collections.abc import Sequence

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ..domain.outcomes.labelled import Task
from ..domain.outcomes.loss import LossBlock, LossWatch
from .endpoints import Endpoint

_ADD = text("""
    INSERT INTO loss_part (endpoint, version, unit, task, start_s, bins)
    VALUES (:endpoint, :version, :unit, :task, :start_s, CAST(:bins AS jsonb))
""")


async def add(
    session: AsyncSession, endpoint: str, version: int, unit: str, task: Task, blocks: Sequence[LossBlock]
) -> None:
    """Labels that came, in order."""
    for block in blocks:
        values = {
            "endpoint": endpoint, "version": version, "unit": unit, "task": task, "start_s": block.start_s,
            "bins": orjson.dumps(sorted(block.bins.items())).decode(),
        }  # fmt: skip
        await session.execute(_ADD, values)


async def waiting(session: AsyncSession) -> list[tuple[str, str]]:
    """Endpoints, each with its unit, of which labels came."""
    rows = await session.execute(text("SELECT DISTINCT endpoint, unit FROM loss_part ORDER BY endpoint, unit"))
    return [(row.endpoint, row.unit) for row in rows]


async def take(session: AsyncSession, name: str, version: int, at_most: int = 1_000) -> list[tuple[Task, LossBlock]]:
    """What came of an endpoint, in the order of decisions, so many blocks of it; they are gone then, those of other
    versions too.

    Partitions are read side by side, in no order of their own, and what waits is sorted. A label may come days after
    its decision, so that nobody can wait for all earlier ones: what comes later is seen later.
    """
    select = """
        WITH taken AS (
            DELETE FROM loss_part WHERE id IN (
                SELECT id FROM loss_part WHERE endpoint = :e ORDER BY start_s, id LIMIT :n
            ) RETURNING id, version, task, start_s, bins
        )
        SELECT task, start_s, bins FROM taken WHERE version = :v ORDER BY start_s, id
    """
    rows = await session.execute(text(select), {"e": name, "v": version, "n": at_most})
    return [(row.task, LossBlock(row.start_s, dict(row.bins))) for row in rows]


async def watch(session: AsyncSession, name: str, version: int) -> LossWatch | None:
    """The state of watching a version; None where it has just begun."""
    select = "SELECT state FROM loss_watch WHERE endpoint = :e AND version = :v"
    row = (await session.execute(text(select), {"e": name, "v": version})).first()
    return LossWatch.from_json(row.state) if row else None


async def save_watch(session: AsyncSession, found: Endpoint, state: LossWatch) -> None:
    """In place of the state of whatever version was watched before."""
    insert = """
        INSERT INTO loss_watch (endpoint, version, unit, state) VALUES (:e, :v, :u, CAST(:s AS jsonb))
        ON CONFLICT (endpoint) DO UPDATE SET version = excluded.version, unit = excluded.unit, state = excluded.state
    """
    said = orjson.dumps(state.to_json()).decode()
    values = {"e": found.endpoint, "v": found.version, "u": found.unit, "s": said}
    await session.execute(text(insert), values)
