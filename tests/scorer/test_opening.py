"""A model that sleeps in its lane: whenever it is asked it is opened, however the opening before went."""

import asyncio
from dataclasses import replace

import pytest

from services.kit.errors import Refusal, Unavailable
from services.kit.testing import eventually
from services.scorer.lane import Lane

from .test_lane import LIMITS, Model, ask, one


class Bed:
    """Opens a lane's model as a test lets it."""

    def __init__(self, patience_s: float = 30.0) -> None:
        self.models: list[Model] = []
        self.errors: list[Exception] = []
        self.let = asyncio.Event()
        self.tried = asyncio.Event()
        """Set: an opened model may be taken for warm."""
        self.tried.set()
        self.lane = Lane(None, replace(LIMITS, cold_load_s=patience_s), joinable=True, waking=self._open)

    async def _open(self, lane: Lane) -> None:
        self.models.append(Model())
        await self.let.wait()
        if self.errors:
            raise self.errors.pop(0)
        lane.take(self.models[-1])
        await self.tried.wait()
        if self.errors:
            raise self.errors.pop(0)


async def test_a_model_that_was_opened_too_late_and_closed_again_is_opened_anew() -> None:
    bed = Bed(patience_s=0.01)
    assert isinstance(await ask(bed.lane, 1), Unavailable)
    bed.let.set()
    await eventually(bed.lane.sleep)
    assert [await ask(bed.lane, value) for value in (1, 2)] == [2, 4]
    assert [len(model.calls) for model in bed.models] == [0, 2]


async def test_who_asks_after_a_late_failure_gets_an_opening_of_their_own() -> None:
    bed = Bed(patience_s=0.01)
    bed.errors.append(Unavailable("no descriptor is left"))
    assert isinstance(await ask(bed.lane, 1), Unavailable)
    bed.let.set()
    await eventually(lambda: "no descriptor" in bed.lane.trouble)
    assert "no descriptor" in bed.lane.away
    assert await ask(bed.lane, 1) == 2
    assert not bed.lane.away


async def test_a_model_that_failed_when_it_was_tried_is_closed_and_opened_anew() -> None:
    bed = Bed()
    bed.tried.clear()
    bed.let.set()
    asked = asyncio.create_task(ask(bed.lane, 1))
    await eventually(lambda: bed.models)
    bed.errors.append(Unavailable("its process is away"))
    bed.tried.set()
    refusal = await asked
    assert isinstance(refusal, Refusal) and "away" in refusal.message
    assert bed.lane.asleep
    assert await ask(bed.lane, 1) == 2
    assert [len(model.calls) for model in bed.models] == [0, 1]


async def test_nobody_is_answered_by_a_model_that_is_being_tried() -> None:
    bed = Bed(patience_s=0.01)
    bed.tried.clear()
    bed.let.set()
    for _ in range(2):
        assert isinstance(await ask(bed.lane, 1), Unavailable)
    assert bed.models[0].calls == [] and not bed.lane.sleep()
    bed.tried.set()
    await eventually(lambda: not bed.lane.asleep)
    assert await ask(bed.lane, 1) == 2
    assert len(bed.models) == 1


async def test_a_lane_that_was_closed_meanwhile_keeps_no_model() -> None:
    bed = Bed(patience_s=0.01)
    assert isinstance(await ask(bed.lane, 1), Unavailable)
    bed.lane.close()
    bed.let.set()
    await eventually(lambda: bed.models[0].closed)
    with pytest.raises(Unavailable, match="being closed"):
        await bed.lane.run(one(1), 1)
