"""Following the desired state: nothing that is wrong for a moment ends it."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from contracts import DeploymentChanged, Variant
from services.kit.context import Caller
from services.kit.errors import NotFound, Unavailable
from services.kit.testing import eventually, running
from services.scorer.dataplane import DataPlane
from services.scorer.files import Watched, write_atomically
from services.scorer.follower import Follower
from services.scorer.loading import Loading
from services.scorer.runtimes.errors import CannotLoad
from services.scorer.served import Served

from .making import House, classifier, package

CALLER = Caller("application", "application", frozenset({"application"}), frozenset({"retail"}))


@pytest.mark.parametrize("left", [b"", bytes(64), b'{"endpoints'])
def test_a_file_that_a_power_loss_left_says_nothing_until_it_is_written_again(tmp_path: Path, left: bytes) -> None:
    path = tmp_path / "desired.json"
    path.write_bytes(left)
    watched = Watched(path)
    assert watched.changed() is None
    write_atomically(path, b'{"endpoints":{}}')
    assert (watched.changed(), watched.changed()) == ({"endpoints": {}}, None)


async def test_a_file_that_cannot_be_opened_for_a_while_is_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = House(tmp_path / "home").settings
    follower = Follower(DataPlane(settings), settings, "worker-0")
    write_atomically(settings.desired_path, orjson.dumps({"caught_up": True, "endpoints": {}, "floors": {}}))
    tried: list[Path] = []

    def no_descriptor(path: Path) -> bytes:
        tried.append(path)
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", no_descriptor)
        following = asyncio.create_task(follower.run())
        await eventually(lambda: len(tried) > 1, within=10)
    await eventually(lambda: follower.caught_up, within=10)
    following.cancel()


class Hold:
    """A data plane whose endpoints load as a test lets them."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.house = house
        self.plane = DataPlane(house.settings)
        self.follower = Follower(self.plane, house.settings, "worker-0")
        self.held: dict[str, asyncio.Event] = {}
        self.broken: set[str] = set()
        self.tried: list[str] = []
        self.looks = 0
        self._wanted: dict[str, DeploymentChanged] = {}
        load, learn = Loading.loaded, Follower.learn

        async def held(loading: Loading, change: DeploymentChanged, variant: Variant) -> Served:
            self.tried.append(change.endpoint)
            if change.endpoint in self.held:
                await self.held[change.endpoint].wait()
            if change.endpoint in self.broken:
                raise CannotLoad("torn")
            return await load(loading, change, variant)

        async def counted(follower: Follower) -> None:
            self.looks += 1
            await learn(follower)

        monkeypatch.setattr(Loading, "loaded", held)
        monkeypatch.setattr(Follower, "learn", counted)

    def wants(self, *names: str, **changes: DeploymentChanged) -> None:
        wanted = {name: self._wanted.get(name) or self.house.serving(name, classifier()) for name in names}
        self._wanted = wanted | changes
        said = {name: orjson.loads(change.to_json()) for name, change in self._wanted.items()}
        state = orjson.dumps({"caught_up": True, "endpoints": said, "floors": {}})
        write_atomically(self.house.settings.desired_path, state)

    def serves(self, *names: str) -> bool:
        return self.plane.endpoints.keys() == set(names)


@pytest.fixture
async def hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hold]:
    monkeypatch.setattr("services.scorer.follower._FIRST_PAUSE_S", 0.001)
    made = Hold(House(tmp_path / "home"), monkeypatch)
    async with running(made.follower.run()):
        yield made


async def test_an_endpoint_that_takes_long_holds_up_no_other_and_is_refused_for_a_while(hold: Hold) -> None:
    hold.held["slow"] = asyncio.Event()
    hold.wants("slow", "quick")
    await eventually(lambda: hold.serves("quick"), within=20)
    assert hold.follower.behind == ["slow"]
    with pytest.raises(Unavailable, match="being loaded"):
        hold.plane.find("slow", CALLER)
    with pytest.raises(NotFound):
        hold.plane.find("unknown", CALLER)
    hold.held["slow"].set()
    await eventually(lambda: hold.serves("slow", "quick"), within=20)


async def test_what_never_loads_keeps_nothing_else_from_loading(hold: Hold) -> None:
    bad = [f"bad-{n}" for n in range(6)]
    hold.broken = set(bad)
    hold.wants(*bad)
    await eventually(lambda: set(hold.tried) == set(bad), within=20)
    hold.held = {name: asyncio.Event() for name in bad}
    await eventually(lambda: len(hold.follower._reaching) == 6, within=20)  # all at it again, for long
    hold.wants(*bad, "good")
    await eventually(lambda: hold.serves("good"), within=20)


async def test_what_failed_and_is_wanted_no_more_is_forgotten(hold: Hold) -> None:
    hold.broken = {"bad"}
    hold.wants("bad", "good")
    await eventually(lambda: hold.serves("good") and hold.tried.count("bad") > 1, within=20)
    hold.wants("good")
    loaded = hold.house.settings.run_folder / "loaded" / "worker-0.json"
    await eventually(lambda: orjson.loads(loaded.read_bytes())["endpoints"].keys() == {"good"}, within=20)
    assert not hold.follower._failed
    written, looked = loaded.stat().st_ino, hold.looks
    await eventually(lambda: hold.looks > looked + 3, within=20)
    assert loaded.stat().st_ino == written, "nothing is said anew where nothing is new"


async def test_an_endpoint_that_was_removed_while_it_was_loaded_does_not_serve(hold: Hold) -> None:
    hold.held["slow"] = asyncio.Event()
    hold.wants("slow", "quick")
    await eventually(lambda: hold.serves("quick"), within=20)
    hold.wants("quick")
    await eventually(lambda: not hold.plane.awaited.keys() & {"slow"}, within=20)
    hold.held["slow"].set()
    await eventually(lambda: not hold.follower._reaching, within=20)
    assert hold.serves("quick")


async def test_a_champion_that_serves_is_told_though_something_beside_it_cannot_be_loaded(hold: Hold) -> None:
    house = hold.house
    digest = house.keep(package(b"no model"))
    shadow = house.variant("credit", digest, 2, name="shadow", role="shadow")
    champion = house.serving("credit", classifier()).variants[0]
    hold.wants(credit=house.change("credit", champion, shadow))
    await asyncio.wait_for(hold.follower.changed.wait(), 20)
    assert hold.serves("credit")
    loaded = house.settings.run_folder / "loaded" / "worker-0.json"
    await eventually(lambda: orjson.loads(loaded.read_bytes())["endpoints"]["credit"]["state"] == "failed", within=20)
    assert orjson.loads(loaded.read_bytes())["endpoints"]["credit"]["loaded"] == [1]


async def test_a_worker_begins_without_what_is_slow_unless_another_one_answers_for_it(hold: Hold) -> None:
    hold.held["slow"] = asyncio.Event()
    hold.wants("slow", "quick")
    async with asyncio.timeout(20):
        await eventually(lambda: hold.serves("quick"), within=20)
        await hold.follower.settled(patience_s=0.0)
        said = {"pid": os.getpid(), "endpoints": {"slow": {"revision": 1, "loaded": [1]}}}
        write_atomically(hold.house.settings.run_folder / "loaded" / "worker-1.json", orjson.dumps(said))
        waiting = asyncio.create_task(hold.follower.settled(patience_s=0.0))
        looked = hold.looks
        await eventually(lambda: hold.looks > looked + 3, within=20)
        assert not waiting.done()
        hold.held["slow"].set()
        await waiting
    assert hold.serves("slow", "quick")
