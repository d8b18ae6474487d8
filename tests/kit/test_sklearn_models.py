"""scikit-learn's classifiers decide as their own `predict` does, in one pass where probabilities are asked for too."""

from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import AdaBoostClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.discovery import all_estimators

from services.kit.models import skops_file
from services.kit.models.skops_file import SklearnModel, open_model

RANDOM = np.random.default_rng(7)
ROWS = RANDOM.integers(0, 4, (300, 3)).astype(float)
NAMES = np.array(["no", "perhaps", "yes"])
CLASSIFIERS = {name: kind for name, kind in all_estimators(type_filter="classifier")
               if name in skops_file._LIKELIEST}  # fmt: skip


def fitted(estimator: Any, classes: int) -> SklearnModel:
    """Few distinct rows with labels that contradict one another: many of them are as likely one as another."""
    labels = NAMES[(ROWS.sum(axis=1).astype(int) + RANDOM.integers(0, 2, len(ROWS))) % classes]
    return open_model(skops.io.dumps(estimator.fit(ROWS, labels)))


def of(name: str) -> Any:
    quick = {"max_iter": 30} if name in ("MLPClassifier", "HistGradientBoostingClassifier") else {}
    return CLASSIFIERS[name](**quick)


def test_all_of_the_list_are_known_to_scikit_learn() -> None:
    assert set(CLASSIFIERS) == skops_file._LIKELIEST


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", sorted(CLASSIFIERS))
def test_one_pass_decides_as_predict_does(name: str, classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted(of(name), classes)
    own = model._estimator
    expected, shares = own.predict(ROWS), own.predict_proba(ROWS)
    asked = list[int]()

    def predict(matrix: np.ndarray) -> np.ndarray:
        asked.append(len(matrix))
        return type(own).predict(own, matrix)

    monkeypatch.setattr(own, "predict", predict)
    decided, told = model.scored(ROWS)
    assert decided.tolist() == expected.tolist() and np.array_equal(told, shares)
    assert sum(asked) < len(ROWS)


def test_a_tie_is_decided_by_the_classifier_itself() -> None:
    """A forest of two trees that disagree; its own rule says who wins."""
    rows, labels = np.array([[0.0], [0.0], [1.0], [1.0]]), np.array(["a", "b", "a", "b"])
    model = open_model(skops.io.dumps(DecisionTreeClassifier().fit(rows, labels)))
    decided, shares = model.scored(rows)
    assert shares.tolist() == [[0.5, 0.5]] * 4
    assert decided.tolist() == model.predict(rows).tolist()


def test_a_pipeline_decides_as_its_last_step() -> None:
    model = fitted(make_pipeline(MinMaxScaler(), LogisticRegression()), 3)
    assert model._is_likeliest
    assert model.scored(ROWS)[0].tolist() == model.predict(ROWS).tolist()


def test_who_is_not_known_to_decide_so_is_asked_for_both() -> None:
    model = fitted(AdaBoostClassifier(n_estimators=5), 3)
    assert not model._is_likeliest
    assert model.scored(ROWS)[0].tolist() == model.predict(ROWS).tolist()


def test_one_class_and_several_outputs_are_asked_for_both() -> None:
    one = open_model(skops.io.dumps(DecisionTreeClassifier().fit(ROWS, np.zeros(len(ROWS), int))))
    assert one.scored(ROWS)[0].tolist() == [0] * len(ROWS)
    forest = RandomForestClassifier(5).fit(ROWS, np.stack([ROWS[:, 0], ROWS[:, 1]], axis=1))
    assert not open_model(skops.io.dumps(forest))._is_likeliest
