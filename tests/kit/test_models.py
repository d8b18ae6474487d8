"""Models of one table answer in the sandbox what their own library answers, and what is no model is said to be none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.kit.models import KINDS, preload, requirements
from services.kit.sandbox import SandboxError, run_sandboxed

from .boosted import ROWS, boosted

pytestmark = pytest.mark.timeout(120)


async def asked(format: str, data: bytes, folder: Path, rows: np.ndarray = ROWS) -> dict[str, Any]:
    file = folder / "model"
    file.write_bytes(data)
    job = {"format": format, "file": str(file), "rows": rows.tolist()}
    told = await run_sandboxed(
        "tests.kit.sandboxed_models:asked", json.dumps(job).encode(), preload=preload(format), readable=[file],
        deadline_s=30,
    )  # fmt: skip
    return json.loads(told)


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("xgboost.json two", [0, 1]), ("xgboost.ubj two", [0, 1]), ("xgboost.ubj three", [0, 1, 2]),
        ("lightgbm.txt two", [0, 1]), ("lightgbm.txt three", [0, 1, 2]),
    ],
)  # fmt: skip
async def test_a_classifier_gives_its_library_s_probabilities_and_the_likeliest_class(
    name: str, classes: list[int], tmp_path: Path
) -> None:
    data, said = boosted()[name]
    told = await asked(name.partition(".")[0], data, tmp_path)
    assert (told["columns"], told["classes"]) == (3, classes)
    expected = said if said.ndim == 2 else np.stack([1 - said, said], axis=1)
    np.testing.assert_allclose(told["probabilities"], expected, rtol=1e-5)
    assert told["predictions"] == np.argmax(expected, axis=1).tolist()
    assert len(set(told["predictions"])) == len(classes)


@pytest.mark.parametrize("name", ["xgboost.json number", "lightgbm.txt number"])
async def test_a_regression_gives_its_library_s_numbers(name: str, tmp_path: Path) -> None:
    data, said = boosted()[name]
    told = await asked(name.partition(".")[0], data, tmp_path)
    assert (told["classes"], told["probabilities"]) == (None, None)
    np.testing.assert_allclose(told["predictions"], said, rtol=1e-5)


@pytest.mark.parametrize("name", ["xgboost.ubj hinge", "xgboost.ubj raw"])
async def test_a_classifier_without_probabilities_decides(name: str, tmp_path: Path) -> None:
    data, said = boosted()[name]
    told = await asked("xgboost", data, tmp_path)
    assert (told["classes"], told["probabilities"]) == ([0, 1], None)
    assert told["predictions"] == (said > 0).astype(int).tolist()


async def test_a_classifier_that_was_trained_to_decide_tells_its_probabilities_too(tmp_path: Path) -> None:
    data, said = boosted()["xgboost.ubj three decided"]
    told = await asked("xgboost", data, tmp_path)
    assert told["predictions"] == said.astype(int).tolist()
    np.testing.assert_allclose(np.sum(told["probabilities"], axis=1), 1, rtol=1e-5)


async def test_lightgbm_needs_no_openmp_of_the_machine(tmp_path: Path) -> None:
    told = await asked("lightgbm", boosted()["lightgbm.txt two"][0], tmp_path)
    assert len(told["openmp"]) == 1
    assert "scikit_learn.libs" in told["openmp"][0]


@pytest.mark.parametrize("name", ["xgboost.ubj two", "lightgbm.txt two"])
async def test_rows_of_another_width_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="features"):
        await asked(name.partition(".")[0], boosted()[name][0], tmp_path, ROWS[:, :2])


@pytest.mark.parametrize(
    ("format", "data"),
    [
        ("xgboost", b'{"learner":{}}'), ("xgboost", b"{L"), ("xgboost", b"{"),
        ("lightgbm", b"tree\n"), ("lightgbm", b"tree\nversion=v4\n"), ("lightgbm", b"tree\n\xff"), ("lightgbm", b""),
        ("sklearn", b"PK\3\4"), ("sklearn", b""),
    ],
)  # fmt: skip
async def test_what_is_no_model_is_said_to_be_none(format: str, data: bytes, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="Unreadable: ") as told:
        await asked(format, data, tmp_path)
    assert "Stack trace" not in str(told.value)


@pytest.mark.parametrize("name", ["xgboost.ubj two", "xgboost.json two", "lightgbm.txt two"])
@pytest.mark.parametrize("share", [0.0, 0.5])
async def test_a_file_that_breaks_off_is_refused_or_ends_its_sandbox_alone(
    name: str, share: float, tmp_path: Path
) -> None:
    data = boosted()[name][0]
    with pytest.raises(SandboxError):
        await asked(name.partition(".")[0], data[: int(len(data) * share)], tmp_path)


def test_every_format_names_what_it_stands_on() -> None:
    for format in (name for name, kind in KINDS.items() if not kind.is_code):
        assert all("==" in line for line in requirements(format))
