"""The data plane: an endpoint changes as a whole or not at all."""

from pathlib import Path

import orjson
import pytest

from services.kit.context import Caller
from services.kit.errors import Busy, Unavailable
from services.scorer.batches.serving import Serving
from services.scorer.dataplane import DataPlane
from services.scorer.files import write_atomically
from services.scorer.lane import Lane
from services.scorer.runtimes.errors import CannotLoad
from services.scorer.served import Ask
from services.scorer.v2 import BadInput

from .living import rows
from .making import House, classifier, package

CALLER = Caller("application", "application", frozenset({"application"}), frozenset({"retail"}))


async def test_a_version_that_cannot_be_loaded_leaves_none_of_its_companions_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path / "home")
    plane, closed = DataPlane(house.settings), list[Lane]()
    monkeypatch.setattr(Lane, "close", lambda lane: closed.append(lane))
    one = house.variant("credit", house.keep(package(classifier())), 1)
    two = house.variant("credit", house.keep(package(classifier(bias=1e6))), 2)
    broken = house.variant("credit", house.keep(package(b"no model")), 3)
    await plane.apply(house.change("credit", one))
    with pytest.raises(CannotLoad):
        await plane.apply(house.change("credit", one, two, broken, revision=2))
    assert [lane.loaded for lane in closed].count(True) == 1
    assert set(plane.endpoints["credit"].by_version) == {1}
    assert plane.endpoints["credit"].champion.lane not in closed


async def test_a_version_that_the_disk_does_not_take_now_may_be_loaded_later(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    plane = DataPlane(house.settings)
    change = house.change("credit", house.variant("credit", house.keep(package(classifier())), 1))
    folder = house.settings.run_folder / "models"
    folder.write_text("no folder")
    with pytest.raises(Unavailable, match="cannot be opened now"):
        await plane.apply(change)
    folder.unlink()
    await plane.apply(change)
    assert set(plane.endpoints) == {"credit"}


async def test_a_batch_waits_for_an_endpoint_that_may_be_loaded_later(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    change = house.change("credit", house.variant("credit", house.keep(package(classifier())), 1))
    state = {"caught_up": True, "endpoints": {"credit": orjson.loads(change.to_json())}, "floors": {}}
    write_atomically(house.settings.desired_path, orjson.dumps(state))
    serving, folder = Serving(house.settings), house.settings.run_folder / "models"
    folder.write_text("no folder")
    with pytest.raises(Unavailable):
        await serving.needed("credit")
    folder.unlink()
    assert (await serving.needed("credit")).revision == 1


async def test_what_a_caller_got_wrong_is_told_from_what_the_platform_did_not_do(tmp_path: Path) -> None:
    house = House(tmp_path / "home", queue_requests=0)  # what the event loop cannot bear must wait, and none may
    plane = DataPlane(house.settings)
    await plane.apply(house.change("credit", house.variant("credit", house.keep(package(classifier())), 1)))
    with pytest.raises(BadInput):
        await plane.infer("credit", None, Ask(b"{}"), CALLER, "rest")
    with pytest.raises(Busy):
        await plane.infer("credit", None, Ask(orjson.dumps(rows(*[[1.0, 1.0, 1.0]] * 50_000))), CALLER, "rest")
    counts = plane.endpoints["credit"].champion.counts
    assert (counts.refused, counts.faults) == (2, 1)
    assert counts.json() | {"refused": 2, "faults": 1} == counts.json()
