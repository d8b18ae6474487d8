"""Models that answer no chunk and no micro-batch before their deadline: streams and batches come to their end."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from services.kit.models.wire import Tensors, pack, unpack
from services.kit.sandbox import Sandbox
from services.scorer.batches.scoring import score
from services.scorer.endpoints import Endpoint
from services.scorer.lane import Lane, Limits
from services.scorer.logrecord import Origin
from services.scorer.metering import Account
from services.scorer.runtimes.sandboxed import SandboxedRuntime
from services.scorer.served import Served
from services.scorer.streams.items import Item
from services.scorer.streams.work import EndpointWork
from services.scorer.tokenise import Tokeniser
from tests.scorer.making import COLUMNS, NUMBERS, House

from .test_counting import Record

DEADLINE_S, ROW_S = 0.6, 0.005
ENDLESS = 7.0


class Slow:
    """A model behind the sandbox's walls; `asked` are the rows of its calls."""

    def __init__(self) -> None:
        argument = json.dumps([ROW_S, ENDLESS]).encode()
        self.sandbox = Sandbox("tests.scorer.slow_models:slow", argument, deadline_s=DEADLINE_S, load_s=30)
        self.asked: list[int] = []

    async def predict(self, inputs: Tensors) -> Tensors:
        self.asked.append(len(inputs["X"]))
        return unpack(await self.sandbox.call(pack(inputs)))

    async def close(self) -> None:
        await self.sandbox.close()


@pytest.fixture
async def model() -> AsyncIterator[Slow]:
    made = Slow()
    await made.sandbox.start()
    yield made
    await made.close()


@pytest.fixture
def served(model: Slow, tmp_path: Path) -> Served:
    house = House(tmp_path / "home")
    variant = house.variant("credit", "sha256:" + "0" * 64, format="sklearn")
    runtime: Any = model
    limits = Limits(0.5, 4096, 512, 200_000, deadline_s=DEADLINE_S)
    lane = Lane(SandboxedRuntime(runtime, NUMBERS), limits, joinable=True)
    change = house.change("credit", variant)
    origin = Origin.of(change, variant)
    return Served(origin, variant, lane, Tokeniser.of(house.settings.keys), Account(origin))


def rows(count: int) -> dict[str, np.ndarray]:
    return {name: np.random.default_rng(n).normal(size=count) for n, name in enumerate(COLUMNS)}


def decided(columns: dict[str, np.ndarray]) -> list[int]:
    return (np.stack(list(columns.values())).sum(axis=0) > 0).astype(int).tolist()


async def test_every_row_of_a_batch_is_scored_in_calls_that_end_in_time(model: Slow, served: Served) -> None:
    columns = rows(900)
    async with asyncio.timeout(120):
        for _ in range(2):
            scored = await score(columns, served, {})
            assert scored.errors == {}
            assert scored.outputs["label"].tolist() == decided(columns)
            assert model.sandbox.restarts <= 10, "the size of a call is learned once"
    assert max(model.asked[-4:]) * ROW_S < DEADLINE_S


async def test_a_row_over_which_it_never_ends_is_refused_alone(model: Slow, served: Served) -> None:
    columns = rows(200)
    columns["age"][77] = ENDLESS
    async with asyncio.timeout(120):
        scored = await score(columns, served, {})
    assert scored.errors == {77: "the model took too long over this input"}
    assert len(scored.good) == 199
    assert model.asked.count(1) < 20, "and the others are asked together again"


@pytest.mark.parametrize("plain", [True, False], ids=["as one matrix", "by the codec"])
async def test_every_record_of_a_micro_batch_is_scored_in_calls_that_end_in_time(
    model: Slow, served: Served, tmp_path: Path, plain: bool
) -> None:
    house = House(tmp_path / "another")
    endpoint = Endpoint.of(house.change("credit", served.variant), {1: served}, frozenset())

    class One:
        def find(self, name: str) -> Endpoint:
            return endpoint

        async def wait(self, name: str) -> Endpoint:
            return endpoint

    nothing: Any = None
    endpoints: Any = One()
    work = EndpointWork("credit", endpoints, nothing, nothing)
    columns = rows(900)
    items = [Item(Record(n), asking(row, plain)) for n, row in enumerate(np.stack(list(columns.values()), 1).tolist())]
    async with asyncio.timeout(120):
        await work._score(items)
    answers = [orjson.loads(item.answer or b"{}")["outputs"][0]["data"][0] for item in items]
    assert answers == decided(columns)
    assert model.sandbox.restarts <= 10
    assert sum(model.asked) < 5 * 900, "what it answered is not asked again"


def asking(row: list[float], plain: bool) -> bytes:
    """A request; `plain`: as the quick way reads it."""
    tensor = {"name": "X", "shape": [1, 3], "datatype": "FP32", "data": row if plain else [row]}
    return orjson.dumps({"inputs": [tensor]})
