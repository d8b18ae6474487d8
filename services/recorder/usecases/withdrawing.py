"""Outcomes leave their files with their decisions: of who is erased at once, of what is too old a day later."""

from collections.abc import Sequence
from functools import partial

from services.kit.db import Database, Tx

from .. import store
from .rewriting import Beat, Removal, Rewriting


class Withdrawing:
    """Files of outcomes without the rows that are due to leave them.

    Decisions of one hour grow old together, outcomes of one hour do not: their decisions are of many hours.
    """

    def __init__(self, db: Database, rewriting: Rewriting) -> None:
        self._db = db
        self._rewriting = rewriting

    async def go_on(self, beat: Beat = lambda: None) -> list[str]:
        """Do what is due; answers what is wrong with files that cannot be read. Raises InUse."""
        return await self._rewriting.all(self._next, beat)

    async def _next(self, without: Sequence[int]) -> Removal | None:
        async with self._db.reading() as session:
            file = await store.next_leaving(session, without)
            ids = await store.leaving(session, file.id) if file else []
        return Removal(file, ids, partial(_forget, file.id, ids)) if file else None


async def _forget(file: int, ids: Sequence[str], tx: Tx, whole: bool) -> None:
    await store.withdraw(tx.session, file, None if whole else ids)
