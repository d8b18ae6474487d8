"""All SQL of imports: which record of the topic first brought which inference."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True)
class Claim:
    """Where an inference was first said, and for which endpoint (None: before that was kept)."""

    partition: int
    offset: int
    endpoint: str | None


async def claim(session: AsyncSession, partition: int, records: Sequence[tuple[str, int, str]]) -> dict[str, Claim]:
    """Claim the ids of those (id, offset, endpoint) that nobody had; answers whose each id is now.

    A record that claimed an id before keeps it, so a transaction that Kafka did not take is done again.
    """
    insert = """
        INSERT INTO imported (inference_id, partition, "offset", endpoint)
        SELECT id, CAST(:partition AS int), "offset", endpoint
        FROM unnest(CAST(:ids AS text[]), CAST(:offsets AS bigint[]), CAST(:endpoints AS text[]))
            AS said (id, "offset", endpoint)
        ON CONFLICT DO NOTHING
    """
    ids = [id for id, _, _ in records]
    values = {"offsets": [offset for _, offset, _ in records], "endpoints": [name for _, _, name in records]}
    await session.execute(text(insert), {"ids": ids, "partition": partition} | values)
    return await claimed(session, ids)


async def claimed(session: AsyncSession, ids: Sequence[str]) -> dict[str, Claim]:
    """Whose these ids are; those that nobody claimed are left out."""
    select = """
        SELECT inference_id, partition, "offset", endpoint FROM imported
        WHERE inference_id = ANY (CAST(:ids AS text[]))
    """
    found = await session.execute(text(select), {"ids": list(ids)})
    return {id: Claim(partition, offset, endpoint) for id, partition, offset, endpoint in found}


async def forget(session: AsyncSession, days: int = 7) -> None:
    """The topic forgets after as long: what came before cannot come again by itself."""
    await session.execute(text("DELETE FROM imported WHERE at < now() - make_interval(days => :days)"), {"days": days})
