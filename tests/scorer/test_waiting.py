"""Requests that wait for a busy model: how many may, how long each does, and who is told what."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from services.kit.testing import eventually
from services.scorer.runtimes.external import ExternalRuntime

from .living import Worker, bearer
from .making import House, classifier
from .test_declared_models import approve, asked, external, registered, serve

pytestmark = pytest.mark.timeout(120)
BODY = asked([1, 2, 3], datatype="FP32")
UNDER_WAY = ExternalRuntime.calls
QUEUE = 4


class Slow:
    """A worker whose one model is asked elsewhere, at a server that can be made to say nothing for a while."""

    def __init__(self, far: Worker, near: Worker, token: str) -> None:
        self._far = far
        self.near = near
        self.http = httpx.AsyncClient(base_url=near.url, headers=bearer(token), timeout=60)

    def hold(self) -> None:
        """It takes connections, and answers nothing."""
        os.kill(self._far.pid, signal.SIGSTOP)

    def release(self) -> None:
        os.kill(self._far.pid, signal.SIGCONT)

    async def ask(self, **headers: str) -> httpx.Response:
        return await self.http.post("/v2/models/rating/infer", json=BODY, headers=headers)

    async def asking(self, count: int, **headers: str) -> list["asyncio.Task[httpx.Response]"]:
        """So many callers, one behind the other, all of whom wait."""
        tasks: list[asyncio.Task[httpx.Response]] = []
        for _ in range(count):
            wanted = await self.waiting() + 1
            tasks.append(asyncio.create_task(self.ask(**headers)))
            await eventually(lambda wanted=wanted: self._is_waiting(wanted), within=20)
        return tasks

    async def _is_waiting(self, count: float) -> bool:
        return await self.waiting() == count

    async def waiting(self) -> float:
        """As the metrics tell."""
        return await self.metric("fairlead_scorer_waiting")

    async def metric(self, name: str, *labels: str) -> float:
        lines = (await self.http.get("/metrics")).text.splitlines()
        found = [line for line in lines if line.startswith(name + "{") and all(label in line for label in labels)]
        return sum(float(line.rpartition(" ")[2]) for line in found)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Slow]:
    house, other = House(tmp_path / "home"), House(tmp_path / "other")
    limits = {"FAIRLEAD_QUEUE_REQUESTS": str(QUEUE), "FAIRLEAD_REQUEST_S": "30"}
    with Worker(other) as far, Worker(house, **limits) as near:
        far.deploy(other.serving("inner", classifier()))
        approve(house, far.url, other.token())
        made = registered(house, external(tmp_path / "rating", timeout_s=60))
        assert serve(house, near, "rating", made) is None
        slow = Slow(far, near, house.token())
        assert near.infer("rating", BODY, house.token()).status_code == 200
        yield slow
        slow.release()


@asynccontextmanager
async def held(slow: Slow) -> AsyncIterator[None]:
    """The model says nothing for the block."""
    slow.hold()
    try:
        yield
    finally:
        slow.release()


async def test_beyond_the_queue_callers_are_told_to_come_back_and_those_who_wait_are_answered(slow: Slow) -> None:
    async with held(slow):
        waiting = await slow.asking(UNDER_WAY + QUEUE)
        refused = await asyncio.gather(*(slow.ask() for _ in range(3)))
        for answer in refused:
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1"), answer.text
            assert answer.json() == {"error": "too many requests wait for this model; try again after a while"}
        assert await slow.metric("fairlead_scorer_errors_total", 'status="429"') == 3
    assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}
    assert (await slow.ask()).status_code == 200, "the queue has room again"
    assert len(slow.near.spooled()) == 1 + UNDER_WAY + QUEUE + 1 and await slow.waiting() == 0
