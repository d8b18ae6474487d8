"""All SQL of imports: which record of the topic first brought which inference."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


async def claim(session: AsyncSession, partition: int, records: Sequence[tuple[str, int]]) -> set[int]:
    """The offsets of those (id, offset) that are the first to bring their inference.

    A record that claimed an id before keeps it, so a transaction that Kafka did not take is done again.
    """
    insert = """
        INSERT INTO imported (inference_id, partition, "offset")
        SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:partitions AS int[]), CAST(:offsets AS bigint[]))
        ON CONFLICT DO NOTHING
    """
    ids, offsets = [id for id, _ in records], [offset for _, offset in records]
    await session.execute(text(insert), {"ids": ids, "partitions": [partition] * len(ids), "offsets": offsets})
    select = """
        SELECT "offset" FROM imported
        WHERE inference_id = ANY (CAST(:ids AS text[])) AND partition = :partition AND "offset" = ANY (:offsets)
    """
    found = await session.execute(text(select), {"ids": ids, "partition": partition, "offsets": offsets})
    return set(found.scalars())


async def forget(session: AsyncSession, days: int = 7) -> None:
    """The topic forgets after as long: what came before cannot come again by itself."""
    await session.execute(text("DELETE FROM imported WHERE at < now() - make_interval(days => :days)"), {"days": days})
