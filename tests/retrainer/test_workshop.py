"""Recipes and models in real sandboxes: a candidate is trained, compared and packed, or a reason is given."""

import pickle
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
import yaml

from contracts import TensorSpec, Training
from services.kit.environments import completed, lock, requirements
from services.kit.objects import Objects
from services.retrainer.domain import Retrained
from services.retrainer.settings import RetrainerSettings
from services.retrainer.workshop import Workshop

from . import making
from .making import Shelf

PRELUDE = "from pathlib import Path\nimport os\ndef train(rows, out):\n"


@pytest.fixture
def settings(tmp_path: Path) -> RetrainerSettings:
    return RetrainerSettings(home=tmp_path / "home", retraining_s=60, scoring_s=60)


@pytest.fixture
def objects(settings: RetrainerSettings) -> Objects:
    return Objects(settings)


async def _retrain(settings: RetrainerSettings, objects: Objects, package: bytes, rows: bytes | None) -> Retrained:
    model = making.registered(await objects.put(package))
    return await Workshop(settings, objects, Shelf(objects, rows)).retrain(making.job(), model)


async def test_a_better_candidate_wins_and_is_packed(settings: RetrainerSettings, objects: Objects) -> None:
    made = await _retrain(settings, objects, making.package(threshold=0.2), making.snapshot(threshold=0.6))
    assert made.verdict.outcome == "candidate_won", made.verdict.reason
    assert made.trained_rows + made.held_out_rows == 800
    assert 120 < made.held_out_rows < 280
    assert made.comparison and made.package_digest
    assert made.comparison.candidate["accuracy"] > 0.97 > made.comparison.champion["accuracy"]
    with zipfile.ZipFile(BytesIO(await objects.get(made.package_digest))) as package:
        assert package.namelist() == ["fairlead.yaml", "model.onnx", "recipe.py", "training.parquet"]
        said = yaml.safe_load(package.read("fairlead.yaml"))
        assert package.read("recipe.py").decode() == making.RECIPE
        assert package.read("training.parquet")[:4] == b"PAR1"
    assert said == making.MANIFEST | {"metrics": made.comparison.candidate}
    assert list((settings.home / "run").iterdir()) == []


RIVER = """
import pickle
import pyarrow.parquet as pq
from river import tree
def train(rows, out):
    model = tree.HoeffdingTreeClassifier(grace_period=20)
    for row in pq.read_table(rows).to_pylist():
        model.learn_one({"size": row["size"], "noise": row["noise"]}, row["truth"] > 0)
    (out / "model.pkl").write_bytes(pickle.dumps(model))
    return {}
"""


async def test_a_recipe_and_its_model_run_on_the_libraries_that_the_package_brings(
    settings: RetrainerSettings, objects: Objects
) -> None:
    from river import dummy

    guess = dummy.NoChangeClassifier()
    guess.learn_one({}, True)
    needed = completed(requirements(b"river==0.26.1"), ("pyarrow",))
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as package:
        said = {"format": "river", "model": "model.pkl", "recipe": "recipe.py", "label": "truth"}
        package.writestr("fairlead.yaml", yaml.safe_dump(said | {"requirements": "requirements.lock"}))
        package.writestr("model.pkl", pickle.dumps(guess))
        package.writestr("recipe.py", RIVER)
        package.writestr("requirements.lock", await lock(needed, timeout_s=60))
    outputs = (TensorSpec(name="label", datatype="BOOL", shape=(-1,)),)
    schema = making.SCHEMA.model_copy(update={"outputs": outputs, "score": None})
    model = making.registered(await objects.put(packed.getvalue()), format="river", model_schema=schema)
    made = await Workshop(settings, objects, Shelf(objects, making.snapshot())).retrain(making.job(), model)
    assert made.verdict.outcome == "candidate_won", made.verdict.reason
    assert made.comparison and made.comparison.candidate["accuracy"] > 0.9 > made.comparison.champion["accuracy"]


async def test_a_champion_that_is_right_is_kept(settings: RetrainerSettings, objects: Objects) -> None:
    made = await _retrain(settings, objects, making.package(threshold=0.6), making.snapshot(threshold=0.6))
    assert made.verdict.outcome == "champion_kept"
    assert "interval" in made.verdict.reason
    assert made.package_digest is None


async def test_the_same_request_makes_the_same_bytes(settings: RetrainerSettings, objects: Objects) -> None:
    model, rows = making.registered(await objects.put(making.package())), making.snapshot()
    workshop, job = Workshop(settings, objects, Shelf(objects, rows)), making.job()
    assert await workshop.retrain(job, model) == await workshop.retrain(job, model)


async def test_a_version_is_reproduced_to_the_byte(settings: RetrainerSettings, objects: Objects) -> None:
    rows, job = making.snapshot(), making.job()
    workshop = Workshop(settings, objects, Shelf(objects, rows))
    made = await workshop.retrain(job, making.registered(await objects.put(making.package())))
    assert made.comparison and made.package_digest
    known = Training(
        data_digest=made.snapshot_digest, retraining_id=str(job.id), metrics=made.comparison.candidate,
        parent_version=1, rows=made.trained_rows,
    )  # fmt: skip
    version = making.registered(made.package_digest, version=2, training=known)
    again = await workshop.reproduce(version)
    assert again.state == "identical", again.reason
    assert set(again.files) == {"model.onnx", "training.parquet"}
    assert again.metrics == known.metrics

    altered = making.registered(await objects.put(making.package(threshold=0.1)), version=2, training=known)
    different = await workshop.reproduce(altered)
    assert different.state == "different"
    assert "a byte-identical artifact was not reached: model.onnx" in different.reason


@pytest.mark.parametrize(
    ("package", "rows", "reason"),
    [
        (making.package(), making.snapshot(800, labelled=120), "120 labelled rows (of 800 recorded)"),
        (making.package(), None, "there are no rows; a retraining needs 200 labelled rows"),
        (making.package(recipe=None), making.snapshot(), "has no recipe"),
        (making.package(label=None), making.snapshot(), "names no label"),
        (making.package(), making.snapshot(without="noise"), "the snapshot has no column noise"),
        (making.package(), b"not parquet", "the recorded rows failed in the sandbox"),
        (making.package(recipe="raise ValueError('spoilt')"), making.snapshot(), "ValueError: spoilt"),
        (making.package(recipe=PRELUDE + "    return {}"), making.snapshot(), "there is no file model.onnx"),
        (
            making.package(recipe=PRELUDE + "    (out / 'model.onnx').symlink_to('/etc/shadow')"),
            making.snapshot(),
            "Operation not permitted",
        ),
        (
            making.package(recipe=PRELUDE + "    Path(rows).parent.joinpath('labels.npy').read_bytes()"),
            making.snapshot(),
            "Permission denied",
        ),
        (
            making.package(
                recipe=PRELUDE + "    for name in ('model.onnx', 'training.parquet'): (out / name).write_text('no')"
            ),
            making.snapshot(),
            "the candidate failed in the sandbox",
        ),
    ],
    ids=[
        "too few labels", "no rows", "no recipe", "no label", "no column", "not parquet", "recipe raises",
        "recipe writes nothing", "recipe links", "recipe peeks", "recipe writes no model",
    ],
)  # fmt: skip
async def test_what_cannot_be_done_has_its_reason(
    settings: RetrainerSettings, objects: Objects, package: bytes, rows: bytes | None, reason: str
) -> None:
    made = await _retrain(settings, objects, package, rows)
    assert made.verdict.outcome == "failed"
    assert reason in made.verdict.reason
    assert made.package_digest is None


async def test_a_recipe_without_end_is_stopped(tmp_path: Path) -> None:
    settings = RetrainerSettings(home=tmp_path, retraining_s=0.5)
    made = await _retrain(
        settings, Objects(settings), making.package(recipe=PRELUDE + "    while True: pass"), making.snapshot()
    )
    assert made.verdict.reason.startswith("the recipe failed in the sandbox: took longer than 0.5 s")
