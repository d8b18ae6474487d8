"""What versions used: kept as their scorers say it."""

from contracts import UsageReported
from services.kit.bus import current_envelope
from services.kit.db import Database

from ..store import usage


class Metering:
    """Keeps `usage.reported`, for whoever asks what a model costs."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def note(self, event: UsageReported) -> None:
        """Keep one period."""
        async with self._db.transaction() as tx:
            await usage.save(tx.session, event, current_envelope().unit)
