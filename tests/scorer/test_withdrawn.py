"""A version whose approval was withdrawn answers nobody, however long its successor takes to load."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from contracts import DeploymentChanged, Service
from deploy.embedded.home import Home
from services.kit.context import Caller
from services.kit.errors import NotFound, Unavailable
from services.kit.testing import eventually, running
from services.scorer import repository
from services.scorer.batches.serving import Serving
from services.scorer.dataplane import DataPlane
from services.scorer.files import write_atomically
from services.scorer.follower import Follower
from services.scorer.loading import Loading
from services.scorer.served import Ask, Served

from .hosting import Host
from .living import rows
from .making import House, classifier, package

CALLER = Caller("application", "application", frozenset({"application"}), frozenset({"retail"}))
STRANGER = Caller("application", "application", frozenset({"application"}), frozenset({"wealth"}))


class Slow:
    """Loads nothing until it may."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
        self.began, self.go_on = asyncio.Event(), asyncio.Event()
        load = Loading.loaded

        async def slowly(loading: Loading, change: DeploymentChanged, variant: Any) -> Served:
            if variant.version == version:
                self.began.set()
                await self.go_on.wait()
            return await load(loading, change, variant)

        monkeypatch.setattr(Loading, "loaded", slowly)


class Story:
    """Version 1 serves; 2 shall. The desired state is written as the agent writes it."""

    def __init__(self, home: Path) -> None:
        self.house = House(home)
        self.one = self.house.serving("credit", classifier())
        self.two = self.house.serving("credit", classifier(bias=1e6), version=2, revision=2)
        self.plane = DataPlane(self.house.settings)
        self.follower = Follower(self.plane, self.house.settings, "worker-0")

    def write(self, change: DeploymentChanged, *withdrawn: DeploymentChanged) -> None:
        approvals = [str(one.variants[0].grant.statement.approval_id) for one in withdrawn]
        state = {"caught_up": True, "endpoints": {"credit": orjson.loads(change.to_json())}, "floors": {},
                 "withdrawn": {"credit": approvals}}  # fmt: skip
        write_atomically(self.house.settings.desired_path, orjson.dumps(state))

    async def version(self) -> int:
        ask = Ask(orjson.dumps(rows([1, 1, 1])))
        return (await self.plane.infer("credit", None, ask, CALLER, "rest")).version


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "home")


@pytest.fixture
async def following(story: Story) -> AsyncIterator[None]:
    task = asyncio.create_task(story.follower.run())
    yield
    task.cancel()


@pytest.mark.usefixtures("following")
async def test_it_stops_while_its_successor_is_being_loaded(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch, version=2)
    story.write(story.one)
    await eventually(lambda: "credit" in story.plane.endpoints, within=10)
    story.write(story.two)
    await asyncio.wait_for(slow.began.wait(), 10)
    assert await story.version() == 1
    story.write(story.two, story.one)
    await eventually(lambda: "credit" in story.plane.stopped, within=5)
    with pytest.raises(Unavailable, match=r"withdrawn; its successor is being loaded"):
        await story.version()
    (account,) = [each for each in story.plane.meter.accounts if each.origin.version == 1]
    assert (account.refused, account.faults) == (1, 1), "its callers saw that"
    with pytest.raises(NotFound):
        story.plane.find("credit", STRANGER)
    assert listed(story) == [("1", "UNAVAILABLE", story.plane.why_stopped("credit"))]
    assert repository.index(story.plane, STRANGER) == []
    said = orjson.loads((story.house.settings.run_folder / "loaded" / "worker-0.json").read_bytes())
    assert said["endpoints"] == {}
    slow.go_on.set()
    await eventually(lambda: "credit" in story.plane.endpoints, within=10)
    assert await story.version() == 2
    assert listed(story) == [("2", "READY", "")]


def listed(story: Story) -> list[tuple[str, str, str]]:
    """What the repository's index says of each version."""
    return [(one["version"], one["state"], one["reason"]) for one in repository.index(story.plane, CALLER)]


@pytest.mark.usefixtures("following")
async def test_one_that_is_withdrawn_while_it_is_loaded_never_serves(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch, version=2)
    story.write(story.two)
    await asyncio.wait_for(slow.began.wait(), 10)
    assert listed(story) == [("2", "LOADING", "endpoint credit is being loaded; try again")]
    assert repository.index(story.plane, STRANGER) == repository.index(story.plane, CALLER, ready_only=True) == []
    story.write(story.two, story.two)
    await asyncio.sleep(0.3)
    slow.go_on.set()
    await eventually(lambda: "credit" in story.plane.stopped, within=10)
    with pytest.raises(Unavailable):
        await story.version()


@pytest.mark.parametrize("meanwhile", ["removed", "withdrawn"])
async def test_what_the_next_state_goes_on_with_is_not_closed_under_it(
    story: Story, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    slow, (one,) = Slow(monkeypatch, version=2), story.one.variants
    again = story.house.variant("credit", one.digest)  # the same version under an approval of its own
    shadow = story.two.variants[0].model_copy(update={"name": "shadow", "role": "shadow"})
    await story.plane.apply(story.one)
    coming = asyncio.create_task(story.plane.apply(story.house.change("credit", again, shadow, revision=2)))
    await asyncio.wait_for(slow.began.wait(), 10)
    if meanwhile == "removed":
        story.plane.remove("credit")
    else:
        assert story.plane.withdraw("credit", [str(one.grant.statement.approval_id)])
    assert "credit" not in story.plane.endpoints
    slow.go_on.set()
    await coming
    assert await story.version() == 1
    lanes = [served.lane for served in story.plane.endpoints["credit"].by_version.values()]
    story.plane.remove("credit")
    assert all(lane.ended for lane in lanes)


async def test_a_restarted_process_does_not_load_it_again(story: Story) -> None:
    story.write(story.one, story.one)
    async with running(story.follower.run()):
        await eventually(lambda: story.follower.behind == [] and set(story.plane.stopped) == {"credit"}, within=20)
        assert story.plane.endpoints == {}
        story.write(story.two, story.one)
        await eventually(lambda: "credit" in story.plane.endpoints, within=20)
    assert (await story.version(), story.plane.stopped) == (2, {})


async def test_a_batch_waits_for_the_successor(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    serving = Serving(story.house.settings)
    story.write(story.one)
    assert (await serving.needed("credit")).revision == 1
    story.write(story.one, story.one)
    with pytest.raises(Unavailable, match="withdrawn"):
        await serving.needed("credit")
    slow = Slow(monkeypatch, version=2)
    story.write(story.two, story.one)
    needed = asyncio.create_task(serving.needed("credit"))
    await asyncio.wait_for(slow.began.wait(), 10)
    story.write(story.two, story.one, story.two)
    slow.go_on.set()
    with pytest.raises(Unavailable, match="withdrawn"):
        await needed


async def test_a_host_acts_on_a_withdrawal_before_it_has_fetched_the_successor(
    tmp_path: Path, installation: Home, kafka: Path, service_url: Callable[[Service], str]
) -> None:
    clients = {name: installation.client_properties(name) for name in ("scorer", "deployer", "operator")}
    host, endpoint = Host(House(tmp_path / "home"), clients, service_url("scorer")), f"credit-{uuid4().hex[:8]}"
    host.start()
    try:
        one = await host.deploy(endpoint, classifier())
        await host.serves(endpoint)
        gone = (one.variants[0].grant.statement.approval_id,)
        successor = package(classifier(bias=1e6))
        digest = host.house.keep(successor)
        (host.house.settings.run_folder / "packages" / f"{digest.removeprefix('sha256:')}.zip").unlink()
        variant = host.house.variant(endpoint, digest, 2)  # its package is nowhere: it cannot be fetched
        await host.say(host.house.change(endpoint, variant, revision=2))
        await asyncio.sleep(1)
        assert (await host.infer(endpoint)).json()["model_version"] == "1"
        await host.say(host.house.change(endpoint, variant, revision=3, withdrawn=gone))

        async def stopped() -> bool:
            return (await host.infer(endpoint)).status_code == 503

        await eventually(stopped, within=10)
        answer = await host.infer(endpoint)
        assert "withdrawn" in answer.json()["error"]
        assert answer.headers["retry-after"] == "1"
        await host.kill("worker")
        await eventually(stopped, within=20)
        await host.deploy(endpoint, classifier(bias=1e6), version=2, revision=4, withdrawn=gone)
        await host.serves(endpoint, "2")
    finally:
        print(host.log_text()[-5000:])
        assert host.stop() == 0
