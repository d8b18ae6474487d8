"""A dry run over recorded windows: real windows in PostgreSQL, asked for by HTTP."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest

from contracts import MonitorReported, MonitorSettings, Window
from services.kit.compacted import Change
from services.kit.context import Context, system, use
from services.kit.objects import Objects
from services.kit.service import application, close
from services.monitor import store
from services.monitor.app import build
from services.monitor.domain.latency import LatencyCounts
from services.monitor.domain.outcomes.labelled import Labelled
from services.monitor.domain.outcomes.loss import LossWatch, blocks_of
from services.monitor.domain.trial import Setting, Trial, TrialOfLabels
from services.monitor.domain.watch import Watch
from services.monitor.domain.windows import Part, Sums
from services.monitor.settings import MonitorSettings as ServiceSettings
from services.monitor.store import WindowKey, outcomes
from services.monitor.store.outcomes import Remembered, Span
from services.monitor.usecases import trying
from services.monitor.usecases.desired import Desired
from services.monitor.usecases.versions import Versions

from . import streams
from .saying import deployment, fresh

START = datetime(2026, 3, 2, tzinfo=UTC)
BUDGET = 1_000_000
Ask = Callable[..., Any]


class House:
    """A monitor with windows of ten rows a second that were closed."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings, self.parts = settings, build(settings)
        assert self.parts.db
        self.db, self.objects = self.parts.db, Objects(settings)
        self.desired = Desired(self.db, Versions(self.db, self.objects))
        self.app = application(self.parts)
        self.random = np.random.default_rng(7)
        self.endpoint = fresh()
        self.profile = streams.profile(self.random)
        self.one = streams.Watched.of("m", streams.schema(), self.profile)

    async def deployed(self, baseline: bool = True) -> None:
        digest = await self.objects.put(self.profile.model_dump_json().encode()) if baseline else None
        monitor = MonitorSettings(window_s=100.0, budget_rows=BUDGET)
        said = deployment(self.endpoint, streams.schema(), digest, monitor=monitor)
        await self.desired.learn(Change(self.endpoint, said, None, 0))

    async def windows(self, rows: np.ndarray, version: int = 1) -> None:
        """A window of 100 rows every 100 seconds."""
        with use(Context(system("monitor", "retail"))):
            async with self.db.transaction() as tx:
                for place, block in enumerate(streams.blocks(self.one, rows, start_s=START.timestamp())):
                    start = START + timedelta(seconds=100 * place)
                    key = WindowKey(self.endpoint, version, "retail", start, start + timedelta(seconds=100))
                    part = Part(100, 100, (block,), Sums.zero(len(self.one.numeric)), LatencyCounts({}))
                    report = MonitorReported(
                        endpoint=self.endpoint, model="m", version=version, revision=0, inferences=100, latency=None,
                        columns=(), statistic=0.0, threshold=1.0,
                        window=Window(**{"from": start, "to": key.end}, rows=100),
                    )  # fmt: skip
                    await store.save_closed(tx.session, key, part, report)

    async def labels(self, wrong: np.ndarray, first: int = 0, version: int = 1, *, shadow: bool = False) -> None:
        """A label every second, of two classes; `wrong` [labels]: whether the decision was."""
        found: dict[tuple[str, int], Remembered] = {}
        for place, missed in enumerate(wrong.tolist(), first):
            at = START + timedelta(seconds=place)
            hour = at.replace(minute=0, second=0)
            span = Span(self.endpoint, version, "champion", "retail", hour, hour + timedelta(hours=1))
            row = Labelled("1", "0" if missed else "1")
            found[f"{version}-{shadow}-{place:05}", 0] = Remembered(span, at, row, shadow)
        with use(Context(system("monitor", "retail"))):
            async with self.db.transaction() as tx:
                await outcomes.remember(tx.session, found)

    async def ask(self, body: dict[str, Any], who: str = "engineer", endpoint: str | None = None) -> httpx.Response:
        token = (self.settings.home / "tokens" / f"{who}.jwt").read_text().strip()
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://monitor") as client:
            path = f"/v1/monitors/{endpoint or self.endpoint}/dry-run"
            return await client.post(path, json=body, headers={"authorization": f"Bearer {token}"})


@pytest.fixture
async def house(monitor_settings: ServiceSettings) -> AsyncIterator[House]:
    made = House(monitor_settings)
    yield made
    await close(made.parts)


async def test_a_setting_is_tried_beside_the_present_one(house: House) -> None:
    world = streams.World(house.random)
    await house.deployed()
    await house.windows(np.concatenate([world.rows(3_000), world.rows(3_000, "shift")]))
    await house.windows(world.rows(500, "shift"), version=2)
    answer = (await house.ask({"tolerance": 2.0})).json()
    assert (answer["version"], answer["windows"], answer["rows"]) == (1, 60, 6_000)
    assert datetime.fromisoformat(answer["from"]) == START
    assert datetime.fromisoformat(answer["to"]) == START + timedelta(seconds=6_000)
    (alarm,) = answer["present"]["alarms"]
    since, at = (datetime.fromisoformat(alarm[name]) for name in ("since", "at"))
    assert abs(since - START - timedelta(seconds=3_000)) <= timedelta(seconds=300)
    assert timedelta(0) < at - START - timedelta(seconds=3_000) <= timedelta(seconds=300)
    assert alarm["features"][0]["name"] == "a" and alarm["features"][0]["effect"] > 0.3
    assert alarm["features"][0]["tolerance"] == 0.1
    assert not answer["proposed"]["alarms"] and answer["proposed"]["tolerance"] == 2.0
    assert answer["proposed"]["notes"], "what does not matter any more is a note"
    again = (await house.ask({"budget_rows": 10**12})).json()
    later = datetime.fromisoformat(again["proposed"]["alarms"][0]["at"])
    assert later >= at and again["present"] == answer["present"], "a dry run leaves nothing behind"


async def test_a_season_can_be_tried_before_it_is_declared(house: House) -> None:
    world, at = streams.World(house.random), np.arange(20_000)
    rows = world.rows(20_000)
    rows[:, 0] += 0.9 * np.sin(2 * np.pi * (START.timestamp() + at) / 4_800)
    await house.deployed()
    await house.windows(rows)
    answer = (await house.ask({"season_s": 4_800})).json()
    assert answer["present"]["alarms"] and answer["present"]["season_s"] is None
    assert not answer["proposed"]["alarms"] and answer["proposed"]["season_s"] == 4_800


@pytest.mark.parametrize(
    ("body", "named"),
    [({}, "season_s, quality_alerts, quality_tolerance, expected_error"), ({"tolerance": 0}, "tolerance"),
     ({"budget_rows": 5}, "budget_rows"),
     ({"season_s": 7}, "60 seconds at least"), ({"season_s": 120}, "season_s: a season of 120 s"),
     ({"quality_tolerance": 1}, "quality_tolerance"), ({"expected_error": 0}, "expected_error"),
     ({"window_s": 5}, "window_s"), ({"tolerance": "x"}, "tolerance")],
)  # fmt: skip
async def test_what_cannot_be_tried_is_refused_by_name(house: House, body: dict[str, Any], named: str) -> None:
    await house.deployed()
    answer = await house.ask(body)
    assert answer.status_code == 422 and named in answer.text


async def test_who_may_not_see_an_endpoint_tries_nothing_there(house: House) -> None:
    await house.deployed()
    assert (await house.ask({"tolerance": 0.2}, "other-unit")).status_code == 404
    assert (await house.ask({"tolerance": 0.2}, endpoint="nothing")).status_code == 404
    empty = (await house.ask({"tolerance": 0.2})).json()
    assert (empty["windows"], empty["from"], empty["to"], empty["present"]["alarms"]) == (0, None, None, [])


async def test_without_a_baseline_there_is_nothing_to_try(house: House) -> None:
    await house.deployed(baseline=False)
    answer = await house.ask({"tolerance": 0.2})
    assert answer.status_code == 409 and "no baseline" in answer.json()["detail"]


async def test_values_that_cannot_be_used_are_tried_with_their_tolerance_where_no_drift_tells_them(
    house: House,
) -> None:
    rows = streams.World(house.random).rows(5_000)
    rows[3_000:, 1][house.random.uniform(size=2_000) < 0.3] = np.nan
    await house.deployed()
    await house.windows(rows)
    answer = (await house.ask({"tolerance": 10.0})).json()
    assert {alarm["dimension"] for alarm in answer["present"]["alarms"]} == {"data"}, "that alarm tells it"
    (alarm,) = answer["proposed"]["alarms"]
    assert alarm["dimension"] == "quality"
    since, at = (datetime.fromisoformat(alarm[name]) for name in ("since", "at"))
    assert since == START + timedelta(seconds=3_000) and at <= since + timedelta(seconds=400)
    (told,) = alarm["features"]
    assert (told["name"], told["measure"], told["unit"], told["tolerance"]) == ("b", "missing", "share", 0.05)
    assert told["before"] < 0.01 and 0.15 < told["now"] < 0.45 and told["interval"][0] < told["effect"]
    off = [{"quality_tolerance": 0.6}, {"quality_alerts": False}]
    for setting in off:
        again = (await house.ask(setting | {"tolerance": 10.0})).json()["proposed"]
        assert again["alarms"] == [] and again | setting == again, "it is tried as it would be set"
    assert not any("quality" in each or "performance" in each for each in answer["not_tried"])


async def test_errors_are_tried_over_the_labels_that_are_known_but_none_of_a_shadows(house: House) -> None:
    random = np.random.default_rng(3)
    wrong = np.concatenate([random.random(2_000) < 0.15, random.random(1_000) < 0.4])
    await house.deployed()
    await house.labels(wrong)
    await house.labels(np.ones(500, bool), 1_000, shadow=True)
    await house.labels(np.ones(500, bool), 1_000, version=2)
    answer = (await house.ask({"expected_error": 0.6})).json()
    assert answer["labels"] == 3_000 and datetime.fromisoformat(answer["labels_from"]) == START
    (alarm,) = answer["present"]["alarms"]
    assert alarm["dimension"] == "performance" and alarm["features"][0]["name"] == "error rate"
    assert START + timedelta(seconds=2_000) < datetime.fromisoformat(alarm["at"]) < START + timedelta(seconds=2_600)
    assert answer["proposed"]["alarms"] == [] and answer["proposed"]["expected_error"] == 0.6
    again = (await house.ask({"expected_error": None, "tolerance": 5.0})).json()["proposed"]
    assert again["alarms"] == [] and again["notes"], "what does not matter any more is a note"


async def test_of_more_labels_than_a_dry_run_looks_at_it_takes_the_newest(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trying, "_LABELS_AT_MOST", 500)
    monkeypatch.setattr(trying, "_LABELS_AT_ONCE", 100)
    await house.deployed()
    await house.labels(np.zeros(1_200, bool))
    answer = (await house.ask({"tolerance": 0.2})).json()
    assert answer["labels"] == 500
    assert datetime.fromisoformat(answer["labels_from"]) == START + timedelta(seconds=700)


def test_the_trial_of_labels_is_the_watch_of_performance_under_the_setting() -> None:
    random = np.random.default_rng(4)
    wrong = np.concatenate([random.random(1_000) < 0.1, random.random(600) < 0.4])
    trial, watch, found = TrialOfLabels("binary", Setting(BUDGET, 0.1, None)), LossWatch("binary"), []
    for block in blocks_of([(float(at), int(missed)) for at, missed in enumerate(wrong)]):
        trial.see(block, datetime.fromtimestamp(block.start_s, UTC))
        watch, finding = watch.observe(block, np.log(5 * BUDGET), None).judge(0.1, None)
        found += [finding] if finding else []
        watch = watch.accepted() if finding else watch
    assert [raised.finding for raised in trial.raised] == found and found[0].kind == "alarm"


def test_the_trial_of_a_setting_is_the_watch_under_it() -> None:
    random = np.random.default_rng(9)
    one, world = streams.watched(random), streams.World(random)
    rows = np.concatenate([world.rows(2_000), world.rows(4_000, "spread")])
    trial, watch, found = Trial(streams.reference_of(one), Setting(BUDGET, 0.1, None)), None, []
    for block in streams.blocks(one, rows):
        trial.see(block.start_s, datetime.fromtimestamp(block.start_s + block.rows, UTC), [block])
        watch = (watch or Watch.start(streams.reference_of(one))).observe([block], block.start_s, BUDGET * 5 // 4)
        watch, finding = watch.judge(streams.reference_of(one), 0.1)
        found += [finding] if finding else []
    assert (trial.windows, trial.rows) == (60, 6_000)
    assert [raised.finding.kind for raised in trial.raised][:1] == [found[0].kind] == ["alarm"]
    assert abs(trial.raised[0].finding.since_s - found[0].since_s) <= 100
