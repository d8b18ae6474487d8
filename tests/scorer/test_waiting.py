"""Requests that wait for a busy model: how many may, how long each does, and who is told what."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import orjson
import pytest

from services.kit.testing import eventually
from services.scorer.rpc.messages import message
from services.scorer.runtimes.external import ExternalRuntime

from .living import Worker, bearer, request
from .making import House, classifier
from .test_declared_models import approve, asked, external, registered, serve
from .test_rpc import Rpc

pytestmark = pytest.mark.timeout(120)
BODY = asked([1, 2, 3], datatype="FP32")
UNDER_WAY = ExternalRuntime.calls
QUEUE = 4


class Slow:
    """A worker whose one model is asked elsewhere, at a server that can be made to say nothing for a while."""

    def __init__(self, far: Worker, near: Worker, token: str) -> None:
        self.far, self.near, self.token = far, near, token
        self.http = httpx.AsyncClient(base_url=near.url, headers=bearer(token), timeout=60)

    def hold(self) -> None:
        """It takes connections, and answers nothing."""
        os.kill(self.far.pid, signal.SIGSTOP)

    def release(self) -> None:
        os.kill(self.far.pid, signal.SIGCONT)

    async def ask(self, more: dict[str, Any] | None = None, limit: str | None = None) -> httpx.Response:
        headers = {} if limit is None else {"Fairlead-Timeout": limit}
        return await self.http.post("/v2/models/rating/infer", json=BODY | (more or {}), headers=headers)

    async def invoke(self) -> httpx.Response:
        return await self.http.post("/invocations/rating", json={"inputs": [[1, 2, 3]]})

    async def asking(self, count: int) -> list["asyncio.Task[httpx.Response]"]:
        """So many callers, one behind the other, all of whom wait."""
        tasks: list[asyncio.Task[httpx.Response]] = []
        for _ in range(count):
            wanted = await self.waiting() + 1
            tasks.append(asyncio.create_task(self.ask()))
            await self.until_waiting(wanted)
        return tasks

    async def until_waiting(self, count: float) -> None:
        await eventually(lambda: self.metric_is("fairlead_scorer_waiting", count), within=20)

    async def metric_is(self, name: str, value: float) -> bool:
        return await self.metric(name) == value

    async def waiting(self) -> float:
        """As the metrics tell."""
        return await self.metric("fairlead_scorer_waiting")

    async def metric(self, name: str, *labels: str) -> float:
        lines = (await self.http.get("/metrics")).text.splitlines()
        found = [line for line in lines if line.startswith(name + "{") and all(label in line for label in labels)]
        return sum(float(line.rpartition(" ")[2]) for line in found)


@pytest.fixture
def workers(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Worker, Worker]]:
    """Where the model is asked, and the worker that serves it."""
    house, other = House(tmp_path / "home"), House(tmp_path / "other")
    limits = {"FAIRLEAD_QUEUE_REQUESTS": str(QUEUE), "FAIRLEAD_REQUEST_S": getattr(request, "param", "50")}
    with Worker(other) as far, Worker(house, **limits) as near:
        far.deploy(other.serving("inner", classifier()))
        approve(house, far.url, other.token())
        made = registered(house, external(tmp_path / "rating", timeout_s=60))
        assert serve(house, near, "rating", made) is None
        assert near.infer("rating", BODY, house.token()).status_code == 200
        yield far, near
        os.kill(far.pid, signal.SIGCONT)


@pytest.fixture
async def slow(workers: tuple[Worker, Worker]) -> AsyncIterator[Slow]:
    far, near = workers
    made = Slow(far, near, near.house.token())
    yield made
    await made.http.aclose()


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


async def test_who_waits_longer_than_it_may_is_told_so_and_costs_nothing(slow: Slow) -> None:
    asked_before = len(slow.far.spooled())
    async with held(slow):
        waiting = await slow.asking(UNDER_WAY)
        hasty = {"parameters": {"timeout": 200_000}}
        late = [await slow.ask(limit="0.2"), await slow.ask(hasty)]
        for answer in late:
            assert (answer.status_code, answer.headers["retry-after"]) == (504, "1"), answer.text
            assert "try again" in answer.json()["error"]
        assert await slow.waiting() == UNDER_WAY, "they take no place in the line"
        assert await slow.metric("fairlead_scorer_errors_total", 'status="504"') == 2
        assert await slow.metric("fairlead_scorer_faults_total", "rating") == 2
    assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}
    assert len(slow.far.spooled()) == asked_before + UNDER_WAY, "the model never saw them"
    assert len(slow.near.spooled()) == 1 + UNDER_WAY


@pytest.mark.parametrize("workers", ["0.5"], indirect=True)
async def test_nobody_waits_longer_than_the_operator_says(slow: Slow) -> None:
    async with held(slow):
        answers = await asyncio.gather(slow.ask(), slow.ask(limit="50"), slow.invoke())
    assert [answer.status_code for answer in answers] == [504] * 3
    assert len(slow.near.spooled()) == 1


@pytest.mark.parametrize("text", ["soon", "0", "-1", "1e3", "", "1, 2"])
async def test_a_time_that_is_none_is_refused_by_its_name(slow: Slow, text: str) -> None:
    answer = await slow.ask(limit=text)
    assert answer.status_code == 400 and "Fairlead-Timeout" in answer.json()["error"]
    answer = await slow.ask({"parameters": {"timeout": text}})
    assert answer.status_code == 400 and "timeout" in answer.json()["error"]


@pytest.mark.parametrize("way", ["whole", "in pieces", "mlflow"])
async def test_who_hangs_up_is_neither_asked_for_nor_logged(slow: Slow, way: str) -> None:
    asked_before, body = len(slow.far.spooled()), orjson.dumps(BODY)
    path = "rating"
    whole = request(slow.token, body, path)
    if way == "mlflow":
        body = orjson.dumps({"inputs": [[1, 2, 3]]})
        whole = request(slow.token, body, path, Content_Type="application/json")
        whole = whole.replace(b"/v2/models/rating/infer", b"/invocations/rating")
    async with held(slow):
        waiting = await slow.asking(UNDER_WAY)
        _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(slow.near.url).port)
        for piece in [whole] if way != "in pieces" else [whole[:-5], whole[-5:]]:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)
        await slow.until_waiting(UNDER_WAY + 1)
        writer.close()
        waiting[0].cancel()  # one whose call is under way
        await asyncio.gather(waiting[0], return_exceptions=True)
        await slow.until_waiting(UNDER_WAY)
        await eventually(lambda: slow.metric_is("fairlead_scorer_left_total", 2), within=20)
    assert {answer.status_code for answer in await asyncio.gather(*waiting[1:])} == {200}
    assert (await slow.ask()).status_code == 200
    assert len(slow.far.spooled()) == asked_before + UNDER_WAY + 1
    assert len(slow.near.spooled()) == 1 + (UNDER_WAY - 1) + 1


async def test_a_grpc_call_waits_as_long_as_its_own_deadline_says(slow: Slow) -> None:
    state = slow.near.house.settings.desired_path.read_bytes()
    assert orjson.loads(state)["endpoints"].keys() == {"rating"}
    rpc = Rpc(slow.near.house)
    try:
        tensor = message("ModelInferRequest.InferInputTensor")(name="X", datatype="FP32", shape=(1, 3))
        tensor.contents.fp32_contents.extend([1.0, 2.0, 3.0])
        call = partial(rpc.call, "ModelInfer", slow.token, model_name="rating", inputs=[tensor])
        await asyncio.to_thread(call)
        async with held(slow):
            with pytest.raises(grpc.RpcError) as told:
                await asyncio.to_thread(call, within_s=0.5)
        assert told.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.to_thread(call)

        async def told_of() -> bool:
            late = await slow.metric("fairlead_scorer_errors_total", 'process="rpc"', 'status="504"')
            return late + await slow.metric("fairlead_scorer_left_total", 'process="rpc"') == 1

        await eventually(told_of, within=20)
    finally:
        rpc.stop()
