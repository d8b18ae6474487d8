"""What is too old goes: first from the books, then from the disk, so that nothing refers to a file that is gone."""

from datetime import timedelta

from services.kit.db import Database
from services.kit.repeats import forget_old_writers

from .. import store
from .upkeep import Upkeep


class Retention:
    """Removes decisions, their outcomes, files and payloads."""

    def __init__(self, db: Database, upkeep: Upkeep, kept: timedelta) -> None:
        self._db = db
        self._upkeep = upkeep
        self._kept = kept

    async def forget(self) -> bool:
        """Take some of what is too old out of the books and off the disk; answers whether there was any.

        A crash between the two leaves files that are marked as removed: the next call goes on with them. Raises InUse
        where outcomes are being written for longer than a moment.
        """
        async with self._db.transaction() as tx:
            await store.alone(tx.session, store.FILING)
            gone = await store.forget(tx.session, self._kept)
            if gone:
                tx.record("inferences.removed", "retention", files=gone, days=self._kept.days)
        removed = [await self._upkeep.remove_files(), await self._upkeep.remove_payloads()]
        return bool(gone) or any(removed)

    async def forget_writers(self) -> None:
        """Writers of the log whose records can no longer come again."""
        async with self._db.transaction() as tx:
            await forget_old_writers(tx.session)
