"""The disk follows the books: what committed is put into its place, what is out of the books is removed."""

import asyncio

from services.kit.again import each
from services.kit.db import Database
from services.kit.objects import Objects
from services.kit.telemetry import get_logger

from .. import store
from ..domain.layout import Kind, Place
from ..files import Files

log = get_logger(__name__)


class Upkeep:
    """Every step may be done again: a crash between the books and the disk is mended by the next call."""

    def __init__(self, db: Database, files: Files, objects: Objects) -> None:
        self._db = db
        self._files = files
        self._objects = objects

    async def place(self) -> None:
        """Put committed files into their places."""
        async with self._db.reading() as session:
            waiting = await store.unplaced(session)
        if not waiting:
            return
        placed = [file for file in waiting if await asyncio.to_thread(self._place, file)]
        async with self._db.transaction() as tx:
            await store.mark_placed(tx.session, placed)

    def _place(self, file: store.Waiting) -> bool:
        place, members = file.place, file.members
        there = self._files.swap(place, members) if members else self._files.place(place, file.rows)
        if not there:
            log.error("the newest content of a file is nowhere", path=place.path, content=place.pending)
        return there

    async def remove_files(self) -> bool:
        """Remove files that are out of the books; answers whether any was removed."""
        async with self._db.reading() as session:
            leftovers = await store.removing(session)
        failed = await each("removal", leftovers, self._remove_file)
        return len(leftovers) > len(failed)

    async def _remove_file(self, file: tuple[int, Place]) -> None:
        id, place = file
        await asyncio.to_thread(self._files.remove, place)
        async with self._db.transaction() as tx:
            await store.drop(tx.session, id)

    async def remove_payloads(self) -> bool:
        """Remove objects with payloads of what is gone; answers whether any was removed."""
        async with self._db.reading() as session:
            digests = await store.doomed(session)
        failed = await each("payload removal", digests, self._remove_payload)
        return len(digests) > len(failed)

    async def _remove_payload(self, digest: str) -> None:
        async with self._db.transaction() as tx:
            if not await store.is_referred_to(tx.session, digest):
                await self._objects.remove(digest)
            await store.undoom(tx.session, digest)

    async def sweep_batches(self, kind: Kind, partition: int) -> None:
        """Remove what a batch of this partition left that was rolled back; asked where none of it goes on."""
        async with self._db.reading() as session:
            waiting = [file.place for file in await store.unplaced(session)]
        known = {place.path for place in waiting if place.kind == kind}
        await asyncio.to_thread(self._files.sweep, kind, partition, known)

    async def sweep(self) -> None:
        """Remove what was rewritten by somebody who did not live to commit it."""
        async with self._db.reading() as session:
            known = {file.place.pending for file in await store.unplaced(session)}
        await asyncio.to_thread(self._files.sweep_rewritten, {name for name in known if name})
