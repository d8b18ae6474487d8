"""What followed from a bandit's decisions is counted once on each host, through repeats, corrections and restarts."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from contracts import OutcomeObserved, Routing
from deploy.embedded.home import Home
from services.kit.cloudevents import headers
from services.kit.context import Context, system
from services.kit.producer import Producer
from services.kit.settings import Settings
from services.kit.stream import Record
from services.kit.testing import eventually, running
from services.scorer.dataplane import DataPlane
from services.scorer.follower import Follower
from services.scorer.rewards import Rewards, work
from services.scorer.rewards.domain import Experiment, counts, experiments_of, reward_of
from services.scorer.rewards.store import Reward, Store
from services.scorer.routing import Arms

from .making import House, classifier, package

AT = datetime.now(UTC)
EXPERIMENT = Experiment("credit", "s", AT, frozenset({1, 2}))


def outcome(n: int = 1, **more: Any) -> OutcomeObserved:
    given: dict[str, Any] = {
        "inference_id": f"i-{n}", "row": 0, "label": None, "value": None, "endpoint": "credit", "use_case": "loans",
        "model": "credit", "version": 1, "variant": "champion", "prediction": 1.0, "score": 0.7, "entity": None,
        "received_at": AT + timedelta(seconds=1), "observed_at": AT + timedelta(seconds=2),
    }  # fmt: skip
    return OutcomeObserved(**(given | more))


@pytest.mark.parametrize(
    ("said", "reward"),
    [
        ({"value": 0.25}, 0.25), ({"value": 1}, 1.0), ({"value": 12.5, "label": 1}, None), ({"value": -0.1}, None),
        ({"label": 1}, 1.0), ({"label": 0}, 0.0), ({"label": "yes", "prediction": "yes"}, 1.0),
        ({"label": "1.0", "prediction": 1.0}, 1.0), ({"label": "no", "prediction": "yes"}, 0.0), ({}, None),
        ({"label": 1.0, "prediction": "1"}, 1.0), ({"label": 1.0, "shadow_of": "i-0"}, None),
        ({"label": 0.0, "prediction": None}, None), ({"value": 0.5, "prediction": None}, 0.5),
    ],
)  # fmt: skip
def test_a_reward_is_the_value_else_whether_the_prediction_came_true(
    said: dict[str, Any], reward: float | None
) -> None:
    assert reward_of(outcome(**said)) == reward


@pytest.mark.parametrize(
    ("said", "counted"), [({}, True), ({"version": 3}, False), ({"received_at": AT - timedelta(seconds=1)}, False)]
)
def test_what_an_arm_decided_while_the_experiment_runs_counts(said: dict[str, Any], counted: bool) -> None:
    assert counts(outcome(**said), EXPERIMENT) is counted
    assert not counts(outcome(), None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "rewards.sqlite")
    made.run({"credit": EXPERIMENT})
    return made


def arms(store: Store) -> dict[int, tuple[float, int]]:
    return store.sums()["credit"][1]


def reward(n: int, version: int = 1, reward: float = 1.0, row: int = 0, said_ms: int = 1) -> Reward:
    return Reward("credit", f"i-{n}", row, version, reward, said_ms)


def test_what_can_come_no_more_is_forgotten_and_stays_in_the_sums(store: Store, tmp_path: Path) -> None:
    store.fold(0, 2, [reward(1, said_ms=1_000), reward(2, said_ms=2_000)], oldest_ms=500)
    store.fold(1, 2, [reward(2, said_ms=3_000)], oldest_ms=2_500)
    assert arms(store) == {1: (2.0, 2)}
    store.close()
    with closing(sqlite3.connect(tmp_path / "rewards.sqlite")) as file:
        assert file.execute("SELECT inference_id, said_ms FROM reward").fetchall() == [("i-2", 3_000)]


def test_a_file_that_knew_no_ages_goes_on(store: Store, tmp_path: Path) -> None:
    store.fold(0, 2, [reward(1)])
    store.close()
    with closing(sqlite3.connect(tmp_path / "rewards.sqlite")) as file:
        file.executescript("DROP INDEX reward_said; ALTER TABLE reward DROP COLUMN said_ms;")
    again = Store(tmp_path / "rewards.sqlite")
    again.fold(0, 3, [reward(1), reward(2)], oldest_ms=10)
    assert arms(again) == {1: (2.0, 2)}


def test_a_repeat_counts_once_and_a_correction_takes_its_place(store: Store) -> None:
    one, two = reward(1), reward(2, version=2, reward=0.5)
    store.fold(0, 2, [one, two, one])
    store.fold(0, 3, [one])
    assert arms(store) == {1: (1.0, 1), 2: (0.5, 1)}
    store.fold(0, 4, [reward(1, reward=0.0), reward(1, row=1)])
    assert arms(store) == {1: (1.0, 2), 2: (0.5, 1)}


def test_sums_and_places_are_there_after_a_restart_and_move_together(store: Store, tmp_path: Path) -> None:
    store.fold(1, 7, [reward(1)])
    with pytest.raises(ZeroDivisionError):
        store.fold(1, 9, (reward(2, reward=1.0 / zero) for zero in (1, 0)))
    store.close()
    again = Store(tmp_path / "rewards.sqlite")
    again.run({"credit": EXPERIMENT})
    assert (again.places(), arms(again)) == ({1: 7}, {1: (1.0, 1)})


def test_another_experiment_begins_with_nothing_and_reads_the_topic_from_its_beginning(store: Store) -> None:
    store.fold(0, 7, [reward(1)])
    other = Experiment("loans", "t", AT, frozenset({1, 2}))
    store.run({"credit": EXPERIMENT, "loans": other})
    assert (store.places(), arms(store)) == ({}, {1: (1.0, 1)})
    store.run({"loans": other})
    assert store.sums() == {"loans": ("t", {})}


@pytest.mark.parametrize(("decided", "counted"), [(29, True), (31, False)])
def test_an_outcome_of_a_decision_that_is_older_than_what_is_known_is_not_counted(decided: int, counted: bool) -> None:
    """Its earlier outcome may have been counted and forgotten since: a correction would be counted beside it."""
    oldest, since = AT - timedelta(days=30), AT - timedelta(days=60)
    said = outcome(value=1.0, received_at=AT - timedelta(days=decided))
    record = Record(0, int(AT.timestamp() * 1000), b"i-1", said.to_json(), ())
    running = {"credit": replace(EXPERIMENT, since=since)}
    found = work._reward(record, running, int(oldest.timestamp() * 1000))
    assert (found is not None) is counted


class Bandit:
    """One host with a bandit of two arms, its bookkeeping and a worker's data plane."""

    def __init__(self, home: Path, installation: Home) -> None:
        self.name = f"credit-{uuid4().hex[:8]}"
        self.house = House(home, kafka_properties=installation.client_properties("scorer"))
        self.recorder = Settings(home=home, kafka_properties=installation.client_properties("recorder"))
        variants = [
            self.house.variant(self.name, self.house.keep(package(classifier(bias=float(n)))), n, name=name)
            for n, name in ((1, "champion"), (2, "version-2"))
        ]
        routing = Routing(strategy="bandit", salt="s", since=AT)
        self.change = self.house.change(self.name, *variants, routing=routing)
        self.wanted = {self.name: orjson.loads(self.change.to_json())}

    def rewards(self) -> Rewards:
        return Rewards(self.house.settings, lambda: self.wanted)

    async def say(self, *outcomes: OutcomeObserved) -> None:
        about = headers(OutcomeObserved, "recorder", "i", Context(system("recorder")), "retail")
        async with Producer(self.recorder) as producer:
            await producer.send_all([
                (o.topic.name, o.key.encode(), o.model_copy(update={"endpoint": self.name}).to_json(), about)
                for o in outcomes
            ])  # fmt: skip

    async def told(self, arms: dict[str, list[float]]) -> None:
        def same() -> bool:
            said = orjson.loads(self.house.settings.arms_path.read_bytes())
            return said.get(self.name) == {"salt": "s", "arms": arms}

        await eventually(same, within=20)


async def test_outcomes_on_the_topic_move_the_arms_of_every_worker_through_restarts(
    tmp_path: Path, installation: Home, kafka: Path
) -> None:
    bandit = Bandit(tmp_path / "home", installation)
    await bandit.say(*(outcome(n, version=1 + n % 2, value=float(n % 2)) for n in range(10)))
    async with running(bandit.rewards().run()):
        await bandit.told({"1": [0.0, 5], "2": [5.0, 5]})
        await bandit.say(outcome(1, version=2, value=1.0), outcome(2, value=0.5))
        await bandit.told({"1": [0.5, 5], "2": [5.0, 5]})
    await bandit.say(outcome(11, version=2, label=1.0), outcome(12, version=9, label=1.0))
    async with running(bandit.rewards().run()):
        await bandit.told({"1": [0.5, 5], "2": [6.0, 6]})
    bandit.house.settings.run_folder.joinpath("rewards.sqlite").write_bytes(b"torn by the disk" * 400)
    bandit.house.settings.arms_path.unlink()
    async with running(bandit.rewards().run()):
        await bandit.told({"1": [0.5, 5], "2": [6.0, 6]})
    plane = DataPlane(bandit.house.settings)
    await plane.apply(bandit.change)
    await Follower(plane, bandit.house.settings, "worker-0").learn()
    router = plane.endpoints[bandit.name].router
    assert isinstance(router, Arms)
    assert router._arms == {1: (1.5, 5.5), 2: (7.0, 1.0)}


async def test_without_a_bandit_nothing_is_told_of_one(tmp_path: Path, installation: Home, kafka: Path) -> None:
    bandit = Bandit(tmp_path / "home", installation)
    async with running(bandit.rewards().run()):
        await bandit.told({})
        bandit.wanted = {}

        def empty() -> bool:
            return bandit.house.settings.arms_path.read_bytes() == b"{}"

        await eventually(empty, within=20)
    assert experiments_of(bandit.wanted) == {}
