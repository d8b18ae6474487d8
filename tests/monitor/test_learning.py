"""A season that nobody declared, from windows to the end of its alert: real PostgreSQL, the monitor's own rounds."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from sqlalchemy import text

from contracts import AlertResolved, InferenceLogged, MonitorSettings
from services.kit.alerts import alert_id
from services.kit.compacted import Change
from services.kit.context import Context, system, use
from services.kit.health import Progress
from services.kit.objects import Objects
from services.kit.service import application, close
from services.kit.testing import eventually
from services.monitor import store
from services.monitor.app import build
from services.monitor.domain.latency import LatencyCounts
from services.monitor.domain.windows import Part, Sums
from services.monitor.jobs import Looks
from services.monitor.settings import MonitorSettings as ServiceSettings
from services.monitor.store import WindowKey, seasons
from services.monitor.usecases.closing import Closing
from services.monitor.usecases.desired import Desired
from services.monitor.usecases.learning import Learning
from services.monitor.usecases.versions import Versions

from . import streams
from .saying import deployment, fresh
from .test_segments import profile, schema

START, WINDOW_S, HOURLY = datetime(2026, 3, 2, tzinfo=UTC), 900, 400
DAY = 86_400.0


class House:
    """A monitor whose windows are a quarter of an hour."""

    def __init__(self, settings: ServiceSettings, *segments: str) -> None:
        self.settings, self.parts = settings, build(settings)
        assert self.parts.db
        self.db, objects = self.parts.db, Objects(settings)
        self.objects, self.versions = objects, Versions(self.db, objects)
        self.desired, self.closing = Desired(self.db, self.versions), Closing(settings, self.db, self.versions)
        self.learning = Learning(self.db, self.versions)
        self.app = application(self.parts)
        self.random = np.random.default_rng(5)
        self.endpoint = fresh()
        self.schema = schema(*segments)
        self.profile = profile(12_000, *segments) if segments else streams.profile(self.random)
        self.one = streams.Watched.of("m", self.schema, self.profile)

    async def deployed(self, season_s: float | None = None) -> None:
        digest = await self.objects.put(self.profile.model_dump_json().encode())
        monitor = MonitorSettings(window_s=float(WINDOW_S), season_s=season_s)
        said = deployment(self.endpoint, self.schema, digest, monitor=monitor)
        await self.desired.learn(Change(self.endpoint, said, None, 0))

    async def hours(self, first: int, last: int, step_at: float | None = None) -> None:
        """Rows of some hours, counted and closed: two columns rise and fall with the day, a third one may move."""
        rows = streams.World(self.random).rows(HOURLY * (last - first))
        at = first + np.arange(len(rows)) / HOURLY
        rows[:, 0] += 0.9 * np.sin(2 * np.pi * at / 24)
        rows[:, 1] += 0.9 * np.cos(2 * np.pi * at / 24)
        rows[:, 2] += 0.7 * (at >= step_at) if step_at is not None else 0.0
        await self.closed(rows, first)

    async def closed(self, rows: np.ndarray, first: int) -> None:
        """Rows that begin with an hour."""
        with use(Context(system("monitor", "retail"))):
            async with self.db.transaction() as tx:
                for place, block in enumerate(streams.blocks(self.one, rows, HOURLY // 4)):
                    start = START + timedelta(hours=first, seconds=WINDOW_S * place)
                    key = WindowKey(self.endpoint, 1, "retail", start, start + timedelta(seconds=WINDOW_S))
                    block = type(block)(start.timestamp(), block.rows, block.counts)
                    sums = Sums.zero(len(self.one.numeric))
                    made = Part(100, 100, (block,), sums, LatencyCounts({}), segments=self.groups(rows, place))
                    await store.add_part(tx.session, key, 0, place, made)
        await self.close()

    async def counted(self, hour: int, rows: int) -> None:
        """So many rows in each window of an hour, which nobody looks into."""
        with use(Context(system("monitor", "retail"))):
            async with self.db.transaction() as tx:
                for start in (START + timedelta(hours=hour, seconds=at) for at in range(0, 3_600, WINDOW_S)):
                    key = WindowKey(self.endpoint, 1, "retail", start, start + timedelta(seconds=WINDOW_S))
                    made = Part(rows, rows, (), Sums.zero(0), LatencyCounts({}))
                    await store.add_part(tx.session, key, 0, 0, made)
        await self.close()

    async def close(self) -> None:
        """What was counted."""
        with use(Context(system("monitor", "retail"))):
            async with self.db.transaction() as tx:
                partitions = list(range(InferenceLogged.topic.partitions))
                await store.note_read_to_end(tx.session, partitions, [], datetime.now(UTC))
        while (closed := await self.closing.close_due()).still_open:
            assert not closed.failed

    def groups(self, rows: np.ndarray, place: int) -> np.ndarray | None:
        if self.one.segmenter is None:
            return None
        some = rows[place * HOURLY // 4 : (place + 1) * HOURLY // 4]
        columns = {n: some[:, i] for i, n in enumerate((*streams.NAMES, "label"))}
        return self.one.segmenter.count(streams.binner_of(self.one).bin(columns, len(some)))

    async def get(self, path: str = "") -> dict[str, Any]:
        token = (self.settings.home / "tokens" / "engineer.jwt").read_text().strip()
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://monitor") as client:
            answer = await client.get(
                f"/v1/monitors/{self.endpoint}{path}", headers={"authorization": f"Bearer {token}"}
            )
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def said(self, topic: str) -> list[dict[str, Any]]:
        async with self.db.chassis() as session:
            select = text("SELECT value FROM outbox WHERE topic = :t ORDER BY number")
            return [orjson.loads(value) for value in await session.scalars(select, {"t": topic})]


@pytest.fixture
async def house(monitor_settings: ServiceSettings) -> AsyncIterator[House]:
    made = House(monitor_settings)
    yield made
    await close(made.parts)


async def test_a_daily_season_is_learned_told_and_kept_to(house: House) -> None:
    await house.deployed()
    await house.hours(0, 24)
    assert not await house.learning.look()
    drift, monitor = await house.get("/drift"), await house.get()
    assert drift["drifting"] and drift["season_s"] is None and monitor["learned_season_s"] is None, (
        "a day tells nothing"
    )
    await house.hours(24, 38)
    assert not await house.learning.look()
    drift, monitor = await house.get("/drift"), await house.get()
    assert (drift["drifting"], drift["season_s"], monitor["phase"]) == (False, DAY, "watching")
    assert monitor["learned_season_s"] == DAY and monitor["season_learned_at"] == drift["season_learned_at"] is not None
    assert monitor["settings"].get("season_s") is None, "nobody set it"
    reason = "a daily season was learned, which explains it"
    assert drift["alarms"][0]["closed_because"] == reason
    ended = [each for each in await house.said(AlertResolved.topic.name) if each["reason"] == reason]
    assert str(alert_id("drift", house.endpoint)) in {each["alert_id"] for each in ended}
    audited = [each for each in await house.said("audit.recorded") if each["subject"] == house.endpoint]
    assert ("monitor.season-learned", {"season_s": DAY}) in [(each["action"], each["detail"]) for each in audited]
    await house.hours(38, 62)
    assert not (await house.get("/drift"))["drifting"]
    await house.hours(62, 66, step_at=62.5)
    assert not await house.learning.look()
    drift = await house.get("/drift")
    assert drift["drifting"] and any("c" in each["name"].split() for each in drift["features"])


async def test_a_step_stays_an_alarm_whatever_rises_and_falls_beside_it(house: House) -> None:
    await house.deployed()
    for first, last in ((0, 24), (24, 40), (40, 60)):
        await house.hours(first, last, step_at=30.0)
        assert not await house.learning.look()
    assert (await house.get("/drift"))["drifting"] and (await house.get())["learned_season_s"] is None


async def test_a_first_look_that_takes_long_keeps_nobody_waiting() -> None:
    progress, begun = Progress(), asyncio.Event()

    async def look() -> dict[str, str]:
        begun.set()
        await asyncio.Event().wait()
        return {}

    task = asyncio.create_task(Looks("seasons", 300.0, look, progress).run())
    assert progress.problems()
    await begun.wait()
    assert not progress.problems()
    task.cancel()


async def test_a_look_that_hangs_is_given_up_told_and_tried_again() -> None:
    progress, times = Progress(), [0]

    async def look() -> dict[str, str]:
        times[0] += 1
        await asyncio.Event().wait()
        return {}

    task = asyncio.create_task(Looks("seasons", 0.0, look, progress, within_s=0.01).run())
    await eventually(lambda: times[0] > 2 and "seasons" in progress.problems())
    assert "was given up" in progress.problems()["seasons"]
    task.cancel()


async def test_the_same_hours_are_asked_once_and_another_model_inherits_nothing(house: House) -> None:
    hour = Part(1, 3, (), Sums.zero(0), LatencyCounts({}))
    await house.deployed()

    async def state() -> tuple[float | None, int]:
        async with house.db.reading() as session:
            endpoint = await store.endpoint(session, house.endpoint)
            return endpoint.learned_season_s, len(await seasons.hours(session, endpoint, START))

    async def served(revision: int, **how: Any) -> None:
        monitor = MonitorSettings(window_s=float(WINDOW_S))
        said = deployment(house.endpoint, streams.schema(), None, revision=revision, monitor=monitor, **how)
        await house.desired.learn(Change(house.endpoint, said, None, 0))

    with use(Context(system("monitor", "retail"))):
        for start in (START, START + timedelta(hours=1)):
            async with house.db.transaction() as tx:
                endpoint = await store.endpoint(tx.session, house.endpoint)
                await seasons.save_hour(tx.session, endpoint, start, start, hour)
                assert await seasons.ask(tx.session, endpoint) == start
                assert await seasons.ask(tx.session, endpoint) is None
        async with house.db.transaction() as tx:
            await seasons.learn(tx.session, house.endpoint, DAY)
        assert await state() == (DAY, 2)
        await served(2, version=2)
        await served(3)
        assert await state() == (DAY, 0), "over versions a season stays, hours do not"
        await served(4, state="removed")
        await served(5, model="another")
        assert await state() == (None, 0)


async def test_nought_forbids_learning(house: House) -> None:
    await house.deployed(season_s=0.0)
    await house.hours(0, 40)
    assert not await house.learning.look()
    assert (await house.get("/drift"))["drifting"] and (await house.get())["learned_season_s"] is None


async def test_what_a_person_sets_wins_over_what_was_learned(house: House) -> None:
    await house.deployed()
    await house.hours(0, 40)
    assert not await house.learning.look()
    assert (await house.get("/drift"))["season_s"] == DAY
    with use(Context(system("monitor", "retail"))):
        await house.desired.configure(house.endpoint, {"season_s": 0.0})
    drift = await house.get("/drift")
    assert drift["season_s"] is None and drift["season_learned_at"] is None
    await house.hours(40, 48)
    assert (await house.get("/drift"))["drifting"]


@pytest.mark.parametrize("learned", [False, True])
async def test_how_many_rows_a_window_expects_follows_a_season_that_was_learned(house: House, learned: bool) -> None:
    await house.deployed()
    for hour in range(3 * 24):
        await house.counted(hour, 10 if hour % 24 < 12 else 100)
    with use(Context(system("monitor", "retail"))):
        async with house.db.transaction() as tx:
            await seasons.learn(tx.session, house.endpoint, DAY if learned else 0.0)
    await house.versions.refresh()
    await house.counted(3 * 24, 10)
    traffic = (await house.get("/windows?limit=1"))["items"][0]["traffic"]
    assert traffic["volume"] == ("expected" if learned else "fewer") and (traffic["expected_rows"][1] < 30) is learned
