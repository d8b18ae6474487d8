"""Probabilities of a river model are those of its own classes, in their order; what is not clear is refused."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.kit.models import Asked, Unreadable, river_pickle

ASKED = Asked(columns=["a"], prediction="label", score="p")


@dataclass
class Estimator:
    """Answers by the sign of the row."""

    low: dict[Any, float]
    high: dict[Any, float]

    def predict_proba_one(self, row: dict[str, float]) -> dict[Any, float]:
        return self.high if row["a"] > 0 else self.low

    def predict_one(self, row: dict[str, float]) -> Any:
        said = self.predict_proba_one(row)
        return max(said, key=said.__getitem__)


@pytest.fixture(autouse=True)
def without_river(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which comes with a package that has such a model."""
    monkeypatch.setattr(river_pickle, "version", lambda _: "0.26.1")


def opened(low: dict[Any, float], high: dict[Any, float], folder: Path) -> river_pickle.RiverModel:
    (folder / "model.pkl").write_bytes(pickle.dumps(Estimator(low, high)))
    return river_pickle.open_model(folder, "model.pkl", ASKED)


@pytest.mark.parametrize(
    ("low", "high", "columns"),
    [
        ({"spam": 0.25, "ham": 0.75}, {"ham": 0.5, "spam": 0.5}, [[0.75, 0.25], [0.5, 0.5]]),
        ({0: 0.25, 1: 0.25, 2: 0.5}, {2: 0.5, 0: 0.5}, [[0.25, 0.25, 0.5], [0.5, 0, 0.5]]),
        ({False: 0.25, True: 0.75}, {True: 0.5}, [[0.25, 0.75], [0.5, 0.5]]),
        ({1: 0.75}, {0: 0.5, 1: 0.5}, [[0.25, 0.75], [0.5, 0.5]]),
    ],
)
def test_each_class_has_its_own_column(
    low: dict[Any, float], high: dict[Any, float], columns: list[list[float]], tmp_path: Path
) -> None:
    said = opened(low, high, tmp_path).predict({"X": np.array([[-1.0], [1.0]])})
    assert said["p"].tolist() == columns


@pytest.mark.parametrize("low", [{"ham": 1.0}, {"ham": 0.5, 1: 0.5}, {0.5: 0.5, 1.5: 0.5}])
def test_classes_without_an_order_are_refused(low: dict[Any, float], tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="score: of a row of zeros the model names the classes"):
        opened(low, low, tmp_path)


def test_a_class_that_turns_up_later_is_no_column_of_another(tmp_path: Path) -> None:
    model = opened({"ham": 0.5, "spam": 0.5}, {"ham": 0.5, "eggs": 0.5}, tmp_path)
    assert model.predict({"X": np.array([[-1.0]])})["p"].tolist() == [[0.5, 0.5]]
    with pytest.raises(ValueError, match="a probability of 'eggs'"):
        model.predict({"X": np.array([[-1.0], [1.0]])})


@pytest.mark.parametrize(
    ("low", "later"), [({1: 0.5, 2: 0.5}, 0), ({"ham": 0.5, "spam": 0.5}, ""), ({1: 0.5, 2: 0.5}, False)]
)
def test_a_class_0_or_an_empty_one_that_turns_up_later_is_told_too(
    low: dict[Any, float], later: object, tmp_path: Path
) -> None:
    model = opened(low, {later: 0.75, **dict.fromkeys(low, 0.125)}, tmp_path)
    with pytest.raises(ValueError, match=f"a probability of {later!r}, and named"):
        model.predict({"X": np.array([[1.0]])})
