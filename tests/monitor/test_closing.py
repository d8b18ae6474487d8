"""Closing windows on real PostgreSQL: what fails for one endpoint holds up no other."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from contracts import InferenceLogged, Service
from services.kit.burial import Burial
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.objects import Objects
from services.kit.payloads import Payloads
from services.monitor import store
from services.monitor.domain.latency import LatencyCounts
from services.monitor.domain.windows import Part, Sums
from services.monitor.jobs import Stream
from services.monitor.settings import MonitorSettings
from services.monitor.usecases.closing import Closing
from services.monitor.usecases.counting import Counting
from services.monitor.usecases.versions import Versions

from .saying import aligned


async def test_a_window_that_cannot_be_closed_holds_up_no_other_endpoint(
    service_db: Callable[[Service], Database], monitor_settings: MonitorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.monitor.usecases.versions._WAIT_S", 0.0)
    db, start = service_db("monitor"), aligned(60)
    closing = Closing(monitor_settings, db, Versions(db, Objects(monitor_settings)))
    with use(Context(system("monitor"))):
        async with db.transaction() as tx:
            for endpoint in ("a-broken-one", "the-next"):
                key = store.WindowKey(endpoint, 1, "retail", start, start + timedelta(seconds=10))
                await store.add_part(tx.session, key, 0, 0, Part(1, 3, (), Sums.zero(0), LatencyCounts({5: 1})))
            await tx.session.execute(text("UPDATE part SET data = 'nonsense' WHERE endpoint = 'a-broken-one'"))
            partitions = list(range(InferenceLogged.topic.partitions))
            await store.note_read_to_end(tx.session, partitions, [], datetime.now(UTC))
    closed = await closing.close_due()
    assert (list(closed.failed), closed.still_open) == (["a-broken-one"], True)
    with use(Context(system("monitor"))):
        async with db.reading() as session:
            assert [report.window.rows for report in await store.reports(session, "the-next", None, 10)] == [3]
            assert await store.anything_open(session), "the broken one is still there"


async def test_an_idle_log_is_said_to_be_read_though_no_window_waits_but_not_at_each_poll(
    service_db: Callable[[Service], Database], monitor_settings: MonitorSettings
) -> None:
    db, topic = service_db("monitor"), InferenceLogged.topic
    versions, burial = Versions(db, Objects(monitor_settings)), Burial(monitor_settings, "monitor")
    payloads = Payloads(Objects(monitor_settings), monitor_settings.home / "run" / "monitor")
    counting = Counting(monitor_settings, versions, payloads, burial)
    stream = Stream(monitor_settings, db, counting, burial, Progress())
    stream.something_open = False

    async def reached() -> datetime | None:
        with use(Context(system("monitor"))):
            async with db.reading() as session:
                return await store.watermark(session, topic.partitions, timedelta(0))

    assert await reached() is None
    ended = {(topic.name, number): True for number in range(topic.partitions)}
    await stream.tick(ended)
    first = await reached()
    await stream.tick(ended)
    assert first is not None and await reached() == first


async def test_a_clock_that_is_ahead_does_not_make_the_rows_behind_it_late(
    service_db: Callable[[Service], Database],
) -> None:
    db, before = service_db("monitor"), datetime.now(UTC)
    with use(Context(system("monitor"))):
        async with db.transaction() as tx:
            for partition in range(InferenceLogged.topic.partitions):
                await store.note_event_time(tx.session, partition, before + timedelta(hours=12))
        said = datetime.now(UTC)
        async with db.reading() as session:
            await session.execute(text("SELECT pg_sleep(0.05)"))
            reached = await store.watermark(session, InferenceLogged.topic.partitions, timedelta(0))
    assert reached is not None and before - timedelta(seconds=1) <= reached <= said
