"""Decisions that were erased: what is kept by their ids goes, what is counted over many stays."""

from contracts import DecisionsErased
from services.kit.db import Database

from ..store import outcomes


class Forgetting:
    """Removes outcomes as they were counted."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def forget(self, event: DecisionsErased) -> None:
        """Those of these decisions. One that is counted later, out of the log, goes with its window."""
        async with self._db.transaction() as tx:
            await outcomes.forget(tx.session, event.inference_ids)
