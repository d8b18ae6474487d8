"""Small files of a past hour become one."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

import pyarrow as pa

from services.kit.db import Database
from services.kit.ids import now

from .. import metrics, store
from ..domain.layout import Place, conform, merged_name
from ..files import Files, Lost
from .upkeep import Upkeep

_AT_ONCE = 500
"""Files that are merged in one step; what they become is merged with others in the next."""


class Compaction:
    """Merges the files of an endpoint and hour up to a size. One that has half of it is left as it is."""

    def __init__(self, db: Database, files: Files, upkeep: Upkeep, bytes_at_most: int, after: timedelta) -> None:
        self._db = db
        self._files = files
        self._upkeep = upkeep
        self._bytes_at_most = bytes_at_most
        self._after = after

    async def step(self) -> bool:
        """Merge some files of one folder; answers whether there was anything to look at.

        Raises InUse where somebody else works with the files.
        """
        before = _hour_of(now() - self._after)
        async with self._db.reading() as session:
            folder = await store.unsettled(session, before)
            if folder is None:
                return False
            members = await store.small(session, folder, self._bytes_at_most // 2, _AT_ONCE)
        sizes = {each.id: await asyncio.to_thread(self._files.size, each.place) for each in members}
        chosen = _within(members, sizes, self._bytes_at_most)
        if len(chosen) < 2:
            async with self._db.transaction() as tx:
                await store.know_sizes(tx.session, sizes)
                await store.settle_folder(tx.session, folder, before)
            return True
        await self._merge(chosen)
        return True

    async def _merge(self, members: Sequence[store.Member]) -> None:
        name = merged_name(each.place.path.rpartition("/")[2] for each in members)
        into = Place(f"{members[0].folder}/{name}", f"r-{uuid4().hex}", members[0].place.kind)
        try:
            bytes = await asyncio.to_thread(self._files.write, into, self._rows(members))
            async with self._db.transaction() as tx:
                await store.alone(tx.session, store.MOVING)
                if not await store.still(tx.session, members):
                    raise store.InUse("a file changed while it was merged")
                await store.merge(tx.session, members, into, sum(each.rows for each in members), bytes)
        except Lost as lost:
            await asyncio.to_thread(self._files.discard, into)
            async with self._db.transaction() as tx:
                await store.set_aside(tx.session, next(m.id for m in members if m.place.path == lost.path))
            return
        except store.InUse:
            await asyncio.to_thread(self._files.discard, into)
            raise
        await self._upkeep.place()
        metrics.MERGED.inc(len(members))

    def _rows(self, members: Sequence[store.Member]) -> Iterator[pa.Table]:
        for member in members:
            for part in self._files.parts(member.place):
                yield conform(part, member.place.kind)


def _hour_of(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _within(members: Sequence[store.Member], sizes: dict[int, int], bytes_at_most: int) -> list[store.Member]:
    """Small ones of the members, in order, as many as become one file of so many bytes."""
    chosen: list[store.Member] = []
    together = 0
    for member in members:
        if sizes[member.id] >= bytes_at_most // 2:
            continue
        if together + sizes[member.id] > bytes_at_most:
            break
        chosen.append(member)
        together += sizes[member.id]
    return chosen
