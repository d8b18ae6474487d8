"""What is too old goes: first from the books, then from the disk, so that nothing refers to a file that is gone."""

import asyncio
from datetime import timedelta

from services.kit.again import each
from services.kit.db import Database
from services.kit.repeats import forget_old_writers

from .. import store
from ..files import Files


class Retention:
    """Removes decisions, their outcomes and their files."""

    def __init__(self, db: Database, files: Files, kept: timedelta) -> None:
        self._db = db
        self._files = files
        self._kept = kept

    async def forget(self) -> bool:
        """Take some of what is too old out of the books and off the disk; answers whether there was any.

        A crash between the two leaves files that are marked as removed: the next call goes on with them.
        """
        async with self._db.transaction() as tx:
            gone = await store.forget(tx.session, self._kept)
            if gone:
                tx.record("inferences.removed", "retention", files=gone, days=self._kept.days)
        async with self._db.reading() as session:
            leftovers = await store.removing(session)
        failed = await each("retention", leftovers, self._remove)
        return bool(gone) or len(leftovers) > len(failed)

    async def _remove(self, file: tuple[int, str]) -> None:
        id, path = file
        await asyncio.to_thread(self._files.remove, path)
        async with self._db.transaction() as tx:
            await store.drop(tx.session, id)

    async def forget_writers(self) -> None:
        """Writers of the log whose records can no longer come again."""
        async with self._db.transaction() as tx:
            await forget_old_writers(tx.session)
