"""The whole way in, through the real sandbox: the census packages, and what ends its own inspection."""

import asyncio
import time
from pathlib import Path

import pytest

from contracts import TensorSpec, Training
from examples.census import build
from services.catalog.domain import Candidate
from services.catalog.intake import Intake
from services.catalog.settings import CatalogSettings
from services.kit.errors import Invalid
from services.kit.objects import Objects
from services.kit.testing import eventually
from tests.kit.boosted import boosted
from tests.kit.programs import SAID, packed

from . import models


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build.build(out := tmp_path_factory.mktemp("census"))
    return out


def intake_at(home: Path, **settings: float | str) -> Intake:
    made = CatalogSettings.model_validate({"home": home, **settings})
    return Intake(made, Objects(made))


async def taken(intake: Intake, upload: Path) -> Candidate:
    async with intake.folder() as work:
        return await intake.candidate(await intake.pack(upload, work, {}), Training())


async def test_the_census_packages_are_taken_whole(packages: Path, tmp_path: Path) -> None:
    onnx = await taken(intake_at(tmp_path), packages / "census-employment.zip")
    sklearn = await taken(intake_at(tmp_path), packages / "census-employment-sklearn.zip")
    assert [made.scan.verdict for made in (onnx, sklearn)] == ["clean", "clean"], sklearn.scan.findings
    assert onnx.model_schema.columns == sklearn.model_schema.columns and len(onnx.model_schema.columns) == 16
    assert onnx.model_schema.inputs == (TensorSpec(name="X", datatype="FP32", shape=(-1, 16)),)
    assert sklearn.model_schema.inputs == (TensorSpec(name="X", datatype="FP64", shape=(-1, 16)),)
    assert onnx.model_schema.outputs == sklearn.model_schema.outputs
    assert onnx.training.rows == sklearn.training.rows == 17_196
    assert onnx.training.metrics["accuracy"] > 0.82
    assert onnx.baseline_digest and onnx.baseline_digest == sklearn.baseline_digest, "same rows, same decisions"
    assert b"AGEP" in await Objects(CatalogSettings(home=tmp_path)).get(onnx.baseline_digest)


async def test_a_canonical_package_keeps_its_digest(packages: Path, tmp_path: Path) -> None:
    import hashlib

    file = packages / "census-employment.zip"
    async with (intake := intake_at(tmp_path)).folder() as work:
        pack = await intake.pack(file, work, {})
    assert pack.digest == "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "format", "outputs"),
    [
        ("xgboost.json two", "xgboost", {"label": "INT64", "probabilities": "FP32"}),
        ("xgboost.ubj three", "xgboost", {"label": "INT64", "probabilities": "FP32"}),
        ("xgboost.ubj raw", "xgboost", {"label": "INT64"}),
        ("xgboost.json number", "xgboost", {"value": "FP64"}),
        ("lightgbm.txt two", "lightgbm", {"label": "INT64", "probabilities": "FP32"}),
        ("lightgbm.txt number", "lightgbm", {"value": "FP64"}),
    ],
)
async def test_a_bare_boosted_model_is_taken_as_what_it_is(
    name: str, format: str, outputs: dict[str, str], tmp_path: Path
) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(boosted()[name][0])
    intake = intake_at(tmp_path)
    async with intake.folder() as work:
        made = await intake.candidate(await intake.pack(upload, work, {"name": "boosted"}), Training())
    assert made.manifest.format == format
    assert [(each.name, each.shape) for each in made.model_schema.inputs] == [("X", (-1, 3))]
    assert {each.name: each.datatype for each in made.model_schema.outputs} == outputs
    assert made.scan.verdict == "clean"
    assert made.environment["made_with"].startswith(format)
    assert any(line.startswith(format) for line in made.environment["requirements"])


_RULES = b"""# who is asked
columns: [income, age]
rules:
  - {when: age < 18, decide: refuse}
otherwise: ask
"""


async def test_rules_bring_the_names_of_their_columns(tmp_path: Path) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(_RULES)
    intake = intake_at(tmp_path)
    async with intake.folder() as work:
        made = await intake.candidate(await intake.pack(upload, work, {"name": "asked"}), Training())
    assert (made.manifest.format, made.manifest.model) == ("rules", "rules.yaml")
    assert [(column.name, column.nullable) for column in made.model_schema.columns] == [("income", True), ("age", True)]
    assert [(each.name, each.datatype) for each in made.model_schema.outputs] == [("label", "BYTES")]


async def test_columns_in_another_order_than_the_model_s_are_refused(tmp_path: Path) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(_RULES)
    intake, columns = intake_at(tmp_path), [{"name": "age"}, {"name": "income"}]
    async with intake.folder() as work:
        pack = await intake.pack(upload, work, {"name": "asked", "columns": columns})
        with pytest.raises(Invalid, match="columns: the model has income where age is declared"):
            await intake.candidate(pack, Training())


@pytest.mark.parametrize("name", ["xgboost.ubj two", "lightgbm.txt two"])
async def test_a_boosted_model_that_breaks_off_is_refused(name: str, tmp_path: Path) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(boosted()[name][0][:900])
    intake = intake_at(tmp_path)
    async with intake.folder() as work:
        pack = await intake.pack(upload, work, {"name": "boosted"})
        with pytest.raises(Invalid, match=r"is not a readable|ended its inspection"):
            await intake.candidate(pack, Training())


async def test_a_package_that_takes_too_long_or_too_much_is_refused(tmp_path: Path) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(models.package(models.skops_bytes(models.forest()), format_="sklearn"))
    with pytest.raises(Invalid, match=r"within 0.001 s"):
        await taken(intake_at(tmp_path, inspection_s=0.001), upload)
    upload.write_bytes(models.package(models.onnx_bytes(models.hungry_onnx())))
    with pytest.raises(Invalid, match="fails on its own rows"):
        await taken(intake_at(tmp_path), upload)


PROGRAM = """
name: silent
format: process
command: [python, main.py]
inputs:
  - {name: X, datatype: FP64, shape: [-1, 1]}
outputs:
  - {name: label, datatype: INT64, shape: [-1]}
"""


@pytest.mark.parametrize(("source", "says"), [
    ("import sys\nfor line in sys.stdin: pass", "the program answered nothing within 2 s of its start"),
    ("import sys\nprint('x' * 3000, file=sys.stderr)\nraise OSError('no weights')", "OSError: no weights"),
])  # fmt: skip
async def test_a_program_that_says_nothing_or_crashes_is_refused_soon_and_with_the_reason(
    source: str, says: str, tmp_path: Path
) -> None:
    upload = packed(tmp_path, {"fairlead.yaml": PROGRAM, "main.py": source})
    started = time.monotonic()
    with pytest.raises(Invalid, match=says):
        await taken(intake_at(tmp_path, runtimes=SAID, program_start_s=2.0), upload)
    assert time.monotonic() - started < 60


HANGS = """
import sys, time
for number, line in enumerate(sys.stdin):
    if number:
        time.sleep(10_000)
    print('{"id": "0", "outputs": []}', flush=True)
"""


async def test_a_program_that_hangs_on_its_first_call_is_refused_soon_and_the_call_is_named(tmp_path: Path) -> None:
    upload = packed(tmp_path, {"fairlead.yaml": PROGRAM, "main.py": HANGS})
    with pytest.raises(Invalid, match=r"did not answer a call with .* rows? within 1 s \(FAIRLEAD_INSPECTION_ANSWER_S"):
        await taken(intake_at(tmp_path, runtimes=SAID, inspection_answer_s=1.0, inspection_s=100_000.0), upload)


async def test_models_that_hang_hold_up_their_own_unit_alone(tmp_path: Path) -> None:
    hangs = packed(tmp_path, {"fairlead.yaml": PROGRAM, "main.py": HANGS})
    good = tmp_path / "upload"
    good.write_bytes(models.package(models.onnx_bytes(models.onnx_model())))
    intake = intake_at(tmp_path, runtimes=SAID, inspections=2, inspection_answer_s=100_000.0, inspection_s=100_000.0)

    async def of(unit: str, upload: Path) -> Candidate:
        async with intake.folder() as work:
            return await intake.candidate(await intake.pack(upload, work, {}), Training(), unit)

    async with asyncio.TaskGroup() as hanging:
        held = [hanging.create_task(of("retail", hangs)) for _ in range(3)]
        await eventually(lambda: len(list((tmp_path / "run" / "catalog").iterdir())) == 3)
        assert (await of("risk", good)).scan.verdict == "clean"
        for task in held:
            assert not task.done()
            task.cancel()
