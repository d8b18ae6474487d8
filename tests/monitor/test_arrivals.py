"""Rows that stay away, or come in other numbers, are told once, and what an endpoint's history explains never is."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from contracts import AlertRaised, AlertResolved, InferenceLogged, MonitorSettings, Service
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.monitor import store
from services.monitor.domain.arrivals import DAY_S, KEPT_S, History, ReadUpTo, hours_of, lulls, usual
from services.monitor.domain.service.slots import Place
from services.monitor.domain.windows import HOUR_S
from services.monitor.store import slots
from services.monitor.usecases.arriving import Arrivals

from . import streams
from .counting import Answered, counted
from .saying import alerts, deployment, fresh

Stream = Callable[[np.random.Generator, int], np.ndarray]


def poisson(random: np.random.Generator, days: int, every_s: float) -> np.ndarray:
    return np.sort(random.uniform(0, days * DAY_S, random.poisson(days * DAY_S / every_s)))


def _steady(random: np.random.Generator, days: int) -> np.ndarray:
    return poisson(random, days, 120)


def _rare(random: np.random.Generator, days: int) -> np.ndarray:
    return poisson(random, days, 1_200)


def _bursts(random: np.random.Generator, days: int) -> np.ndarray:
    """On and off for half an hour on average, each."""
    edges = np.cumsum(random.exponential(1_800, int(days * DAY_S / 1_200)))
    at = poisson(random, days, 20)
    return at[np.searchsorted(edges, at) % 2 == 0]


def _office(random: np.random.Generator, days: int) -> np.ndarray:
    at = poisson(random, days, 30)
    return at[(at // HOUR_S % 24 >= 8) & (at // HOUR_S % 24 < 18) & (at // DAY_S % 7 < 5)]


def _waves(random: np.random.Generator, days: int) -> np.ndarray:
    at = poisson(random, days, 20)
    return at[random.uniform(size=len(at)) < 0.02 + 0.98 * (0.5 - 0.5 * np.cos(at / DAY_S * 2 * np.pi)) ** 2]


class Lived:
    """An endpoint that went through a stream of arrivals, looked at every five minutes of a silence."""

    def __init__(self, at: np.ndarray) -> None:
        self.minutes = (np.unique(at // 60) * 60).tolist()
        self.longest: dict[float, float] = {}
        self.told = 0
        for place in range(len(self.minutes) - 1):
            here, following = self.minutes[place : place + 2]
            if following - here > 300 and self.silent_after(here, place + 1, following) is not None:
                self.told += 1
            for hour, longest in lulls([here, following]).items():
                self.longest[hour] = max(self.longest.get(hour, 0.0), longest)

    def silent_after(self, newest_s: float, seen: int, until_s: float) -> float | None:
        """Seconds after the newest row at which it is told that they stay away, if that is before a moment."""
        kept = {hour: longest for hour, longest in self.longest.items() if hour > newest_s - KEPT_S}
        history = History(self.minutes[0], newest_s, seen, kept)
        for at_s in np.arange(newest_s + 300, until_s + 1, 300.0):
            after_s = history.silent_after_s(float(at_s))
            if after_s is not None and at_s - newest_s >= after_s:
                return float(at_s - newest_s)
        return None


@pytest.mark.parametrize(
    ("stream", "falsely", "within_h"),
    [(_steady, 0, 2), (_rare, 0, 12), (_bursts, 1, 16), (_office, 0, 2), (_waves, 0, 2)],
)
def test_what_history_explains_is_no_silence_and_what_it_does_not_is_told_soon(
    stream: Stream, falsely: int, within_h: float
) -> None:
    """Ninety days end on a Wednesday at half past ten."""
    at = stream(np.random.default_rng(1), 91)
    lived = Lived(at[at < 86 * DAY_S + 2 * DAY_S + 10.5 * HOUR_S])
    assert lived.told <= falsely
    newest = lived.minutes[-1]
    found = lived.silent_after(newest, len(lived.minutes), newest + 7 * DAY_S)
    assert found is not None and found <= within_h * HOUR_S


def test_an_endpoint_that_was_asked_a_few_times_is_not_missed() -> None:
    assert History(0, 3 * DAY_S, 99, {0.0: 60.0}).silent_after_s(9 * DAY_S) is None
    assert History(0, DAY_S - 60, 1_439, {0.0: 60.0}).silent_after_s(9 * DAY_S) is None
    assert History(0, DAY_S, 1_440, {0.0: 60.0}).silent_after_s(9 * DAY_S) == 300


def test_a_lull_reaches_into_every_hour_that_it_touches() -> None:
    assert lulls([0, 60, 3 * HOUR_S]) == {hour * HOUR_S: 3 * HOUR_S - 60 for hour in range(4)}
    assert lulls([60]) == lulls([]) == {}


def _level(hours: np.ndarray) -> np.ndarray:
    return np.full(len(hours), 60.0)


def _rhythm(hours: np.ndarray) -> np.ndarray:
    return 60 + 3_000 * (0.5 - 0.5 * np.cos(hours / 24 * 2 * np.pi)) ** 2


def _working(hours: np.ndarray) -> np.ndarray:
    return np.where((hours % 24 >= 8) & (hours % 24 < 18) & (hours // 24 % 7 < 5), 2_000.0, 0.0)


@pytest.mark.parametrize(("rate", "spread"), [(_level, 0.0), (_level, 0.5), (_rhythm, 0.2), (_working, 0.2)])
def test_how_many_rows_an_hour_has_is_told_only_beyond_its_like(
    rate: Callable[[np.ndarray], np.ndarray], spread: float
) -> None:
    """Sixty days without a change, hour by hour, with rates that vary; then a tenth and ten times as many."""
    random, hours = np.random.default_rng(7), np.arange(60 * 24)
    rows = random.poisson(10 * rate(hours) * random.lognormal(0.0, spread, len(hours)))
    by_hour = {float(hour * HOUR_S): int(count) for hour, count in zip(hours, rows, strict=True)}
    falsely = 0
    for hour in hours[26:]:
        like = usual({h: n for h, n in by_hour.items() if h < hour * HOUR_S}, 0.0, (hour + 1) * HOUR_S)
        falsely += like is not None and like.departs(int(rows[hour]), None) is not None
    assert falsely == 0
    noon = 57 * 24 + 13
    like = usual(by_hour, 0.0, noon * HOUR_S)
    if spread < 0.5:
        assert like and like.departs(int(rows[noon - 1] / 10), None) == "fewer"
        assert like.departs(int(rows[noon - 1] * 10), None) == "more"
    assert like and like.departs(round(like.low / 1.8), "fewer") == "fewer", "it is over when it is well within"
    assert like.departs(round(like.low / 1.4), "fewer") is None and like.departs(round(like.low / 1.4), None) is None


def test_before_a_day_and_the_day_before_it_no_number_is_usual() -> None:
    by_hour = {float(hour * HOUR_S): 600 for hour in range(60)}
    assert usual(by_hour, 0.0, 48 * HOUR_S) is None
    like = usual(by_hour, 0.0, 50 * HOUR_S)
    assert like and (like.low, like.high) == (600, 600)


def test_hours_that_were_forgotten_are_not_usual_and_not_zero() -> None:
    """Where weeks of slots are kept that are fewer than those of memory."""
    hours, now = 40 * 24, 40 * DAY_S
    for kept_days in (3, 9, 20):
        by_hour = {float(hour * HOUR_S): 600 for hour in range(hours - kept_days * 24, hours)}
        like = usual(by_hour, 0.0, now)
        assert like and (like.low, like.high) == (600, 600), f"{kept_days} days are kept"


def test_hours_that_were_told_silent_are_like_no_other() -> None:
    by_hour = {float(hour * HOUR_S): 600 for hour in range(40 * 24)}
    silent = hours_of(33 * DAY_S - 2.5 * HOUR_S, 33 * DAY_S + 0.5 * HOUR_S)
    assert len(silent) == 4
    for hour in silent:
        by_hour[hour] = 0
    without, told = usual(by_hour, 0.0, 40 * DAY_S), usual(by_hour, 0.0, 40 * DAY_S, silent)
    assert without and without.low == 0 and told and told.low == 600


class Story:
    """An endpoint as the monitor's tables know it, and what is said of it."""

    def __init__(self, db: Database) -> None:
        self.db, self.endpoint, self.arrivals = db, fresh(), Arrivals(db)
        self.now = datetime(2026, 3, 4, 10, 30, tzinfo=UTC)

    async def serve(self, revision: int = 1, state: str = "serving", **settings: object) -> None:
        event = deployment(self.endpoint, streams.schema(), None, revision=revision, state=state,
                           monitor=MonitorSettings.model_validate(settings))  # fmt: skip
        async with self.db.transaction() as tx:
            await store.save_desired(tx.session, event)

    async def rows(self, minutes: range, each: int = 10) -> None:
        """So many in each of some minutes ago."""
        place = Place(self.endpoint, "retail", "census-employment", 1, "rest")
        ago = [(self.now - timedelta(minutes=minute)).timestamp() for minute in minutes]
        async with self.db.transaction() as tx:
            await slots.add(tx.session, 0, counted(Answered(place, at, each, 1.0) for at in ago))

    def later(self, minutes: int) -> None:
        """So much time passes."""
        self.now += timedelta(minutes=minutes)

    async def read(self) -> None:
        """All partitions of the log are read to their ends."""
        async with self.db.transaction() as tx:
            await store.note_read_to_end(tx.session, list(range(InferenceLogged.topic.partitions)), [], self.now)

    async def look(self, *, read: bool = True) -> list[AlertRaised | AlertResolved]:
        """What was said so far, after a look."""
        if read:
            await self.read()
        assert await self.arrivals.judge(self.now) == {}
        return await alerts(self.db)


@pytest.fixture
async def story(service_db: Callable[[Service], Database]) -> Story:
    made = Story(service_db("monitor"))
    with use(Context(system("monitor"))):
        await made.serve()
    return made


async def test_rows_that_stay_away_are_told_once_and_their_return_ends_it(story: Story) -> None:
    with use(Context(system("monitor"))):
        assert await story.look() == []
        await story.rows(range(26 * 60, 0, -1))
        assert await story.look() == []
        story.later(9)
        assert await story.look() == [], "it must be seen twice"
        story.later(2)
        (raised,) = await story.look()
        assert await story.look() == [raised]
        assert isinstance(raised, AlertRaised) and (raised.kind, raised.subject) == ("no-traffic", story.endpoint)
        assert raised.how_much and raised.how_much.startswith("no row for 12 min; 5 min its history explains")
        assert raised.since == story.now - timedelta(minutes=12)
        await story.rows(range(1))
        _, over = await story.look()
        assert await story.look() == [raised, over]
        assert isinstance(over, AlertResolved) and over.alert_id == raised.alert_id
        story.later(9)
        await story.look()
        story.later(2)
        assert [type(event) for event in await story.look()][2:] == [AlertRaised], "its silence is no history"


async def test_a_monitor_that_was_away_reads_what_came_before_it_tells(story: Story) -> None:
    with use(Context(system("monitor"))):
        await story.rows(range(26 * 60, 0, -1))
        await story.look()
        story.later(60)
        assert await story.look() == []
        await story.rows(range(30, 25, -1))  # it is still reading
        assert await story.look() == []
        await story.rows(range(25, -1, -1))
        story.later(2)
        assert await story.look() == []


async def test_what_is_not_read_yet_is_not_missing(story: Story) -> None:
    with use(Context(system("monitor"))):
        await story.rows(range(26 * 60, 0, -1))
        assert await story.look(read=False) == [], "no partition was read so far"
        await story.look()
        for _ in range(5):
            story.later(20)
            assert await story.look(read=False) == [], "the monitor lags, whatever the clock says"
        await story.look()
        story.later(2)
        assert [type(event) for event in await story.look()] == [AlertRaised]


async def test_a_partition_that_stands_still_keeps_no_silence_back_for_ever(story: Story) -> None:
    with use(Context(system("monitor"))):
        await story.rows(range(26 * 60, 0, -1))
        await story.look()

        async def looked() -> list[type]:
            async with story.db.transaction() as tx:
                await store.note_read_to_end(
                    tx.session, list(range(1, InferenceLogged.topic.partitions)), [], story.now
                )
            failed.append(await story.arrivals.judge(story.now))
            return [type(event) for event in await alerts(story.db)]

        failed: list[dict[str, str]] = []
        story.later(20)
        assert (await looked(), failed[-1]) == ([], {}), "it may come yet"
        story.later(20)
        assert await looked() == [], "it must be seen twice"
        assert list(failed[-1]) == ["partition 0 of inference.logged"]
        assert failed[-1]["partition 0 of inference.logged"] == "stands still, read up to 2026-03-04 10:30 UTC"
        story.later(2)
        assert await looked() == [AlertRaised]
        (raised,) = await alerts(story.db)
        assert isinstance(raised, AlertRaised) and "partition 0 (read up to 2026-03-04 10:30 UTC)" in raised.detail


def test_a_partition_that_was_never_read_is_waited_for_as_long_as_one_that_stands_still() -> None:
    start = datetime(2026, 3, 4, 10, tzinfo=UTC)

    def read(minutes: int, reached: Mapping[int, datetime | None], seen: dict[int, int]) -> ReadUpTo:
        front = start + timedelta(minutes=minutes)
        known = {number: start + timedelta(minutes=at) for number, at in seen.items()}
        return ReadUpTo.of({**reached, 0: front, 1: front}, known, 3)

    for reached, seen in (({2: None}, {0: 0, 1: 0, 2: 0}), ({}, {0: 0, 1: 5})):  # looked at, or by nobody
        assert read(30, reached, seen) == ReadUpTo(None, {}), "it may come yet"
        assert read(31, reached, seen) == ReadUpTo(start + timedelta(minutes=31), {2: None})
    assert read(31, {2: None}, {0: 0, 1: 0, 2: 5}) == ReadUpTo(None, {}), "it is new"
    assert ReadUpTo.of({0: None, 1: None}, {0: start, 1: start}, 2) == ReadUpTo(None, {}), "nothing goes on"
    late = read(40, {2: start}, {0: 0, 1: 0, 2: 0})
    assert late == ReadUpTo(start + timedelta(minutes=40), {2: start})


@pytest.mark.parametrize("looked_at", [True, False])
async def test_a_partition_that_was_never_read_keeps_no_silence_back_for_ever(story: Story, *, looked_at: bool) -> None:
    with use(Context(system("monitor"))):
        await story.rows(range(26 * 60, 0, -1))
        failed: list[dict[str, str]] = []

        async def looked() -> list[type]:
            async with story.db.transaction() as tx:
                rest = list(range(1, InferenceLogged.topic.partitions))
                await store.note_read_to_end(tx.session, rest, [0] if looked_at else [], story.now)
            failed.append(await story.arrivals.judge(story.now))
            return [type(event) for event in await alerts(story.db)]

        assert await looked() == []
        story.later(20)
        assert (await looked(), failed[-1]) == ([], {}), "it may come yet"
        story.later(20)
        assert await looked() == [], "it must be seen twice"
        assert failed[-1] == {"partition 0 of inference.logged": "stands still, nothing of it was read yet"}
        assert REGISTRY.get_sample_value("fairlead_monitor_unread_partitions") == 1
        story.later(2)
        assert await looked() == [AlertRaised]
        (raised,) = await alerts(story.db)
        assert isinstance(raised, AlertRaised) and "partition 0 (nothing of it was read yet)" in raised.detail
        await story.look()
        assert REGISTRY.get_sample_value("fairlead_monitor_unread_partitions") == 0


async def test_rows_that_are_back_after_a_silence_are_not_fewer_than_usual(story: Story) -> None:
    with use(Context(system("monitor"))):
        await story.rows(range(60 * 60, 0, -1))
        await story.look()
        said = await story.look()
        for minutes in (20, 2, 120):
            story.later(minutes)
            await story.look()
        for _ in range(12):
            story.later(10)
            await story.rows(range(9, -1, -1))
            said = await story.look()
        assert [type(event) for event in said] == [AlertRaised, AlertResolved]
        for _ in range(12):
            story.later(10)
            await story.rows(range(9, -1, -1), 1)
            said = await story.look()
        assert [event.kind for event in said[2:] if isinstance(event, AlertRaised)] == ["traffic-volume"]


async def test_what_is_set_holds_and_what_is_off_is_told_by_nobody(story: Story) -> None:
    with use(Context(system("monitor"))):
        await story.serve(2, silent_after_s=3_600)
        await story.rows(range(5))
        await story.look()
        for minutes in (50, 9, 2):
            story.later(minutes)
            assert await story.look() == []
        story.later(3)
        (raised,) = await story.look()
        assert isinstance(raised, AlertRaised) and raised.how_much == "no row for 64 min; 60 min is set"
        await story.serve(3, quality_alerts=False)
        _, over = await story.look()
        assert isinstance(over, AlertResolved) and over.reason == "alerts of data quality are off"
        story.later(600)
        await story.look()
        story.later(5)
        assert await story.look() == [raised, over]


async def test_far_fewer_rows_are_told_once_and_over_when_they_are_back(story: Story) -> None:
    with use(Context(system("monitor"))):
        await story.rows(range(60 * 60, 0, -1))
        seen = await story.look()
        assert seen == []
        for _ in range(7):
            story.later(10)
            await story.rows(range(9, -1, -1), 1)
            seen = await story.look()
        (raised,) = seen
        assert isinstance(raised, AlertRaised) and raised.kind == "traffic-volume"
        assert raised.how_much and "600 to 600 were usual in hours like it" in raised.how_much
        for _ in range(7):
            story.later(10)
            await story.rows(range(9, -1, -1), 10)
            seen = await story.look()
        assert [type(event) for event in seen] == [AlertRaised, AlertResolved]


async def test_an_endpoint_that_is_removed_is_missed_by_nobody(story: Story) -> None:
    with use(Context(system("monitor"))):
        await story.rows(range(26 * 60, 0, -1))
        await story.look()
        for minutes in (20, 2):
            story.later(minutes)
            await story.look()
        await story.serve(2, state="removed")
        _, over = await story.look()
        assert isinstance(over, AlertResolved) and over.reason == "the endpoint is removed"
        assert len(await story.look()) == 2
        async with story.db.reading() as session:
            assert await session.scalar(text("SELECT count(*) FROM arrival")) == 0
