"""What the monitor forgets, on real PostgreSQL."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from contracts import MonitorReported, Service, Window
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.monitor import store
from services.monitor.domain.latency import LatencyCounts
from services.monitor.domain.windows import Part, Sums

DAY = timedelta(days=1)


async def close(db: Database, endpoint: str, unit: str, age: timedelta) -> None:
    start = datetime.now(UTC) - age
    key = store.WindowKey(endpoint, 1, unit, start, start + timedelta(seconds=10))
    window = Window(**{"from": key.start, "to": key.end}, rows=1)
    report = MonitorReported(endpoint=endpoint, model="census", version=1, window=window, revision=0, inferences=1,
                             latency=None, columns=(), statistic=0.0, threshold=1.0)  # fmt: skip
    async with db.transaction() as tx:
        await store.save_closed(tx.session, key, Part(1, 1, (), Sums.zero(0), LatencyCounts({})), report)


async def test_old_windows_go_in_every_unit_and_only_the_newest_keep_their_counts(
    service_db: Callable[[Service], Database],
) -> None:
    db, minute = service_db("monitor"), timedelta(minutes=1)
    with use(Context(system("monitor"))):
        for endpoint, unit in (("employment", "retail"), ("credit", "wealth")):
            for age in (30 * DAY + minute, 30 * DAY - minute, 2 * DAY, DAY):
                await close(db, endpoint, unit, age)
        async with db.transaction() as tx:
            await store.tidy(tx.session, 2, 30 * DAY)
        async with db.reading() as session:
            left = await session.execute(text("SELECT endpoint, data IS NOT NULL FROM closed_window ORDER BY 1, start"))
            assert [tuple(row) for row in left] == [
                ("credit", False), ("credit", True), ("credit", True),
                ("employment", False), ("employment", True), ("employment", True),
            ]  # fmt: skip
