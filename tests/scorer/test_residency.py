"""More models than memory holds: each answers, those that were asked last are at hand, and nobody notices who left."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from contracts import DeploymentChanged, ModelSchema, TensorSpec
from services.kit.context import Caller
from services.kit.errors import Unavailable
from services.kit.testing import eventually
from services.scorer import repository
from services.scorer.dataplane import DataPlane
from services.scorer.files import write_atomically
from services.scorer.served import Ask

from .living import Worker, bearer
from .making import House, package
from .test_sandboxed import skops_classifier

CALLER = Caller("application", "application", frozenset({"application"}), frozenset({"retail"}))
ADDING = ModelSchema(
    inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1, 2)),),
    outputs=(TensorSpec(name="y", datatype="FP32", shape=(-1, 2)),), prediction="y",
)  # fmt: skip


def adding(number: float, weight_bytes: int = 0) -> bytes:
    """A model that adds a number; it weighs as much as it is told to."""
    bulk = numpy_helper.from_array(np.zeros(max(1, weight_bytes // 4), np.float32), "bulk")
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["bulk"], ["zero"], keepdims=0),
            helper.make_node("Add", ["x", "number"], ["more"]),
            helper.make_node("Add", ["more", "zero"], ["y"]),
        ],
        "adding",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (None, 2))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (None, 2))],
        [numpy_helper.from_array(np.array(number, np.float32), "number"), bulk],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def served(house: House, count: int, weight_bytes: int = 0) -> list[DeploymentChanged]:
    return [house.serving(f"adds-{n}", adding(n, weight_bytes), ADDING) for n in range(count)]


def asking(value: float) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [value, value]}]}


async def ask(plane: DataPlane, n: int) -> None:
    """As `direct` and `asgi` do: at once where that can be."""
    question = Ask(orjson.dumps(asking(0.5)))
    name = f"adds-{n}"
    answer = plane.at_once(name, None, question, CALLER, "rest")
    answer = answer or await plane.infer(name, None, question, CALLER, "rest")
    assert orjson.loads(answer.body)["outputs"][0]["data"] == [n + 0.5] * 2


async def deployed(house: House, changes: list[DeploymentChanged]) -> DataPlane:
    plane = DataPlane(house.settings)
    for change in changes:
        await plane.apply(change)
    return plane


def sandboxes() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if _is_sandbox(p)]


def _is_sandbox(process: psutil.Process) -> bool:
    try:
        return "services.kit.sandbox.worker" in process.cmdline()
    except psutil.Error:  # it has just ended
        return False


def memory(plane: DataPlane) -> int:
    return sum(e.champion.lane.memory_bytes for e in plane.endpoints.values())


async def test_all_answer_within_the_budget_and_those_that_were_asked_last_are_at_hand(tmp_path: Path) -> None:
    house = House(tmp_path / "home", scorer_memory_mb=20, inline_ms=50)
    plane = await deployed(house, served(house, 30, 2_000_000))
    assert plane.residency.cold > 15, "each was loaded, warm and tried before it served, and made room"
    for _ in range(2):
        for n in range(30):
            await ask(plane, n)
            assert memory(plane) <= 20 * 1024 * 1024
    asleep = [n for n in range(30) if plane.endpoints[f"adds-{n}"].champion.lane.asleep]
    assert asleep == list(range(asleep[-1] + 1)) and len(asleep) < 27
    loads = plane.residency.loads
    await ask(plane, 29)
    await ask(plane, 28)
    assert plane.residency.loads == loads


async def test_after_a_restart_what_was_tried_is_loaded_when_it_is_asked_once_for_all_who_wait(tmp_path: Path) -> None:
    house = House(tmp_path / "home", scorer_memory_mb=100, inline_ms=50)
    changes = served(house, 5)
    await deployed(house, changes)
    plane = await deployed(house, changes)
    assert (plane.residency.loads, plane.residency.cold) == (0, 5)
    await asyncio.gather(*(ask(plane, 3) for _ in range(50)))
    assert (plane.residency.loads, plane.residency.loaded) == (1, 1)
    assert plane.endpoints["adds-3"].champion.lane.idle, "and from then on it answers at once"


async def test_models_come_and_go_under_load_and_no_request_fails(tmp_path: Path) -> None:
    house = House(tmp_path / "home", scorer_memory_mb=20)
    plane = await deployed(house, served(house, 30, 2_000_000))
    order = np.random.default_rng(5).zipf(1.3, 1_500) % 30

    async def caller(mine: list[int]) -> None:
        for n in mine:
            await ask(plane, n)

    await asyncio.gather(*(caller(order[k::16].tolist()) for k in range(16)))
    assert plane.residency.evictions > 50


async def test_a_sandboxed_model_weighs_its_process_and_leaves_with_it(tmp_path: Path) -> None:
    house = House(tmp_path / "home", scorer_memory_mb=60, cold_load_s=120)
    changes = served(house, 1)
    digest = house.keep(package(skops_classifier(), "model.skops", format="sklearn"))
    for name in ("boxed", "other"):
        changes.append(house.change(name, house.variant(name, digest, format="sklearn")))
    plane = await deployed(house, changes)
    boxed, other = (plane.endpoints[name].champion.lane for name in ("boxed", "other"))
    assert (boxed.asleep, other.asleep) == (False, True), "the same bytes need be tried once"
    used = boxed.outside_cpu_s
    body = orjson.dumps({"inputs": [{"name": "X", "shape": [1, 3], "datatype": "FP32", "data": [1, 1, 1]}]})
    for name, sleeps in (("other", boxed), ("boxed", other)):
        assert (await plane.infer(name, None, Ask(body), CALLER, "rest")).rows == 1
        assert sleeps.asleep, "two processes are more than 60 MB"
    assert boxed.outside_cpu_s > used > 0, "what its first process used is not forgotten"
    await eventually(lambda: len(sandboxes()) == 1, within=10)
    for endpoint in list(plane.endpoints):
        plane.remove(endpoint)
    await eventually(lambda: not sandboxes(), within=10)


async def test_who_cannot_wait_for_a_model_is_told_to_try_again_and_loading_goes_on(tmp_path: Path) -> None:
    house = House(tmp_path / "home", scorer_memory_mb=100, cold_load_s=0.05)
    digest = house.keep(package(skops_classifier(), "model.skops", format="sklearn"))
    change = house.change("boxed", house.variant("boxed", digest, format="sklearn"))
    (await deployed(house, [change])).remove("boxed")
    await eventually(lambda: not sandboxes(), within=10)
    plane = await deployed(house, [change])
    body = orjson.dumps({"inputs": [{"name": "X", "shape": [1, 3], "datatype": "FP32", "data": [1, 1, 1]}]})
    with pytest.raises(Unavailable, match="being loaded"):
        await plane.infer("boxed", None, Ask(body), CALLER, "rest")

    async def answered() -> bool:
        try:
            return (await plane.infer("boxed", None, Ask(body), CALLER, "rest")).rows == 1
        except Unavailable:
            return False

    await eventually(answered, within=30)
    await eventually(lambda: plane.residency.loads == 1, within=10)
    plane.remove("boxed")
    await eventually(lambda: not sandboxes(), within=10)


async def test_a_package_that_was_altered_while_its_model_slept_is_not_opened(tmp_path: Path) -> None:
    house = House(tmp_path / "home", scorer_memory_mb=100)
    changes = served(house, 2)
    await deployed(house, changes)
    plane = await deployed(house, changes)
    digest = changes[0].variants[0].digest.removeprefix("sha256:")
    (house.settings.run_folder / "packages" / f"{digest}.zip").write_bytes(package(adding(7)))
    with pytest.raises(Unavailable, match="is being fetched"):
        await ask(plane, 0)
    assert "altered" in plane.endpoints["adds-0"].away
    altered, whole = repository.index(plane, CALLER)
    assert altered["state"] == "UNAVAILABLE" and "the package was altered" in altered["reason"]
    assert (whole["state"], whole["reason"]) == ("READY", ""), "it sleeps, and is opened for a request"
    await ask(plane, 1)


async def test_a_thousand_models_are_served_by_one_worker(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    names = [f"adds-{n}" for n in range(1_000)]
    wanted = {change.endpoint: orjson.loads(change.to_json()) for change in served(house, 1_000)}
    state = orjson.dumps({"caught_up": True, "endpoints": wanted, "floors": {}})
    write_atomically(house.settings.desired_path, state)
    with Worker(house, FAIRLEAD_SCORER_MEMORY_MB="10") as worker:
        worker.wait(lambda: worker.loaded().keys() == set(names), within=120)
        worker.stop()
        started = time.monotonic()
        worker.start()
        print(f"started again after {time.monotonic() - started:.1f} s")
        worker.wait(lambda: worker.loaded().keys() == set(names), within=60)
        assert 'fairlead_scorer_models{state="cold",process="worker-0"} 1000' in worker.get("/metrics").text
        process = psutil.Process(worker.pid)
        assert worker.infer("adds-0", asking(0.0), house.token()).status_code == 200  # the library's own memory
        before = process.memory_info().rss
        async with httpx.AsyncClient(base_url=worker.url, headers=bearer(house.token()), timeout=30) as client:

            async def ask_all(mine: list[str]) -> None:
                for name in mine:
                    assert (await client.get(f"/v2/models/{name}/ready")).json()["ready"] is True
                    answer = await client.post(f"/v2/models/{name}/infer", json=asking(0.0))
                    assert answer.status_code == 200, answer.text
                    assert answer.json()["outputs"][0]["data"] == [float(name.removeprefix("adds-"))] * 2

            await asyncio.gather(*(ask_all(names[k::4]) for k in range(4)))
        grown = process.memory_info().rss - before
        print(f"grown by {grown / 1e6:.0f} MB")
        page = worker.get("/metrics").text
        lines = dict(line.rsplit(" ", 1) for line in page.splitlines() if line.startswith("fairlead_scorer_model"))
        print({k: v for k, v in lines.items() if "seconds" not in k})
        assert len(worker.spooled()) == 1_001
        assert grown < 75e6, "all of them would take more than 110 MB beyond what else grows"
