"""A scikit-learn model behind an endpoint: its code runs in a sandbox, its death costs no answer."""

import io
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import psutil
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from contracts import Column, ModelSchema, TensorSpec
from tests.kit.boosted import ROWS, boosted

from .living import Worker, rows
from .making import COLUMNS, NUMBERS, House, package


@cache
def skops_classifier() -> bytes:
    x = np.random.default_rng(7).normal(size=(400, 3)).astype(np.float32)
    out = io.BytesIO()
    skops.io.dump(LogisticRegression().fit(x, (x.sum(axis=1) > 0).astype(np.int64)), out)
    return out.getvalue()


def deploy(house: House, worker: Worker) -> None:
    digest = house.keep(package(skops_classifier(), "model.skops", format="sklearn"))
    worker.deploy(house.change("credit", house.variant("credit", digest, format="sklearn")))
    assert worker.loaded()["credit"]["reason"] is None


def test_it_answers_like_any_endpoint(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    with Worker(house) as worker:
        deploy(house, worker)
        answer = worker.infer("credit", rows([1, 1, 1], [-1, -1, -1]), house.token()).json()
        assert [output["name"] for output in answer["outputs"]] == ["label", "probabilities"]
        assert answer["outputs"][0]["data"] == [1, 0]
        assert answer["outputs"][1]["shape"] == [2, 2]
        assert len(worker.spooled()) == 1


@pytest.mark.parametrize(
    ("name", "file"), [("xgboost.ubj two", "model.ubj"), ("lightgbm.txt two", "model.txt")], ids=lambda name: name
)
def test_a_boosted_model_answers_as_its_own_library_does(tmp_path: Path, name: str, file: str) -> None:
    house, format = House(tmp_path / "home"), name.partition(".")[0]
    data, said = boosted()[name]
    with Worker(house) as worker:
        digest = house.keep(package(data, file, format=format))
        worker.deploy(house.change("credit", house.variant("credit", digest, format=format)))
        assert worker.loaded()["credit"]["reason"] is None
        outputs = worker.infer("credit", rows(*ROWS.tolist()), house.token()).json()["outputs"]
        assert outputs[0]["data"] == (said > 0.5).astype(int).tolist()
        np.testing.assert_allclose(np.reshape(outputs[1]["data"], (-1, 2))[:, 1], said, rtol=1e-5)
        assert worker.get("/v2/models/credit", house.token()).json()["platform"] == f"{format}_model"


def test_rules_answer_by_name_and_say_which_one_cannot_decide(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    rules = b"columns: [age, income, debt]\nrules: [{when: debt > income, decide: refuse}]\notherwise: grant\n"
    schema = ModelSchema(
        inputs=NUMBERS.inputs, outputs=(TensorSpec(name="label", datatype="BYTES", shape=(-1,)),),
        columns=tuple(Column(name=name, nullable=True) for name in COLUMNS), prediction="label",
    )  # fmt: skip
    with Worker(house) as worker:
        digest = house.keep(package(rules, "rules.yaml", format="rules"))
        variant = house.variant("asked", digest, format="rules").model_copy(update={"model_schema": schema})
        worker.deploy(house.change("asked", variant))
        body = {"dataframe_records": [{"age": 30, "income": 10, "debt": 20}, {"age": 30, "income": 20, "debt": 10}]}
        assert worker.post("/invocations/asked", body, house.token()).json() == {"predictions": ["refuse", "grant"]}
        missing = {"dataframe_records": [{"age": 30, "income": None, "debt": 20}]}
        answer = worker.post("/invocations/asked", missing, house.token())
        assert (answer.status_code, answer.json()) == (422, {"error": "the model does not take this input"})


def test_callers_at_once_share_calls_and_each_gets_its_own_rows(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    with Worker(house) as worker:
        deploy(house, worker)
        token = house.token()

        def ask(sign: int) -> list[int]:
            values = [float(sign)] * 3
            return worker.infer("credit", rows(*[values] * 3), token).json()["outputs"][0]["data"]

        signs = [1, -1] * 30
        with ThreadPoolExecutor(12) as callers:
            assert list(callers.map(ask, signs)) == [[1] * 3 if sign > 0 else [0] * 3 for sign in signs]


def test_a_killed_sandbox_is_there_again_before_the_caller_notices(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    with Worker(house) as worker:
        deploy(house, worker)
        token = house.token()
        assert worker.infer("credit", rows([1, 1, 1]), token).status_code == 200
        for child in psutil.Process(worker.pid).children(recursive=True):
            child.kill()
        assert worker.infer("credit", rows([1, 1, 1]), token).status_code == 200


def test_a_stopped_worker_leaves_no_sandbox(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    with Worker(house) as worker:
        deploy(house, worker)
        family = psutil.Process(worker.pid).children(recursive=True)
        assert family
        worker.stop()
        assert psutil.wait_procs(family, 5)[1] == []


def test_a_model_file_that_was_altered_is_not_opened_again_after_a_crash(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    with Worker(house, FAIRLEAD_SANDBOX_DEADLINE_S="4") as worker:
        deploy(house, worker)
        token = house.token()
        for path in (house.settings.run_folder / "models").glob("*/*"):
            path.write_bytes(b"other bytes")
        for child in psutil.Process(worker.pid).children(recursive=True):
            child.kill()
        answer = worker.infer("credit", rows([1, 1, 1]), token)
        assert answer.status_code == 503 and len(worker.spooled()) == 0
        assert "altered" in worker.get("/readyz").json()["delayed"]["model credit/1"]
