"""What a monitor makes of measured attributions: why there are none, and what can be compared with what."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from contracts import AttributionsMeasured, DecisionsErased, Service, Window
from services.kit.compacted import Change
from services.kit.context import Caller, Claim, Context, system, use
from services.kit.db import Database
from services.kit.ids import uuid7
from services.kit.objects import Objects
from services.kit.settings import Settings
from services.monitor import store
from services.monitor.domain.latency import LatencyCounts
from services.monitor.domain.sample import Sample, place_of
from services.monitor.domain.windows import Part, Sums
from services.monitor.store import WindowKey
from services.monitor.usecases.attributing import Attributing
from services.monitor.usecases.desired import Desired
from services.monitor.usecases.forgetting import Forgetting
from services.monitor.usecases.influences import Influences, Telling
from services.monitor.usecases.versions import Versions

from . import streams
from .saying import deployment, fresh

ENGINEER = Context(Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"})))
START, STEP = datetime(2026, 3, 4, 10, 30, tzinfo=UTC), timedelta(seconds=10)


class Story:
    """An endpoint whose decisions are explained, window after window."""

    def __init__(self, db: Database) -> None:
        self.db, self.endpoint, self.start = db, fresh(), START
        self.random = np.random.default_rng(4)

    async def serve(self) -> None:
        event = deployment(self.endpoint, streams.schema(), "sha256:" + "0" * 64)
        self.model = event.variants[0].model
        await Desired(self.db, Versions(self.db, Objects(Settings()))).learn(Change(self.endpoint, event, None, 0))

    def rows(self, count: int) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(row) for row in self.random.normal(size=(count, 2)).tolist())

    async def hears(self, **said: Any) -> Influences:
        window = Window(**{"from": self.start, "to": self.start + STEP}, rows=20)
        self.start += STEP
        made: dict[str, Any] = {"columns": ("a", "b"), "method": "trees", "scale": "value", "output": "value"}
        said = said if "cannot" in said else made | {"rows": self.rows(20)} | said
        event = AttributionsMeasured(endpoint=self.endpoint, model=self.model, version=1, window=window, **said)
        with use(Context(system("scorer", "retail"))):
            await Attributing(self.db).hear(event)
        with use(ENGINEER):
            return await Telling(self.db).told(self.endpoint, 100)


@pytest.fixture
async def story(service_db: Callable[[Service], Database]) -> AsyncIterator[Story]:
    made = Story(service_db("monitor"))
    with use(Context(system("monitor"))):
        await made.serve()
    yield made


async def test_why_decisions_cannot_be_explained_any_more_is_told_until_they_are_again(story: Story) -> None:
    first = await story.hears(reference=story.rows(200))
    assert first.state == "watching" and first.windows == 1
    ended = await story.hears(cannot="its sandbox\x00is\ngone")
    assert (ended.state, ended.why) == ("impossible", "its sandbox is gone")
    assert ended.reference_rows == 200 and ended.windows == 1
    again = await story.hears()
    assert (again.state, again.why, again.windows, again.reference_rows) == ("watching", None, 2, 200)


async def test_a_reason_that_comes_first_is_told_without_what_a_database_does_not_take(story: Story) -> None:
    assert (await story.hears(cannot="no\x00rows")).why == "no rows"


async def test_an_erasure_takes_rows_out_of_windows_that_are_open(story: Story) -> None:
    rows = {"erased": ("Berlin", 1.0), "kept": ("Paris", 2.0)}
    sample = Sample.of(9, [(place_of(id), row) for id, row in rows.items()])
    part = Part(2, 2, (), Sums.zero(0), LatencyCounts({}), sample=sample)
    keys = [WindowKey(story.endpoint, 1, "retail", START + n * STEP, START + (n + 1) * STEP) for n in range(2)]
    with use(Context(system("monitor", "retail"))):
        async with story.db.transaction() as tx:
            for key in keys:
                await store.add_part(tx.session, key, 0, 0, part)
        erased = DecisionsErased(erasure_id=uuid7(), inference_ids=("erased", "unknown"))
        with use(Context(system("monitor", "retail"), claim=Claim(f"test {erased.erasure_id}"))):  # as the bus has it
            await Forgetting(story.db).forget(erased)
        async with story.db.transaction() as tx:
            left = [each for key in keys for each in await store.take_parts(tx.session, key)]
    assert [each.sample.in_order() for each in left] == [(rows["kept"],)] * 2
    assert [each.rows for each in left] == [2, 2], "what was counted stays"


@pytest.mark.parametrize(
    "other", [{"method": "sampled"}, {"scale": "log-odds"}, {"output": "probabilities[1]"}, {"columns": ("a", "c")}]
)
async def test_decisions_that_are_explained_in_another_way_get_a_reference_of_their_own(
    story: Story, other: dict[str, Any]
) -> None:
    await story.hears(reference=story.rows(200))
    assert (await story.hears()).windows == 2
    unlike = await story.hears(**other)
    assert unlike.known is None and unlike.state == "waiting" and unlike.windows == 0
    anew = await story.hears(**other, reference=story.rows(300))
    assert (anew.state, anew.windows, anew.reference_rows) == ("watching", 1, 300)
    assert anew.known and anew.known.influence
    assert other.items() <= {**anew.known.facts, "columns": anew.known.influence.columns}.items()
