"""The census example: packages that are the same bytes each time, and a world that drifts as told."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
import skops.io
import yaml

from examples.census import build, rows

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packages")
    build.build(out)
    return out


def unpacked(package: Path, to: Path) -> Path:
    with zipfile.ZipFile(package) as archive:
        archive.extractall(to)
    return to


def test_a_second_build_in_another_process_gives_the_same_bytes(packages: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.census.build", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "PYTHONHASHSEED": "77"}, timeout=120)
    for name in build.PACKAGES:
        assert (tmp_path / f"{name}.zip").read_bytes() == (packages / f"{name}.zip").read_bytes()


def test_both_formats_decide_alike_and_as_the_reference_says(packages: Path, tmp_path: Path) -> None:
    onnx = unpacked(packages / "census-employment.zip", tmp_path / "onnx")
    sklearn = unpacked(packages / "census-employment-sklearn.zip", tmp_path / "sklearn")
    reference = pq.read_table(onnx / "training.parquet")
    assert 5_000 < reference.num_rows <= 20_000
    matrix = rows.matrix(reference)

    session = onnxruntime.InferenceSession((onnx / "model.onnx").read_bytes())
    label, probabilities = map(np.asarray, session.run(["label", "probabilities"], {"X": matrix}))
    model = skops.io.load(sklearn / "model.skops", trusted=["sklearn.tree._tree.Tree"])

    assert label.dtype == np.int64 and probabilities.dtype == np.float32 and probabilities.shape == (len(matrix), 2)
    np.testing.assert_array_equal(label, reference["label"].to_numpy())
    np.testing.assert_array_equal(label, model.predict(matrix))
    np.testing.assert_allclose(probabilities[:, 1], reference["probabilities"].to_numpy(), atol=1e-5)


def test_the_model_is_as_good_as_its_manifest_says_in_the_next_year(packages: Path, tmp_path: Path) -> None:
    folder = unpacked(packages / "census-employment.zip", tmp_path)
    metrics = yaml.safe_load((folder / "fairlead.yaml").read_text())["metrics"]
    later = rows.year(2016)
    session = onnxruntime.InferenceSession((folder / "model.onnx").read_bytes())
    label = session.run(["label"], {"X": rows.matrix(later)})[0]
    assert np.mean(label == later["employed"].to_numpy()) == pytest.approx(metrics["accuracy"], abs=0.01)


def test_the_packaged_recipe_trains_again_from_recorded_rows(packages: Path, tmp_path: Path) -> None:
    folder = unpacked(packages / "census-employment.zip", tmp_path / "package")
    rows.write_parquet(rows.schooling_in_years(rows.year(2016)).slice(0, 4_000), tmp_path / "rows.parquet")
    code = "import json,pathlib,sys,recipe; print(json.dumps(recipe.train(*map(pathlib.Path, sys.argv[1:]))))"
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-c", code, str(tmp_path / "rows.parquet"), str(out)]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=120)
    assert '"accuracy": 0.8' in done.stdout
    assert (out / "model.onnx").stat().st_size > 10_000
    assert pq.read_metadata(out / "training.parquet").num_rows == 1_000


def test_pensioners_come_first_and_nobody_is_lost() -> None:
    table = rows.year(2016)
    told = rows.pensioners_first(table)
    ages = told["AGEP"].to_numpy()
    old = int((ages >= 65).sum())
    assert (ages[:old] >= 65).all() and (ages[old:] < 65).all() and old > 10_000
    assert sorted(told["id"].to_pylist()) == table["id"].to_pylist()


def test_schooling_in_years_moves_the_column_within_its_declared_range() -> None:
    before, after = rows.year(2017), rows.schooling_in_years(rows.year(2017))
    assert after.column_names == before.column_names
    moved = before["SCHL"].to_numpy().mean() - after["SCHL"].to_numpy().mean()
    assert moved > 0.5 * before["SCHL"].to_numpy().std()
    assert after["SCHL"].to_numpy().min() >= 0 and after["SCHL"].to_numpy().max() <= 24


def test_requests_carry_every_row_with_its_label() -> None:
    table = rows.year(2015).slice(0, 25)
    made = list(rows.requests(table, rows=10))
    assert [request.body["inputs"][0]["shape"] for request in made] == [[10, 16], [10, 16], [5, 16]]
    assert [label for request in made for label in request.labels] == table["employed"].to_pylist()
    single = next(rows.requests(table))
    assert single.body["parameters"] == {"entity": "0"}
    assert single.body["inputs"][0]["data"] == rows.matrix(table)[0].tolist()
