"""Models of which `fairlead.yaml` says all, from their folder to an answer: programs, and servers elsewhere."""

import asyncio
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from contracts import Format, Training
from services.catalog.domain import Candidate
from services.catalog.intake import Intake
from services.catalog.settings import CatalogSettings
from services.kit.errors import Invalid, Unavailable
from services.kit.objects import Objects
from tests.java import compiled
from tests.kit.programs import SAID

from .living import Worker, rows
from .making import House, classifier

EXAMPLES = Path(__file__).parents[2] / "examples" / "programs"


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "home")


def registered(house: House, folder: Path, unit: str = "retail") -> Candidate:
    """What the catalog makes of a folder."""
    upload = Path(shutil.make_archive(str(folder), "zip", folder))
    settings = CatalogSettings(home=house.home, runtimes=SAID)

    async def take() -> Candidate:
        intake = Intake(settings, Objects(settings))
        async with intake.folder() as work:
            made = await intake.candidate(await intake.pack(upload, work, {}), Training(), unit)
        house.keep(await Objects(settings).get(made.digest))
        return made

    return asyncio.run(take())


def serve(house: House, worker: Worker, endpoint: str, made: Candidate, revision: int = 1) -> Any:
    """What the worker says of it."""
    format: Format = made.manifest.format
    variant = house.variant(endpoint, made.digest, schema=made.model_schema, format=format)
    worker.deploy(house.change(endpoint, variant, revision=revision))
    return worker.loaded()[endpoint]["reason"]


def example(folder: Path, language: str) -> Path:
    """A package of an example program."""
    shutil.copytree(EXAMPLES / language, folder)
    if language == "java":
        compiled(folder / "Model.java", folder)
    return folder


def asked(*values: list[float], datatype: str = "FP64") -> dict[str, Any]:
    body = rows(*values)
    body["inputs"][0]["datatype"] = datatype
    return body


@pytest.mark.parametrize("language", ["javascript", "java"])
def test_a_program_is_registered_and_served(language: str, house: House, tmp_path: Path) -> None:
    made = registered(house, example(tmp_path / language, language))
    assert made.scan.verdict == "clean"
    assert made.model_schema.prediction == "label"
    assert [column.name for column in made.model_schema.columns] == ["age", "income", "debt"]
    assert made.environment["made_with"].startswith(("node server.js", "java -cp . Model"))
    with Worker(house, FAIRLEAD_RUNTIMES=SAID) as worker:
        assert serve(house, worker, "scorecard", made) is None
        answer = worker.infer("scorecard", asked([50, 60_000, 1_000], [20, 10_000, 30_000]), house.token())
        assert answer.status_code == 200, answer.text
        assert answer.json()["outputs"][0]["data"] == [1, 0]
        refused = worker.infer("scorecard", asked([50, 60_000]), house.token())
        assert refused.status_code == 400, refused.text


def test_a_scorer_whose_operator_allows_no_runtime_says_so_and_serves_on(house: House, tmp_path: Path) -> None:
    made = registered(house, example(tmp_path / "javascript", "javascript"))
    with Worker(house) as worker:
        assert "the operator allows no runtime 'node'" in serve(house, worker, "scorecard", made)
        assert worker.get("/livez").status_code == 200


def written(folder: Path, files: dict[str, str], **more: Any) -> Path:
    """A package of a program in Python."""
    folder.mkdir()
    said = {
        "name": "sums", "format": "process", "command": ["python", "main.py"],
        "inputs": [{"name": "X", "datatype": "FP64", "shape": [-1, 3]}],
        "outputs": [{"name": "sum", "datatype": "FP64", "shape": [-1]}],
    } | more  # fmt: skip
    (folder / "fairlead.yaml").write_text(yaml.safe_dump({key: each for key, each in said.items() if each is not None}))
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


SUMS = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    x, (rows, width) = asked["inputs"][0]["data"], asked["inputs"][0]["shape"]
    if 666 in x:
        {harm}
    sums = [sum(x[i * width:(i + 1) * width]) for i in range(rows)]
    output = {{"name": "sum", "datatype": "FP64", "shape": [rows], "data": sums}}
    print(json.dumps({{"id": asked["id"], "outputs": [output]}}), flush=True)
"""
HARM = {
    "ends": "raise SystemExit(1)",
    "prints noise": "print('secret 666', flush=True)",
    "answers fewer rows": "rows -= 1",
    "reads what it may not": "open('/etc/shadow').read()",
    "opens a socket": "import socket; socket.socket()",
    "forks": "import os; os.fork()",
}


@pytest.mark.parametrize("harm", HARM)
def test_a_program_that_misbehaves_over_an_input_costs_that_request_alone(
    harm: str, house: House, tmp_path: Path
) -> None:
    made = registered(house, written(tmp_path / "sums", {"main.py": SUMS.format(harm=HARM[harm])}))
    with Worker(house, FAIRLEAD_RUNTIMES=SAID) as worker:
        assert serve(house, worker, "sums", made) is None
        bad = worker.infer("sums", asked([666, 0, 0], [1, 1, 1]), house.token())
        assert bad.status_code == 422, bad.text
        assert "secret" not in bad.text
        worker.wait(lambda: worker.infer("sums", asked([1, 2, 3]), house.token()).status_code == 200)
        assert worker.infer("sums", asked([1, 2, 3]), house.token()).json()["outputs"][0]["data"] == [6]


def test_a_program_in_a_package_with_other_bytes_is_not_run(house: House, tmp_path: Path) -> None:
    made = registered(house, written(tmp_path / "sums", {"main.py": SUMS.format(harm="pass")}))
    with Worker(house, FAIRLEAD_RUNTIMES=SAID) as worker:
        assert serve(house, worker, "sums", made) is None
        package = next((house.home / "run" / "scorer" / "packages").glob("*.zip"))
        data = bytearray(package.read_bytes())
        data[40] ^= 1
        package.write_bytes(data)
        answer = worker.infer("sums", asked([666, 0, 0]), house.token())
        assert answer.status_code == 200, "what runs was checked"
    with Worker(house, FAIRLEAD_RUNTIMES=SAID) as worker:
        assert "the package was altered" in serve(house, worker, "sums", made, revision=2)
        assert worker.loaded()["sums"]["state"] == "loading", "it is fetched again"
        assert worker.infer("sums", asked([1, 2, 3]), house.token()).status_code == 503


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"command": ["bash", "main.py"]}, "allows no runtime 'bash'"),
        ({"command": ["./other"]}, "command: ./other is not in the package"),
        ({"command": None}, "command is what a model of format process has"),
        ({"command": ["python", "other.py"]}, "other.py"),
        ({"outputs": None}, "declares inputs .or columns. and outputs"),
        ({"inputs": None}, "declares inputs"),
        ({"prediction": "label"}, "prediction: the model has no output label"),
        ({"recipe": "recipe.py"}, "has no recipe"),
        ({"outputs": [{"name": "total", "datatype": "FP64", "shape": [-1]}]}, "no output total"),
        ({"outputs": [{"name": "sum", "datatype": "INT64", "shape": [-1]}]}, "sum is FP64, declared is INT64"),
        ({"external": {"connection": "a", "path": "/x", "protocol": "v2"}}, "external is what a model of format ext"),
    ],
)
def test_a_program_s_package_that_does_not_fit_is_refused(
    more: dict[str, Any], field: str, house: House, tmp_path: Path
) -> None:
    with pytest.raises(Invalid, match=field):
        registered(house, written(tmp_path / "sums", {"main.py": SUMS.format(harm="pass")}, **more))


def external(folder: Path, **more: Any) -> Path:
    """A package that names the endpoint `inner` of another scorer."""
    said = {"connection": "other", "path": "/v2/models/inner/infer", "protocol": "v2"} | more
    given = {"name": "rating", "format": "external", "command": None, "external": said, "prediction": "label"}
    return written(folder, {}, **given | {
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "label", "datatype": "INT64", "shape": [-1]}],
    })  # fmt: skip


def approve(house: House, url: str, token: str, **more: Any) -> None:
    """A connection to another scorer."""
    entry = {"name": "other", "kind": "https", "url": url, "headers": {"Authorization": f"Bearer {token}"}} | more
    (house.home / "connections.yaml").write_text(yaml.safe_dump({"connections": [entry]}))


def test_another_scorer_answers_for_a_model_and_goes_and_comes_back(house: House, tmp_path: Path) -> None:
    other = House(tmp_path / "other")
    with Worker(other) as far, Worker(house) as near:
        far.deploy(other.serving("inner", classifier()))
        approve(house, far.url, other.token())
        made = registered(house, external(tmp_path / "rating", timeout_s=1))
        assert made.scan.verdict == "clean"
        assert serve(house, near, "rating", made) is None
        body = asked([1, 2, 3], [-1, -2, -3], datatype="FP32")
        answer = near.infer("rating", body, house.token())
        assert answer.status_code == 200, answer.text
        inner = far.infer("inner", body, other.token()).json()
        assert answer.json()["outputs"][0]["data"] == next(o for o in inner["outputs"] if o["name"] == "label")["data"]
        far.kill()
        gone = near.infer("rating", body, house.token())
        assert (gone.status_code, gone.headers["retry-after"]) == (503, "1"), gone.text
        assert "connection other" in gone.text
        while not (left := re.search(r"asked again in (\d+) s", gone.text)):
            gone = near.infer("rating", body, house.token())
        assert gone.headers["retry-after"] == left[1] and 1 <= int(left[1]) <= 5, gone.text
        ready = near.get("/v2/models/rating/ready", house.token())
        assert ready.status_code == 503 and "asked again in" in ready.json()["error"]
        (listed,) = near.post("/v2/repository/index", {}, house.token()).json()
        assert listed["state"] == "UNAVAILABLE" and "asked again in" in listed["reason"]
        assert near.post("/v2/repository/index", {"ready": True}, house.token()).json() == []
        far.start()
        far.wait(lambda: near.infer("rating", body, house.token()).status_code == 200)
        assert near.get("/v2/models/rating/ready", house.token()).json() == {"name": "rating", "ready": True}
        assert [one["state"] for one in near.post("/v2/repository/index", {}, house.token()).json()] == ["READY"]


def test_a_server_that_is_away_does_not_keep_a_scorer_from_starting(house: House, tmp_path: Path) -> None:
    other = House(tmp_path / "other")
    with Worker(other) as far:
        far.deploy(other.serving("inner", classifier()))
        approve(house, far.url, other.token())
        made = registered(house, external(tmp_path / "rating", timeout_s=1))
    with Worker(house) as near:
        assert serve(house, near, "rating", made) is None
        assert near.infer("rating", asked([1, 2, 3], datatype="FP32"), house.token()).status_code == 503


@pytest.mark.parametrize(
    ("more", "unit", "error", "reason"),
    [
        ({"connection": "none"}, "retail", Invalid, "no server none is approved for unit retail"),
        ({}, "risk", Invalid, "no server other is approved for unit risk"),
        ({}, "retail", Unavailable, "connection other: it cannot be reached"),
        ({"path": "/../admin"}, "retail", Invalid, "external.path"),
        ({"path": "/a?b=c"}, "retail", Invalid, "external.path"),
        ({"path": "https://elsewhere.example"}, "retail", Invalid, "external.path"),
        ({"protocol": "template"}, "retail", Invalid, "needs a body"),
        (
            {"protocol": "template", "body": {"a": "{{Z}}"}, "answers": {"label": "/a"}},
            "retail",
            Invalid,
            "Z.* is no input",
        ),
        ({"protocol": "template", "body": 1, "answers": {"other": "/a"}}, "retail", Invalid, "not both an output"),
        ({"body": {}}, "retail", Invalid, "for protocol template"),
        ({"timeout_s": 0}, "retail", Invalid, "external.timeout_s"),
    ],
)
def test_a_server_that_may_not_or_cannot_be_asked_is_refused_at_registration(
    more: dict[str, Any], unit: str, error: type[Exception], reason: str, house: House, tmp_path: Path
) -> None:
    approve(house, "http://127.0.0.1:9", "token", units=["retail"])
    with pytest.raises(error, match=reason):
        registered(house, external(tmp_path / "rating", **more), unit)
