"""The agent's hand-over of desired states: each endpoint as soon as its own packages are here."""

import asyncio
import errno
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from contracts import DeploymentChanged
from services.kit.compacted import Change
from services.kit.errors import Unavailable
from services.kit.objects import Objects
from services.kit.testing import eventually, running
from services.scorer.agent import Agent
from services.scorer.dataplane import DataPlane
from services.scorer.files import write_atomically
from services.scorer.libraries import Libraries
from services.scorer.mending import Mending
from services.scorer.packages import Packages
from services.scorer.runtimes.errors import CannotLoad

from .making import House, classifier, package


class Story:
    """An agent whose topic is told by a test, over an object store where one package takes as long as it is told."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.house, self.agent = house, Agent(house.settings)
        self.slow, self.here = "", asyncio.Event()
        self.fetched: list[str] = []
        fetch = Objects.fetch

        async def fetched(objects: Objects, digest: str, to: Path, *, kept: bool = False) -> Path:
            self.fetched.append(digest)
            if digest == self.slow:
                await self.here.wait()
            return await fetch(objects, digest, to, kept=kept)

        monkeypatch.setattr(Objects, "fetch", fetched)

    async def put(self, bias: float) -> str:
        return await Objects(self.house.settings).put(package(classifier(bias)))

    def says(self, endpoint: str, digest: str | None, revision: int = 1) -> None:
        event = None
        if digest is not None:
            event = self.house.change(endpoint, self.house.variant(endpoint, digest), revision=revision)
        change: Change[DeploymentChanged] = Change(endpoint, event, None, 0)
        self.agent._seen.add(endpoint)
        self.agent._pending[endpoint] = self.agent._newest[endpoint] = change

    def desired(self) -> dict[str, Any]:
        return orjson.loads(self.house.settings.desired_path.read_bytes())

    def wanted(self) -> dict[str, int]:
        return {name: one["revision"] for name, one in self.desired()["endpoints"].items()}


@pytest.fixture
async def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Story]:
    made = Story(House(tmp_path / "home"), monkeypatch)
    made.slow = await made.put(1.0)
    made.says("slow", made.slow)
    made.says("quick", await made.put(2.0))
    made.agent._topic.caught_up.set()
    async with running(made.agent._work()):
        yield made


async def test_a_large_package_holds_up_no_other_state_and_the_host_is_caught_up_when_all_are_there(
    story: Story,
) -> None:
    await eventually(lambda: story.wanted() == {"quick": 1}, within=20)
    story.says("quick", await story.put(3.0), 2)
    await eventually(lambda: story.wanted() == {"quick": 2}, within=20)
    assert not story.desired()["caught_up"], "a new host gets no traffic while it would not know an endpoint"
    story.here.set()
    await eventually(lambda: story.desired()["caught_up"] and story.wanted() == {"quick": 2, "slow": 1}, within=20)


async def test_what_was_removed_or_replaced_while_it_was_fetched_is_not_handed_on(story: Story) -> None:
    await eventually(lambda: story.wanted() == {"quick": 1} and story.slow in story.fetched, within=20)
    story.says("slow", None)
    story.here.set()
    await eventually(lambda: story.desired()["caught_up"], within=20)
    assert story.wanted() == {"quick": 1}


@pytest.mark.parametrize("left", [None, b"", package(b"another")], ids=["lost", "empty", "swapped"])
async def test_what_is_served_and_its_package_is_not_whole_any_more_is_fetched_again(
    left: bytes | None, tmp_path: Path
) -> None:
    nowhere = tmp_path / "kafka.properties"
    nowhere.write_text("bootstrap.servers=127.0.0.1:1\n")
    house = House(tmp_path / "home", kafka_properties=nowhere)
    digest = await Objects(house.settings).put(package(classifier()))
    change = house.change("credit", house.variant("credit", digest))
    state = {"caught_up": True, "endpoints": {"credit": orjson.loads(change.to_json())}, "floors": {"credit": 1}}
    write_atomically(house.settings.desired_path, orjson.dumps(state))
    packages, plane, stop = Packages(house.settings.run_folder, 1 << 20), DataPlane(house.settings), asyncio.Event()

    def spoil() -> None:
        packages.path(digest).parent.mkdir(parents=True, exist_ok=True)
        packages.path(digest).unlink(missing_ok=True)
        if left is not None:
            packages.path(digest).write_bytes(left)

    async def served() -> bool:
        try:
            await plane.apply(change)
        except Unavailable:
            return False
        return True

    spoil()
    async with running(Agent(house.settings).run(stop)):
        await eventually(lambda: packages.whole(digest), within=20)
        spoil()
        assert not await served()
        assert await eventually(served, within=20)
        assert not packages.lacking()
        stop.set()


async def test_a_package_whose_stored_object_was_altered_too_is_told_as_that(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    objects, packages = Objects(house.settings), Packages(house.settings.run_folder, 1 << 20)
    digest = await objects.put(package(classifier()))
    (stored,) = (path for path in house.home.rglob(digest.removeprefix("sha256:")) if path.is_file())
    stored.write_bytes(package(b"another"))
    with pytest.raises(Unavailable, match="it is being fetched"):
        packages.unpack(digest)
    mending = Mending(packages, objects, Libraries(house.settings, packages))

    def told() -> str:
        try:
            packages.unpack(digest)
        except (CannotLoad, Unavailable) as error:
            return str(error)
        return ""

    async with running(mending.run(lambda: {digest})):
        await eventually(lambda: "was altered" in told(), within=20)
        with pytest.raises(CannotLoad, match=r"the stored object .* was altered"):
            packages.unpack(digest)
        stored.write_bytes(package(classifier()))
        await eventually(lambda: not told(), within=30)
        await eventually(lambda: not packages.lacking(), within=20)


async def test_what_a_full_disk_does_not_take_of_a_desired_state_arrives_once_there_is_room(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    await eventually(lambda: story.wanted() == {"quick": 1}, within=20)
    write, refused = Path.write_bytes, list[str]()

    def full(path: Path, data: bytes) -> int:
        if path.name.startswith(".desired"):
            refused.append(path.name)
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    story.says("quick", await story.put(3.0), 2)
    async with running(story.agent._keep_saved()):
        await eventually(lambda: len(refused) > 2, within=20)
        assert story.wanted() == {"quick": 1}
        monkeypatch.setattr(Path, "write_bytes", write)
        await eventually(lambda: story.wanted() == {"quick": 2}, within=20)
