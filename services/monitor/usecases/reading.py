"""What people ask the monitor."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import log

from contracts import MonitorReported, UsageReported
from services.kit.db import Database

from .. import store
from ..domain.budget import of_data
from ..store import Endpoint, traffic, usage
from .standing import Watching


@dataclass(frozen=True)
class Standing(Watching):
    """How an endpoint stands now."""

    last: MonitorReported | None
    newest_row_at: datetime | None
    """To the minute where its window is still open."""

    segmented: bool = False
    """Whether there are groups of segments that can be watched."""

    @property
    def threshold(self) -> float:
        """What the statistic must pass: the logarithm of the columns' part of the false-alarm budget in rows."""
        return log(of_data(self.endpoint.budget_rows, segmented=self.segmented))


class Reading:
    """Reads under the caller's units."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def endpoints(self, after: str, limit: int) -> list[Endpoint]:
        """By name, those after `after`."""
        async with self._db.reading() as session:
            return await store.endpoints(session, after, limit)

    async def standing(self, name: str, findings: int = 50) -> Standing:
        """Raises NotFound."""
        async with self._db.reading() as session:
            endpoint = await store.endpoint(session, name)
            watch = await store.watch(session, name, endpoint.version)
            last = next(iter(await store.reports(session, name, None, 1)), None)
            came = [await traffic.newest(session, name), last and last.traffic and last.traffic.newest_row_at]
            newest = max(filter(None, came), default=None)
            segmented = await store.is_grouped(session, name, endpoint.version)
            return Standing(endpoint, watch, await store.findings(session, name, findings), last, newest, segmented)

    async def windows(self, name: str, before: tuple[datetime, int] | None, limit: int) -> list[MonitorReported]:
        """Newest first. Raises NotFound."""
        async with self._db.reading() as session:
            await store.endpoint(session, name)
            return await store.reports(session, name, before, limit)

    async def usage(self, name: str, before: usage.Place | None, limit: int) -> Sequence[UsageReported]:
        """Newest first. Raises NotFound."""
        async with self._db.reading() as session:
            await store.endpoint(session, name)
            return await usage.reports(session, name, before, limit)
