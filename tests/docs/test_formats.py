"""What docs/formats.md shows opens models and answers: with a library that does what the page takes it to do."""

import re
import sys
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import get_args

import numpy as np
import pytest

from contracts import Format
from deploy.embedded.home import ROOT
from services.catalog.domain import CODE_FORMATS, EXECUTES_CODE, MODEL_FILES
from services.kit import models
from services.kit.models import KINDS, Asked, Kind, Unreadable, open_code, open_table
from services.kit.models.tables import Table
from services.kit.models.wire import Array
from services.scorer.repository import PLATFORMS

PAGE = (ROOT / "docs" / "formats.md").read_text()
ROWS = np.array([[1, 2, 3], [-1, 0, 0]], np.float32)


class Broken(Exception):
    """What the library says of a file that is none of its own."""


@dataclass
class Model:
    """Of its table models."""

    width: int = 3
    classes: int = 2

    def score(self, matrix: Array) -> Array:
        high = np.where(matrix.sum(axis=1) > 0, 0.75, 0.25)
        return np.stack([1 - high, high], axis=1)


class Graph:
    """Of its code models."""

    width = 3

    def run(self, matrix: Array) -> list[float]:
        return matrix.sum(axis=1).tolist()


def loads(data: bytes) -> Model:
    if data != b"acme":
        raise Broken("not mine")
    return Model()


def load(path: Path) -> Graph:
    loads(path.read_bytes())
    return Graph()


@pytest.fixture
def acme(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The library, and the page's two files as if they lay beside those of the other formats."""
    library = ModuleType("acme")
    library.__dict__.update(Model=Model, Graph=Graph, Error=Broken, loads=loads, load=load)
    monkeypatch.setitem(sys.modules, "acme", library)
    for name, text in zip(
        ("acme_table", "acme_code"), re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL), strict=True
    ):
        file = tmp_path / f"{name}.py"
        file.write_text(text)
        spec = spec_from_file_location(f"{models.__name__}.{name}", file)
        assert spec and spec.loader
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(KINDS, name, Kind(name, ("numpy",), is_code=name == "acme_code"))


def test_the_table_model_of_the_page_answers(acme: None) -> None:
    table = Table(open_table("acme_table", b"acme"), Asked())
    assert [(spec["name"], spec["shape"]) for spec in table.told.outputs] == [
        ("label", [-1]),
        ("probabilities", [-1, 2]),
    ]
    said = table.predict({"X": ROWS})
    assert said["label"].tolist() == [1, 0]
    assert said["probabilities"].tolist() == [[0.25, 0.75], [0.75, 0.25]]
    labels = Table(open_table("acme_table", b"acme"), Asked(outputs=[{"name": "label"}], prediction="label"))
    assert labels.predict({"X": ROWS})["label"].tolist() == [1, 0]
    with pytest.raises(Unreadable, match="not mine"):
        open_table("acme_table", b"")


def test_the_code_model_of_the_page_answers(acme: None, tmp_path: Path) -> None:
    (tmp_path / "model.acme").write_bytes(b"acme")
    model = open_code("acme_code", tmp_path, "model.acme", Asked())
    assert list(model.told.inputs) == [{"name": "X", "datatype": "FP32", "shape": [-1, 3]}]
    assert model.predict({"X": ROWS})["label"].tolist() == [6.0, -1.0]
    (tmp_path / "model.acme").write_bytes(b"")
    with pytest.raises(Unreadable, match="acme: not mine"):
        open_code("acme_code", tmp_path, "model.acme", Asked())


def test_every_format_has_the_rows_that_the_page_asks_for() -> None:
    assert set(EXECUTES_CODE) == set(PLATFORMS) == set(get_args(Format))
    assert {name for name, kind in KINDS.items() if kind.is_code} == CODE_FORMATS
    assert {name for name, kind in KINDS.items() if not kind.is_code} == set(MODEL_FILES) - {"onnx"}
