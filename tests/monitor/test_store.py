"""What the monitor keeps and forgets, on real PostgreSQL."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import text

from contracts import MonitorReported, Service, Window
from contracts import MonitorSettings as Watching
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.objects import Objects
from services.kit.profiles import build_profile
from services.kit.settings import Settings
from services.kit.signing import canonical
from services.monitor import store
from services.monitor.domain.latency import LatencyCounts
from services.monitor.domain.windows import Part, Sums
from services.monitor.store import traffic
from services.monitor.usecases import versions as usecases
from services.monitor.usecases import versions as usecases_of_versions
from services.monitor.usecases.desired import Desired
from services.monitor.usecases.versions import Versions

from . import streams
from .saying import deployment

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


async def test_settings_given_under_a_key_are_read_again_once_they_are_committed(
    service_db: Callable[[Service], Database], tmp_path: Path
) -> None:
    db = service_db("monitor")
    versions = Versions(db, Objects(Settings(home=tmp_path)))
    with use(Context(system("monitor"))) as context:
        async with db.transaction() as tx:
            await store.save_desired(tx.session, deployment("employment", streams.schema(), None))
        await versions.refresh()
        async with db.once("a key", lambda: "what was asked") as once:
            with use(replace(context, claim=once)):
                found = await Desired(db, versions).configure("employment", {"window_s": 30.0})
            assert found.settings.window_s == 30.0 and not versions.outdated
            await once.keep(200, {}, b"{}")
        assert versions.outdated
        await versions.refresh()
    assert versions.settings("employment").window_s == 30.0 and not versions.outdated


async def test_settings_are_read_again_of_the_endpoints_alone_that_changed(
    service_db: Callable[[Service], Database], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, read = service_db("monitor"), list[str]()
    versions, whole = Versions(db, Objects(Settings(home=tmp_path))), store.Endpoint.of
    monkeypatch.setattr(usecases, "_PAGE", 2)
    monkeypatch.setattr(store.Endpoint, "of", lambda row: read.append(row.endpoint) or whole(row))
    with use(Context(system("monitor"))):
        async with db.transaction() as tx:
            for name in ("a", "b", "c"):
                await store.save_desired(tx.session, deployment(name, streams.schema(), None))
            await tx.session.execute(text("UPDATE endpoint SET changed_at = now() - interval '1 hour'"))
        await versions.refresh()
        assert read == ["a", "b", "c"]
        async with db.transaction() as tx:
            await store.override(tx.session, "b", {"window_s": 30.0})
        await versions.refresh()
    assert read == ["a", "b", "c", "b"]
    assert versions.settings("b").window_s == 30.0 and versions.settings("c").window_s != 30.0


async def test_the_first_rows_of_a_version_are_counted_under_its_settings(
    service_db: Callable[[Service], Database], tmp_path: Path
) -> None:
    """Its deployment is committed, and no round has read the settings yet."""
    db = service_db("monitor")
    versions = Versions(db, Objects(Settings(home=tmp_path)))
    with use(Context(system("monitor"))):
        async with db.transaction() as tx:
            event = deployment("employment", streams.schema(), None, monitor=Watching(window_s=30.0))
            await store.save_desired(tx.session, event)
        assert (await versions.find("employment", 1)).schema == streams.schema()
    assert versions.settings("employment").window_s == 30.0


async def test_what_a_version_declares_is_that_of_its_schema_and_its_baseline(
    service_db: Callable[[Service], Database], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usecases_of_versions, "_WAIT_S", 0.0)
    db, objects = service_db("monitor"), Objects(Settings(home=tmp_path))
    rows = streams.World(np.random.default_rng(1)).rows(500)
    table = pa.table({name: rows[:, i] for i, name in enumerate((*streams.NAMES, "label"))})
    table = table.append_column("repaid", pa.array(rows[:, 5]))
    profile = build_profile(table, streams.schema(), label="repaid")
    digest = await objects.put(canonical(profile))
    versions = Versions(db, objects)
    with use(Context(system("monitor"))):
        async with db.transaction() as tx:
            await store.save_desired(tx.session, deployment("with", streams.schema(), digest))
            await store.save_desired(tx.session, deployment("without", streams.schema(), None))
    found = await versions.find("with", 1)
    assert found.schema == streams.schema() and profile.label and profile.label.kind == "categorical"
    assert (found.truth, found.classes, found.meaning.task) == (profile.label, ("0", "1"), "binary")
    without, nowhere = await versions.find("without", 1), await versions.find("nowhere", 1)
    assert (without.schema, without.binner, without.truth, without.classes) == (streams.schema(), None, None, ())
    assert (nowhere.schema, nowhere.binner) == (None, None)
    assert (nowhere.meaning.task, nowhere.truth, nowhere.classes) == ("binary", None, ())


async def test_volume_is_compared_with_windows_of_the_same_length_and_part_of_the_season(
    service_db: Callable[[Service], Database],
) -> None:
    db, day = service_db("monitor"), datetime(2026, 3, 2, tzinfo=UTC)
    starts = [day + timedelta(hours=hour) for hour in range(72)]
    with use(Context(system("monitor"))):
        async with db.transaction() as tx:
            for number, start in enumerate(starts):
                for length in (60, 3600):
                    key = store.WindowKey("employment", 1, "retail", start, start + timedelta(seconds=length))
                    report = MonitorReported(
                        endpoint="employment", model="m", version=1, inferences=1, revision=0, latency=None, columns=(),
                        window=Window(**{"from": key.start, "to": key.end}, rows=number + length), statistic=0.0,
                        threshold=0.0,
                    )  # fmt: skip
                    await store.save_closed(tx.session, key, None, report)
        async with db.reading() as session:
            key = store.WindowKey("employment", 1, "retail", starts[50], starts[50] + timedelta(seconds=60))
            latest = await traffic.rows_before(session, key, 3, None, 0.0, 0.0)
            same = await traffic.rows_before(session, key, 10, 86_400.0, 2 * 3600.0, 3600.0)
            assert await traffic.newest(session, "employment") is None
    assert latest == [60 + 49, 60 + 48, 60 + 47]
    assert same == [60 + 26, 60 + 2]
