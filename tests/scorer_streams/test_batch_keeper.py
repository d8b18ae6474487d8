"""What a schedule does with files that cannot be read, and with those that nobody could score."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from contracts import Service
from services.kit.connections import Connections
from services.kit.context import Caller, Context, system, use
from services.kit.db import Database
from services.kit.errors import NotFound, Refusal, Unavailable
from services.kit.health import Progress
from services.kit.ids import now, uuid7
from services.kit.objects import Objects
from services.scorer.batches.inputs import Inputs
from services.scorer.batches.places import Place, Places
from services.scorer.batches.schedules import keeper, store
from services.scorer.batches.schedules.domain import Order, Schedule
from services.scorer.batches.schedules.keeper import Keeper
from services.scorer.batches.usecases import Batches
from services.scorer.endpoints import Endpoint
from tests.scorer.making import House

from .test_batches import connect


@dataclass(frozen=True)
class Archive(Places):
    """An object store that lists files which it does not give."""

    asked: list[str] = field(default_factory=list[str])

    async def take(self, place: Place, unit: str, to: Path, most: int) -> str:
        self.asked.append(place.path)
        if "archived" in place.path:
            raise Unavailable(f"{place.path} is archived")
        return await super().take(place, unit, to, most)


class Desk:
    """A keeper that looks when it is told, at a folder of files that are no table."""

    def __init__(self, house: House, db: Database) -> None:
        self.folder = connect(house.settings) / "in"
        self.folder.mkdir()
        self.places, self.db = Archive(Connections.of(house.settings)), db
        self.refusal: Refusal | None = None
        objects = Objects(house.settings)
        batches = Batches(db, objects, Inputs.of(house.settings, objects), self._find, self.places)
        self.keeper = Keeper(db, self.places, batches, Progress())
        order = Order.model_validate({"endpoint": "loans", "arrives": {"connection": "rows", "prefix": "in"}})
        self.schedule = Schedule(
            uuid7(), "retail", "loans", "till", order.model_dump_json(), "active", None, 0, None, now()
        )

    async def _find(self, name: str, caller: Caller) -> Endpoint:
        raise self.refusal or NotImplementedError

    def has(self, *names: str) -> None:
        for name in names:
            (self.folder / name).write_bytes(b"no table")

    async def look(self) -> str | None:
        """Why the schedule cannot be followed now; what it tried to fetch is in `places.asked`."""
        self.places.asked.clear()
        with use(Context(system("scorer", "retail"))):
            await self.keeper._follow(self.schedule)
            async with self.db.reading() as session:
                return (await store.get(session, self.schedule.id)).reason


@pytest.fixture
async def desk(
    tmp_path: Path, service_db: Callable[[Service], Database], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Desk]:
    monkeypatch.setattr(keeper, "_SETTLED", -keeper._SETTLED)
    made = Desk(House(tmp_path / "home"), service_db("scorer"))
    with use(Context(system("scorer"))):
        async with made.db.transaction(unit="retail") as tx:
            await store.add(tx.session, made.schedule)
    yield made


async def test_files_that_are_never_given_hold_up_none_that_comes_behind_them(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_PUT_OFF_S", 0.0)  # all that failed are due again at each look
    monkeypatch.setattr(Batches, "endpoint_of", lambda *_: asyncio.sleep(0))
    monkeypatch.setattr(Batches, "of_schedule", lambda *_: asyncio.sleep(0))
    archived = [f"archived-{n:02}.csv" for n in range(9)]
    desk.has(*archived, "fresh.csv")
    for _ in range(4):
        await desk.look()
        if "in/fresh.csv" in desk.places.asked:
            break
    assert "in/fresh.csv" in desk.places.asked, "three failed at each look, and then it was its turn"
    reason = await desk.look()
    assert reason and "archived" in reason
    (desk.folder / archived[0]).unlink()
    await desk.look()
    assert len(desk.keeper._put_off[desk.schedule.id]) == 8, "what is gone is forgotten"


def test_a_file_that_fails_again_and_again_is_asked_for_less_and_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    one, pauses = keeper._PutOff(), list[float]()
    for _ in range(8):
        one.again("archived")
        pauses.append(one.due)
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600]


@pytest.mark.parametrize("refusal", [Unavailable("loans is being loaded"), NotFound("there is no loans")])
async def test_no_file_is_fetched_for_an_endpoint_that_cannot_score_it(desk: Desk, refusal: Refusal) -> None:
    desk.has("a.csv", "b.csv")
    desk.refusal = refusal
    for _ in range(2):
        assert await desk.look() == refusal.message
        assert desk.places.asked == []
    assert desk.keeper._put_off[desk.schedule.id] == {}, "it is no file's fault"
