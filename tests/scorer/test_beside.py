"""Versions beside a champion: who answers, who gets a copy, who stands in, and what the log says of it."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest
from prometheus_client import REGISTRY

from contracts import Cohorts, DeploymentChanged, InferenceLogged, ModelSchema, Routing, Variant
from services.kit.context import Caller
from services.kit.errors import Unavailable
from services.kit.testing import eventually, running
from services.scorer import repository
from services.scorer.asgi import ScorerApp
from services.scorer.dataplane import DataPlane
from services.scorer.follower import Follower
from services.scorer.lane import Lane
from services.scorer.loading import Loading
from services.scorer.logrecord import LogRecord
from services.scorer.runtimes import Arrays
from services.scorer.runtimes.errors import CannotLoad, ModelFailed
from services.scorer.served import Answer, Ask, Served
from services.scorer.spool import SegmentReader, Spool, SpoolFull, segments
from services.scorer.v2 import BadInput
from services.scorer.wire import Head, Reply

from .living import rows
from .making import NUMBERS, House, classifier, package

CALLER = Caller("application", "application", frozenset({"application"}), frozenset({"retail"}))
SINCE = datetime(2026, 3, 2, tzinfo=UTC)


class Story:
    """Version 1 is the champion of an endpoint; others answer otherwise, so that they can be told apart."""

    def __init__(self, home: Path) -> None:
        self.house = House(home)
        self.plane = DataPlane(self.house.settings)
        self.revision = 0
        self.champion = self.variant(1)

    def variant(self, version: int, schema: ModelSchema = NUMBERS, **more: Any) -> Variant:
        digest = self.house.keep(package(classifier(bias=float(version))))
        return self.house.variant("credit", digest, version, schema, **more)

    def beside(self, version: int, role: str, *cohorts: tuple[int, int], **more: Any) -> Variant:
        shares = tuple(Cohorts(first=first, last=last) for first, last in cohorts)
        return self.variant(version, name=f"{role}-{version}", role=role, weight=0.0, cohorts=shares, **more)

    async def serves(self, *beside: Variant, strategy: str = "", champion: Variant | None = None) -> DeploymentChanged:
        self.revision += 1
        routing = Routing.model_validate({"strategy": strategy, "salt": "s", "since": SINCE}) if strategy else None
        variants = (champion or self.champion, *beside)
        change = self.house.change("credit", *variants, revision=self.revision, routing=routing)
        await self.plane.apply(change)
        return change

    async def asks(self, entity: str | None = None, version: int | None = None) -> Answer:
        parameters = {"parameters": {"entity": entity}} if entity else {}
        ask = Ask(orjson.dumps(rows([1, 1, 1], **parameters)))
        return self.plane.at_once("credit", version, ask, CALLER, "rest") or await self.plane.infer(
            "credit", version, ask, CALLER, "rest"
        )

    def fails(self, version: int, error: Exception | None = None) -> None:
        """From now on this version's model raises."""

        def predict(_: Arrays) -> Arrays:
            raise error or ZeroDivisionError

        lane = self.plane.endpoints["credit"].by_version[version].lane
        lane._local.predict = predict  # pyright: ignore


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "home")


def told(answer: Answer) -> tuple[str, str, str]:
    """Version and variant that the response names, and the variant in the log."""
    body, logged = orjson.loads(answer.body), answer.record.described()
    assert logged["version"] == answer.version == int(body["model_version"])
    return body["model_version"], body["parameters"]["variant"], logged["variant"]


async def test_an_entity_of_the_canarys_cohorts_is_answered_by_the_canary(story: Story) -> None:
    await story.serves(story.beside(2, "live", (0, 2999)), strategy="canary")
    answers = {n: told(await story.asks(f"customer-{n}")) for n in range(200)}
    assert set(answers.values()) == {("1", "champion", "champion"), ("2", "live-2", "live-2")}
    assert 30 < sum(answer[0] == "2" for answer in answers.values()) < 90
    assert answers == {n: told(await story.asks(f"customer-{n}")) for n in range(200)}


async def test_a_version_that_is_named_answers_whatever_the_shares_are(story: Story) -> None:
    await story.serves(story.beside(2, "live", (0, 9998)), story.beside(3, "shadow"), strategy="ab")
    assert [(await story.asks("x", version)).version for version in (1, 2, 3)] == [1, 2, 3]
    assert (await story.asks("x", 1)).shadows == ()


async def test_other_shares_and_a_promotion_load_nothing_anew(story: Story) -> None:
    canary = story.beside(2, "live", (0, 999))
    await story.serves(canary, strategy="canary")
    lanes = {v: one.lane for v, one in story.plane.endpoints["credit"].by_version.items()}
    more = canary.model_copy(update={"cohorts": (Cohorts(first=0, last=4999),), "weight": 0.5})
    await story.serves(more, strategy="canary", champion=story.champion.model_copy(update={"weight": 0.5}))
    assert {v: one.lane for v, one in story.plane.endpoints["credit"].by_version.items()} == lanes
    await story.serves(champion=canary.model_copy(update={"name": "champion", "cohorts": ()}))
    endpoint = story.plane.endpoints["credit"]
    assert (endpoint.champion.lane, endpoint.plain) == (lanes[2], True)
    assert told(await story.asks()) == ("2", "champion", "champion")
    with pytest.raises(Unavailable, match="being closed"):
        lanes[1]._inline.rows = 0
        await lanes[1].run({"X": np.zeros((1, 3), np.float32)}, 1)


async def test_a_new_host_serves_the_champion_though_a_shadow_cannot_be_loaded(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Loading.loaded

    async def torn(loading: Loading, change: DeploymentChanged, variant: Variant) -> Served:
        if variant.version == 2:
            raise CannotLoad("torn")
        return await load(loading, change, variant)

    monkeypatch.setattr(Loading, "loaded", torn)
    await story.serves(story.beside(2, "shadow"), story.beside(3, "fallback"))
    assert set(story.plane.endpoints["credit"].by_version) == {1, 3}
    assert (await story.asks()).version == 1
    listed = [(one["version"], one["state"], one["reason"]) for one in repository.index(story.plane, CALLER)]
    assert listed == [("1", "READY", ""), ("2", "UNAVAILABLE", "it is not loaded here"), ("3", "READY", "")]
    change = story.plane.endpoints["credit"].change
    assert str((await story.plane.apply(change)).missing) == "torn", "it is tried again"
    monkeypatch.setattr(Loading, "loaded", load)
    assert (await story.plane.apply(change)).missing is None
    assert set(story.plane.endpoints["credit"].by_version) == {1, 2, 3}
    champion = story.plane.endpoints["credit"].champion
    await story.plane.apply(change)
    assert story.plane.endpoints["credit"].champion is champion


async def test_a_withdrawn_canary_stops_and_the_champion_answers_its_entities(story: Story) -> None:
    canary, shadow = story.beside(2, "live", (0, 9998)), story.beside(3, "shadow")
    change = await story.serves(canary, shadow, strategy="canary")
    assert story.plane.withdraw("credit", {str(canary.grant.statement.approval_id)})
    assert told(await story.asks("customer-1"))[0] == "1"
    assert set(story.plane.endpoints["credit"].by_version) == {1, 3}
    again = DataPlane(story.house.settings)
    again.withdraw("credit", {str(canary.grant.statement.approval_id)})
    await again.apply(change)
    assert set(again.endpoints["credit"].by_version) == {1, 3}
    assert story.plane.withdraw("credit", {str(story.champion.grant.statement.approval_id)})
    with pytest.raises(Unavailable, match="withdrawn"):
        await story.asks()


async def test_a_host_says_that_a_withdrawn_canary_is_gone_and_the_rest_serves(story: Story) -> None:
    canary = story.beside(2, "live", (0, 999))
    change = await story.serves(canary, strategy="canary")
    follower = Follower(story.plane, story.house.settings, "worker-0")
    path = story.house.settings.desired_path
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"caught_up": True, "endpoints": {"credit": orjson.loads(change.to_json())}, "floors": {}}
    gone = {"withdrawn": {"credit": [str(canary.grant.statement.approval_id)]}}
    path.write_bytes(orjson.dumps(state | gone))
    loaded = story.house.settings.run_folder / "loaded" / "worker-0.json"

    def said() -> list[tuple[str, list[int]]]:
        return [(one["state"], one["loaded"]) for one in orjson.loads(loaded.read_bytes())["endpoints"].values()]

    async with running(follower.run()):
        await eventually(lambda: said() == [("ready", [1])], within=20)


@pytest.mark.parametrize("error", [None, Unavailable("its process is away")])
async def test_where_a_canary_fails_the_champion_answers_and_the_log_says_for_whom(
    story: Story, error: Exception | None
) -> None:
    await story.serves(story.beside(2, "live", (0, 9998)), strategy="canary")
    story.fails(2, error)
    answer = await story.asks("customer-1")
    answer.count()
    assert told(answer) == ("1", "champion", "champion")
    assert answer.record.described()["instead_of"] == "live-2"
    canary, champion = (story.plane.endpoints["credit"].by_version[v].counts for v in (2, 1))
    assert (canary.failed, canary.inferences, champion.inferences) == (1, 0, 1)


async def test_an_endpoint_is_ready_while_its_fallback_stands_in(story: Story) -> None:
    await story.serves(story.beside(3, "fallback"))
    endpoint = story.plane.endpoints["credit"]
    for version, away in ((1, ""), (3, "it cannot be asked: its process ended")):
        lane = endpoint.by_version[version].lane
        lane._remote = SimpleNamespace(away="its process ended", down="its process ended", rss=0, cpu_s=0.0)  # pyright: ignore
        assert endpoint.away == away


async def test_where_the_champion_fails_the_fallback_answers(story: Story) -> None:
    await story.serves(story.beside(2, "live", (0, 9998)), story.beside(3, "fallback"), strategy="canary")
    assert told(await story.asks("customer-1"))[0] == "2"
    story.fails(2)
    assert told(await story.asks("customer-1"))[0] == "3"
    story.fails(1)
    assert told(await story.asks("customer-1"))[0] == "3"
    story.fails(3)
    with pytest.raises(ModelFailed):
        await story.asks("customer-1")


async def test_a_bad_input_is_refused_and_nobody_stands_in(story: Story) -> None:
    await story.serves(story.beside(3, "fallback"))
    for at_once in (True, False):
        ask = Ask(orjson.dumps(rows([1, 1])))
        with pytest.raises(BadInput, match="shape"):
            if at_once:
                story.plane.at_once("credit", None, ask, CALLER, "rest")
            await story.plane.infer("credit", None, ask, CALLER, "rest")
    counts = story.plane.endpoints["credit"].champion.counts
    assert (counts.refused, counts.failed) == (2, 0)


async def test_what_only_the_canary_refuses_to_read_the_champion_answers(story: Story) -> None:
    """Their schemas have the same columns, and one of them may be missing in one of them."""
    nullable = tuple(column.model_copy(update={"nullable": True}) for column in NUMBERS.columns)
    champion = story.variant(1, NUMBERS.model_copy(update={"columns": nullable}))
    await story.serves(story.beside(2, "live", (0, 9998)), strategy="canary", champion=champion)
    tensor = {"name": "X", "datatype": "FP32", "shape": [1, 3], "data": [1, None, 1]}
    ask = Ask(orjson.dumps({"inputs": [tensor], "parameters": {"entity": "customer-1"}}))
    with pytest.raises(BadInput):
        await story.plane.infer("credit", 2, Ask(ask.body), CALLER, "rest")
    assert (await story.plane.infer("credit", None, ask, CALLER, "rest")).version == 1


async def test_a_bandit_goes_by_what_its_host_learnt_before_and_after_it_is_loaded(story: Story) -> None:
    story.plane.learn("credit", "s", {1: (1.0, 1000.0), 2: (999.0, 1000.0)})
    await story.serves(story.beside(2, "live"), strategy="bandit")
    assert {(await story.asks()).version for _ in range(50)} == {2}
    story.plane.learn("credit", "s", {1: (9999.0, 10000.0), 2: (999.0, 100_000.0)})
    assert {(await story.asks()).version for _ in range(50)} == {1}
    story.plane.learn("credit", "another experiment", {1: (0.0, 10000.0), 2: (10000.0, 10000.0)})
    assert {(await story.asks()).version for _ in range(50)} == {1}


class App:
    """A worker's application, without a socket."""

    def __init__(self, story: Story, **settings: Any) -> None:
        made = story.house.settings.model_copy(update=settings)
        self.spool = Spool(made.spool_folder / "0", limit=made.spool_bytes, segment_bytes=made.spool_segment_bytes)
        self.app = ScorerApp(made, "worker-0", story.plane, self.spool, Follower(story.plane, made, "worker-0"))
        token = story.house.token().encode()
        self._head = Head.read("/v2/models/credit/infer", [(b"authorization", b"Bearer " + token)])

    def asks(self, **more: Any) -> dict[str, Any]:
        reply = self.app.at_once(self._head, orjson.dumps(rows([1, 1, 1], **more)))
        assert isinstance(reply, Reply)
        return orjson.loads(reply.body)

    async def logged(self) -> list[dict[str, Any]]:
        await self.app._shadows.idle()
        entries = [entry for path in segments(self.spool.folder) for entry in SegmentReader(path).read(10**7).entries]
        return [orjson.loads(LogRecord.from_spool(entry.payload).value("w", entry.seq)) for entry in entries]


@pytest.fixture
def worker(story: Story) -> Iterator[Callable[..., App]]:
    made: list[App] = []

    def start(**settings: Any) -> App:
        made.append(App(story, **settings))
        return made[-1]

    yield start
    for app in made:
        REGISTRY.unregister(app.app._counters)
        app.spool.close()


async def test_a_shadow_scores_a_copy_after_the_answer_and_its_log_says_of_which(
    story: Story, worker: Callable[..., App]
) -> None:
    await story.serves(story.beside(2, "shadow"))
    app = worker()
    answered = app.asks(id="r-1", parameters={"entity": "customer-7"})
    assert answered["model_version"] == "1"
    assert app.spool.appended == 1  # the shadow has not begun
    real, copy = await app.logged()
    assert (real["version"], "shadow_of" in real) == (1, False)
    assert (copy["version"], copy["variant"], copy["shadow_of"]) == (2, "shadow-2", real["inference_id"])
    assert copy["inference_id"] != real["inference_id"]
    assert [copy[n] == real[n] for n in ("entity", "request_id", "application", "received_at", "request")] == [True] * 5
    assert copy["answered"] == {name: real[name] for name in ("version", "variant", "latency_ms", "response")}
    assert InferenceLogged.model_validate(copy) and "answered" not in real


async def test_a_shadow_keeps_its_payload_where_what_was_answered_keeps_its_own(
    story: Story, worker: Callable[..., App]
) -> None:
    await story.serves(story.beside(2, "shadow"))
    for served in story.plane.endpoints["credit"].by_version.values():
        served.records.payload_sample = 0.5
    app = worker()
    for _ in range(40):
        app.asks()
    logged = await app.logged()
    reals = {each["inference_id"]: each.get("sampled", True) for each in logged if "shadow_of" not in each}
    copies = [each for each in logged if "shadow_of" in each]
    kept = [each.get("sampled", True) for each in copies]
    assert kept == [reals[each["shadow_of"]] for each in copies] and set(kept) == {True, False}
    assert ["response" in each["answered"] for each in copies] == kept


async def test_a_shadow_that_fails_or_is_away_costs_nobody_an_answer(story: Story, worker: Callable[..., App]) -> None:
    await story.serves(story.beside(2, "shadow"))
    app = worker()
    for error in (None, Unavailable("away"), ModelFailed("no")):
        story.fails(2, error)
        assert app.asks()["model_version"] == "1"
        assert len(await app.logged()) == app.spool.appended
    counts = story.plane.endpoints["credit"].by_version[2].counts
    assert (counts.shadow_dropped, counts.refused) == (1, 2)
    failed = [each for each in await app.logged() if "failed" in each]
    assert app.spool.appended == 3 + len(failed) and len(failed) == 2
    assert {each["failed"] for each in failed} == {"ModelFailed"}
    assert all(each["rows"] == 1 and each["request"] == {} and not each["sampled"] for each in failed)
    assert all("response" not in each["answered"] and InferenceLogged.model_validate(each) for each in failed)


async def test_copies_beyond_the_queue_are_dropped_and_counted(story: Story, worker: Callable[..., App]) -> None:
    await story.serves(story.beside(2, "shadow"))
    app = worker()
    for _ in range(1200):
        app.asks()
    logged = await app.logged()
    assert (sum("shadow_of" in one for one in logged), len(logged)) == (1000, 2200)
    assert story.plane.endpoints["credit"].by_version[2].counts.shadow_dropped == 200


async def test_copies_that_wait_hold_what_was_read_and_told_within_a_bound(
    story: Story, worker: Callable[..., App], monkeypatch: pytest.MonkeyPatch
) -> None:
    await story.serves(story.beside(2, "shadow"))
    app = worker()
    app.asks()
    (copy,) = app.app._shadows._waiting
    await app.logged()
    told = len(copy.head) + len(copy.response)
    bound = len(copy.ask.body) + told + 4
    monkeypatch.setattr("services.scorer.shadows._MOST_BYTES", bound)  # the body, and one of its three numbers
    app.asks()
    assert [("shadow_of" in one) for one in await app.logged()] == [False, True, False]
    assert story.plane.endpoints["credit"].by_version[2].counts.shadow_dropped == 1


async def test_a_log_that_is_half_full_keeps_its_room_for_what_callers_were_told(
    story: Story, worker: Callable[..., App]
) -> None:
    await story.serves(story.beside(2, "shadow"))
    app = worker(spool_bytes=1)
    app.spool._limit = 10**9
    app.asks()
    assert [one["version"] for one in await app.logged()] == [1]
    assert story.plane.endpoints["credit"].by_version[2].counts.shadow_dropped == 1


async def test_a_copy_is_counted_once_as_logged_or_as_refused_or_as_dropped(
    story: Story, worker: Callable[..., App], monkeypatch: pytest.MonkeyPatch
) -> None:
    await story.serves(story.beside(2, "shadow"))
    app = worker(spool_bytes=10**9)
    for _ in range(32):
        app.asks()
    append, left = app.spool.append, iter(range(20))

    def until_full(payload: bytes) -> int:
        if next(left, None) is None:
            raise SpoolFull("the log has no room")
        return append(payload)

    monkeypatch.setattr(app.spool, "append", until_full)
    assert sum("shadow_of" in one for one in await app.logged()) == 20
    counts = story.plane.endpoints["credit"].by_version[2].counts
    assert (counts.inferences, counts.shadow_dropped, counts.refused) == (20, 12, 0)


async def test_a_shadow_whose_answers_cannot_be_written_is_told_for_each_copy_and_ends_no_other(
    story: Story, worker: Callable[..., App]
) -> None:
    await story.serves(story.beside(2, "shadow"), story.beside(3, "shadow"))
    lane = story.plane.endpoints["credit"].by_version[2].lane
    lane._local.predict = lambda inputs: {"label": inputs["X"][:, 0]}
    app = worker()
    for _ in range(5):
        app.asks()
    logged = await app.logged()
    copies = [one for one in logged if "shadow_of" in one]
    assert sorted((one["version"], "failed" in one) for one in copies) == [(2, True)] * 5 + [(3, False)] * 5
    assert story.plane.endpoints["credit"].by_version[2].counts.refused == 5


async def test_a_shadow_that_works_long_delays_no_answer(
    story: Story, worker: Callable[..., App], monkeypatch: pytest.MonkeyPatch
) -> None:
    await story.serves(story.beside(2, "shadow"))
    began, go_on = asyncio.Event(), asyncio.Event()
    call = Lane._outputs

    async def slowly(lane: Lane, inputs: Arrays, rows: int, params: bytes = b"") -> Arrays:
        began.set()
        await go_on.wait()
        return await call(lane, inputs, rows, params)

    monkeypatch.setattr(Lane, "_outputs", slowly)
    app = worker()
    app.asks()
    await asyncio.wait_for(began.wait(), 10)
    assert [app.asks()["model_version"] for _ in range(20)] == ["1"] * 20
    go_on.set()
    assert sum("shadow_of" in one for one in await app.logged()) == 21
