"""Models that are code, from their folder to an answer: registered, their libraries locked and installed, served."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil
import pytest

from contracts import Format, Training, Variant
from services.catalog.domain import Candidate
from services.catalog.intake import Intake
from services.catalog.settings import CatalogSettings
from services.kit.environments import Environments
from services.kit.objects import Objects
from tests import code_models

from .living import Worker, rows
from .making import House

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def house(tmp_path: Path, shared_environments: Path) -> House:
    house = House(tmp_path / "home")
    (house.home / "environments").symlink_to(shared_environments)
    return house


def registered(house: House, folder: Path, **fields: Any) -> Candidate:
    """What the catalog makes of a folder."""
    upload = Path(shutil.make_archive(str(folder), "zip", folder))
    settings = CatalogSettings(home=house.home)

    async def take() -> Candidate:
        intake = Intake(settings, Objects(settings))
        async with intake.folder() as work:
            made = await intake.candidate(await intake.pack(upload, work, fields), Training())
        house.keep(await Objects(settings).get(made.digest))
        return made

    return asyncio.run(take())


def variant(house: House, endpoint: str, made: Candidate) -> Variant:
    format: Format = made.manifest.format
    return house.variant(endpoint, made.digest, schema=made.model_schema, format=format)


def serve(house: House, worker: Worker, endpoint: str, made: Candidate) -> None:
    worker.deploy(house.change(endpoint, variant(house, endpoint, made)))
    assert worker.loaded()[endpoint]["reason"] is None


def outputs(
    worker: Worker, endpoint: str, house: House, *values: list[float], datatype: str = "FP32"
) -> dict[str, Any]:
    body = rows(*values)
    body["inputs"][0]["datatype"] = datatype
    answer = worker.infer(endpoint, body, house.token())
    assert answer.status_code == 200, answer.text
    return {each["name"]: each["data"] for each in answer.json()["outputs"]}


def test_a_function_and_a_river_model_are_registered_and_served(house: House, tmp_path: Path) -> None:
    function = registered(house, code_models.function(tmp_path / "function"))
    assert function.scan.verdict == "clean", function.scan.findings
    assert function.manifest.requirements == "requirements.lock"
    assert [line.partition("==")[0] for line in function.environment["requirements"]] == ["numpy"]
    assert [(each.name, each.datatype) for each in function.model_schema.outputs] == [
        ("label", "INT64"),
        ("sum", "FP64"),
    ]
    river = registered(
        house,
        code_models.laid(
            tmp_path / "river", {"model.pkl": code_models.river_model(), "requirements.txt": b"river==0.26.1\n"},
            format="river", model="model.pkl", score="probabilities",
            columns=[{"name": name, "nullable": True} for name in code_models.COLUMNS],
        ),
    )  # fmt: skip
    assert river.scan.verdict == "clean", river.scan.findings
    with Worker(house) as worker:
        serve(house, worker, "function", function)
        serve(house, worker, "river", river)
        said = outputs(worker, "function", house, [1, 2, 3], [-1, -2, 1], datatype="FP64")
        assert said == {"label": [1, 0], "sum": [12.0, -4.0]}
        said = outputs(worker, "river", house, [2, 2, 2], [-2, -2, -2], datatype="FP64")
        assert said["label"] == [True, False]
        platforms = [
            worker.get(f"/v2/models/{name}", house.token()).json()["platform"] for name in ("function", "river")
        ]
        assert platforms == ["python_function", "river_pickle"]
        assert said["probabilities"][1] > 0.5 > said["probabilities"][3]


def test_two_versions_of_scikit_learn_serve_side_by_side(house: House, tmp_path: Path) -> None:
    environments = Environments.of(CatalogSettings(home=house.home))
    with Worker(house) as worker:
        for version in ("1.5.2", "1.6.1"):
            folder = code_models.laid(
                tmp_path / version, {"requirements.txt": f"scikit-learn=={version}\nnumpy<2.3\n".encode()},
                format="sklearn", model="model.skops", requirements="requirements.txt",
            )  # fmt: skip
            assert code_models.sklearn_of(version, folder / "model.skops", environments) == version
            made = registered(house, folder)
            assert f"scikit-learn=={version}" in made.environment["requirements"]
            serve(house, worker, f"of-{version.replace('.', '-')}", made)
        for endpoint in ("of-1-5-2", "of-1-6-1"):
            assert outputs(worker, endpoint, house, [1, 1, 1], [-1, -1, -1])["label"] == [1, 0]
        used = {
            mapped.path.split("/site/")[0]
            for child in psutil.Process(worker.pid).children(recursive=True)
            for mapped in child.memory_maps()
            if "/site/sklearn/" in mapped.path
        }
        assert len(used) == 2, used


def test_a_pytorch_network_in_mlflow_s_format_answers_as_it_did_at_home(house: House, tmp_path: Path) -> None:
    environments = Environments.of(CatalogSettings(home=house.home))
    said = code_models.torch_model(tmp_path / "network", environments)
    made = registered(house, tmp_path / "network", name="network")
    assert made.scan.verdict == "clean", made.scan.findings
    assert [(each.name, each.datatype, each.shape) for each in made.model_schema.inputs] == [("X", "FP32", (-1, 3))]
    with Worker(house) as worker:
        serve(house, worker, "network", made)
        told = outputs(worker, "network", house, [1, 2, 3], [-1, 0.5, 4])
        np.testing.assert_allclose(told["prediction"], said, rtol=1e-5)


def test_a_lock_with_another_file_s_hash_is_not_installed(house: House, tmp_path: Path) -> None:
    forged = b"numpy==2.2.6 --hash=sha256:" + b"0" * 64 + b"\n"
    folder = code_models.function(tmp_path / "function")
    (folder / "requirements.txt").write_bytes(forged)
    with pytest.raises(Exception, match=r"(?i)hash"):
        registered(house, folder)


HOSTILE = {
    "reads": (b"open('/etc/shadow').read()", "PermissionError"),
    "connects": (b"__import__('socket').socket()", "PermissionError"),
    "starts": (b"__import__('os').fork()", "PermissionError"),
    "hoards": (b"np.ones(10**10)", "MemoryError|Unable to allocate"),
    "has no predict": (b"del predict", "defines no function"),
    "fails": (b"1 / 0", "ZeroDivisionError"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_function_that_does_harm_when_it_is_imported_is_refused_with_what_it_tried(
    what: str, house: House, tmp_path: Path
) -> None:
    code, reason = HOSTILE[what]
    with pytest.raises(Exception, match=reason):
        registered(house, code_models.function(tmp_path / "function", code_models.FUNCTION + code))


RAISES = b"""
import numpy as np
import scales

def predict(inputs):
    if inputs["X"].max() < 1000:
        return {"label": np.zeros(len(inputs["X"]), np.int64)}
    return {"label": np.array([int(f"no number {inputs['X'][0][0]}")])}
"""


def test_what_a_function_raises_is_in_the_log_for_its_owner_with_the_place_and_none_of_the_data(
    house: House, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = registered(house, code_models.function(tmp_path / "function", RAISES))
    body = rows([4711, 2, 3])
    body["inputs"][0]["datatype"] = "FP64"
    with Worker(house) as worker:
        serve(house, worker, "function", made)
        answers = [worker.infer("function", body, house.token()) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {422} and "4711" not in answers[0].text
    lines = [orjson.loads(line) for line in capfd.readouterr().out.splitlines() if line.startswith("{")]
    told = [line for line in lines if line["event"] == "a model did not take its input"]
    assert [(line["endpoint"], line["model"], line["version"]) for line in told] == [("function", "credit", 1)], told
    assert told[0]["error"] == "ValueError at model.py:8 in predict"
    assert "4711" not in str(lines)


def test_altered_libraries_are_installed_anew_before_a_model_sees_them(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    made = registered(house, code_models.function(tmp_path / "function"))
    (site,) = (house.home / "environments").glob("*/site")
    (site / "numpy" / "__init__.py").write_text("raise SystemExit")
    with Worker(house) as worker:
        serve(house, worker, "function", made)
        assert outputs(worker, "function", house, [1, 2, 3], datatype="FP64")["label"] == [1]
