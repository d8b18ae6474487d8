"""C24 of models that run no code: whatever an ONNX graph asks for, the worker answers everybody else meanwhile."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from services.scorer.lane import Lane, Limits
from services.scorer.runtimes.errors import TookTooLong
from services.scorer.runtimes.onnx import OnnxRuntime

from .hostile_onnx import composed, disguised, endless, hungry, looping
from .living import Worker, rows
from .making import NUMBERS, House, classifier

DEADLINE_S = "2"


async def test_a_call_in_this_process_is_stopped_at_its_deadline_and_the_next_one_is_answered() -> None:
    lane = Lane(OnnxRuntime(looping(), NUMBERS), Limits(0.5, 4096, 512, 200_000, deadline_s=0.5), joinable=True)
    with pytest.raises(TookTooLong):
        await lane.run({"X": np.full((1, 3), 1e18, np.float32)}, 1)
    outputs = await lane.run({"X": np.array([[1, 2, 3]], np.float32)}, 1)
    assert outputs["label"].tolist() == [6]
    lane.close()


def test_a_request_that_makes_a_model_loop_stops_nobody_else(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    with Worker(house, FAIRLEAD_SANDBOX_DEADLINE_S=DEADLINE_S) as worker, ThreadPoolExecutor(1) as other:
        worker.deploy(house.serving("loops", looping()), house.serving("credit", classifier()))
        token = house.token()
        assert worker.infer("loops", rows([1, 2, 3]), token).json()["outputs"][0]["data"] == [6]
        asked = other.submit(worker.infer, "loops", rows([1e18, 0, 0]), token)
        answered = 0
        while not asked.done():
            assert worker.get("/livez").status_code == 200
            assert worker.infer("credit", rows([1, 1, 1]), token).status_code == 200
            answered += not asked.done()
        assert answered > 2, "one that came first may have been answered before it"
        assert (asked.result().status_code, asked.result().json()) == (
            422, {"error": "the model took too long over this input"},
        )  # fmt: skip
        assert worker.infer("loops", rows([1, 2, 3]), token).status_code == 200


@pytest.mark.parametrize("model", [hungry(), disguised()], ids=["openly", "behind a function"])
def test_a_request_that_makes_a_model_hungry_gets_no_memory_of_the_workers(model: bytes, tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    with Worker(house, FAIRLEAD_SANDBOX_MEMORY_MB="256") as worker:
        worker.deploy(house.serving("hungry", model), house.serving("credit", classifier()))
        token = house.token()
        assert worker.infer("hungry", rows([1, 2, 3]), token).json()["outputs"][0]["data"] == [6]
        before = psutil.Process(worker.pid).memory_info().rss
        answer = worker.infer("hungry", rows([4e8, 0, 0]), token)
        assert (answer.status_code, answer.json()) == (422, {"error": "the model does not take this input"})
        assert psutil.Process(worker.pid).memory_info().rss < before + 100 * 2**20
        assert worker.infer("credit", rows([1, 1, 1]), token).status_code == 200
        assert worker.infer("hungry", rows([1, 2, 3]), token).status_code == 200


def test_a_model_with_functions_of_its_own_is_served(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    with Worker(house) as worker:
        worker.deploy(house.serving("composed", composed()))
        assert worker.infer("composed", rows([1, 2, 3]), house.token()).json()["outputs"][0]["data"] == [6]


def test_a_model_that_never_ends_keeps_no_other_from_being_loaded(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    with Worker(house, FAIRLEAD_SANDBOX_DEADLINE_S=DEADLINE_S) as worker:
        worker.deploy(house.serving("endless", endless()))
        assert "took too long" in worker.loaded()["endless"]["reason"]
        worker.deploy(house.serving("credit", classifier()))
        assert worker.loaded()["credit"]["reason"] is None
        assert worker.infer("credit", rows([1, 1, 1]), house.token()).status_code == 200
