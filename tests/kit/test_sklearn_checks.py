"""scikit-learn's checks are left out only where they would change nothing."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import ComplementNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils import validation

from services.kit.models import sklearn_checks

ROWS = np.random.default_rng(3).uniform(0, 1, (80, 4)).astype(np.float32)
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in cast")
CLASSES = (ROWS[:, 0] + ROWS[:, 1] > 1).astype(int)

ESTIMATORS = [
    GradientBoostingClassifier(n_estimators=5), HistGradientBoostingClassifier(max_iter=5),
    RandomForestRegressor(n_estimators=5), LogisticRegression(), ComplementNB(), KNeighborsClassifier(),
    MLPClassifier((3,), max_iter=20), SVC(), make_pipeline(StandardScaler(), LogisticRegression()),
]  # fmt: skip
INPUTS: dict[str, Any] = {
    "good": ROWS[:7], "one row": ROWS[:1], "doubles": ROWS[:7].astype(float),
    "large doubles": np.full((2, 4), 1e300), "half": ROWS[:7].astype(np.float16),
    "columns first": np.asfortranarray(ROWS[:7]),
    "whole numbers": np.ones((3, 4), int), "missing": np.full((2, 4), np.nan, np.float32),
    "infinite": np.full((2, 4), np.inf, np.float32), "narrow": ROWS[:7, :3], "wide": np.ones((2, 5), np.float32),
    "negative": -ROWS[:7], "no row": ROWS[:0], "one dimension": ROWS[0], "three": ROWS[None, :2],
    "a list": ROWS[:2].tolist(),
    "texts": np.full((2, 4), "a"), "objects": np.full((2, 4), 1.0, object), "every second": ROWS[:8:2],
}  # fmt: skip


def said(ask: Callable[..., Any], *given: Any, **params: Any) -> str:
    """What it answers, or what it refuses with."""
    try:
        answer = ask(*given, **params)
    except (ValueError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    answered = np.asarray(answer)
    return f"{answer is params.get('X')} {answered.dtype} {answered.tolist()}"


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: type(estimator).__name__)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_estimator_says_the_same_with_and_without(estimator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    estimator.fit(ROWS, CLASSES)
    sklearn_checks.spare()
    brief = {name: said(estimator.predict, each) for name, each in INPUTS.items()}
    with monkeypatch.context() as patched:
        patched.setattr(sklearn_checks, "_passed", lambda *_: None)
        whole = {name: said(estimator.predict, each) for name, each in INPUTS.items()}
    assert brief == whole


class Fitted(BaseEstimator):
    n_features_in_ = 4


@pytest.mark.parametrize(
    "params",
    [
        {}, {"dtype": np.float32}, {"dtype": [np.float64, np.float32]}, {"dtype": "float32"}, {"dtype": None},
        {"dtype": "numeric"},
        {"dtype": np.float64}, {"dtype": object}, {"order": "C"}, {"order": "F"}, {"copy": True}, {"copy": False},
        {"accept_sparse": "csr", "ensure_all_finite": "allow-nan"}, {"ensure_min_samples": 3},
        {"force_writeable": True}, {"ensure_non_negative": True},
        {"skip_check_array": True}, {"ensure_min_features": 5}, {"allow_nd": True},
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", INPUTS)
def test_an_array_that_is_given_back_is_what_the_checks_would_give(params: dict[str, Any], name: str) -> None:
    sklearn_checks.spare()
    brief: Any = validation.validate_data
    ours, theirs = (
        said(ask, Fitted(), X=INPUTS[name], reset=False, **params) for ask in (brief, brief.__wrapped__)
    )  # fmt: skip
    assert ours == theirs


def test_fitting_is_checked_as_ever() -> None:
    sklearn_checks.spare()
    estimator = LogisticRegression().fit(ROWS, CLASSES)
    assert estimator.n_features_in_ == 4
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        estimator.fit(ROWS, CLASSES[:-1])


def test_it_is_left_out_at_all() -> None:
    """Else all of the above would be true of nothing."""
    sklearn_checks.spare()
    ask: Any = validation.validate_data
    assert ask(Fitted(), X=(given := ROWS[:7]), reset=False) is given
    for rows in (ROWS, ROWS.astype(float)):
        made = sklearn_checks._passed(rows, Fitted(), {"dtype": np.float32, "accept_sparse": "csr"})
        assert made is not None and made.dtype == np.float32
    assert GradientBoostingClassifier.predict.__globals__["validate_data"] is validation.validate_data
