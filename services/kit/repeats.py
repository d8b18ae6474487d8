"""Repeats of the inference log: the highest number of each writer in each partition says what was seen before."""

from collections.abc import Mapping

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_SELECT = text("SELECT writer, seq FROM writer WHERE partition = :partition")
_SAVE = text("""
    INSERT INTO writer (partition, writer, seq)
    SELECT :partition, given.key, CAST(given.value AS bigint) FROM jsonb_each_text(CAST(:seqs AS jsonb)) AS given
    ON CONFLICT (partition, writer) DO UPDATE SET seq = excluded.seq, seen_at = now()
""")
_FORGET = text("DELETE FROM writer WHERE seen_at < now() - interval '9 days'")
"""The log keeps 7 days: an older writer's records cannot come again."""


class Repeats:
    """The service's table `writer (partition, writer, seq, seen_at)`, kept in memory between batches.

    What is in memory is of a certain offset. After a batch that was rolled back, or after a partition moved, the
    next batch begins at another one, and the table is read again.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, dict[str, int]]] = {}

    async def open(self, session: AsyncSession, partition: int, first: int) -> "Seen":
        """What was seen in a partition before the offset `first`."""
        offset, seqs = self._known.get(partition, (-1, {}))
        if offset != first:
            rows = await session.execute(_SELECT, {"partition": partition})
            seqs = {row.writer: int(row.seq) for row in rows}
        return Seen(self, partition, dict(seqs))

    def keep(self, partition: int, next_offset: int, seqs: dict[str, int]) -> None:
        self._known[partition] = (next_offset, seqs)


class Seen:
    """The numbers of one partition while a batch is in hand."""

    def __init__(self, repeats: Repeats, partition: int, seqs: dict[str, int]) -> None:
        self._repeats = repeats
        self._partition = partition
        self._seqs = seqs
        self._changed: dict[str, int] = {}

    def is_new(self, writer: str, seq: int) -> bool:
        """Whether this record is the first of its number; from now on it was seen."""
        if seq <= self._seqs.get(writer, -1):
            return False
        self._seqs[writer] = self._changed[writer] = seq
        return True

    @property
    def changed(self) -> Mapping[str, int]:
        return self._changed

    async def save(self, session: AsyncSession, next_offset: int) -> None:
        """Into the transaction that also moves the offset to `next_offset`."""
        if self._changed:
            seqs = orjson.dumps(self._changed).decode()
            await session.execute(_SAVE, {"partition": self._partition, "seqs": seqs})
        self._repeats.keep(self._partition, next_offset, self._seqs)


async def forget_old_writers(session: AsyncSession) -> None:
    await session.execute(_FORGET)
