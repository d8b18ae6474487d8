"""Contributions: exact ones equal the sum over all orders of the columns, sampled ones come close to them."""

from collections.abc import Callable
from itertools import permutations
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto
from skl2onnx import to_onnx
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from services.kit.models.lightgbm_file import open_model as open_lightgbm
from services.kit.models.sklearn_structure import structure as of_sklearn
from services.kit.models.xgboost_file import open_model as open_xgboost
from services.scorer.explanations import counterfactual, shapley, structure
from services.scorer.explanations.onnx_structure import structure as of_onnx

Array = NDArray[Any]
Model = Callable[[Array], Array]

RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(400, 4)).astype(np.float32)
HOLED = np.where(RANDOM.random(X.shape) < 0.1, np.nan, X).astype(np.float32)
Y = (X[:, 0] * X[:, 1] + X[:, 2] > 0).astype(int)
THREE = np.digitize(X[:, 0] + X[:, 1], [-0.7, 0.7])


def by_definition(model: Model, row: Array, background: Array) -> Array:
    """The mean over all orders of what a column adds when it comes."""
    total, orders = np.zeros(len(row)), list(permutations(range(len(row))))
    for order in orders:
        mixed = background.copy()
        before = model(mixed).mean()
        for column in order:
            mixed[:, column] = row[column]
            after = model(mixed).mean()
            total[column] += after - before
            before = after
    return total / len(orders)


def answered(asking: shapley.Questions, model: Model) -> shapley.Shares:
    try:
        rows = next(asking)
        while True:
            rows = asking.send(model(rows))
    except StopIteration as ended:
        return ended.value


def boosted(objective: str, labels: Array, **more: Any) -> xgb.Booster:
    rows = xgb.DMatrix(HOLED, labels)
    return xgb.train({"objective": objective, "max_depth": 3, "base_score": 0.4, **more}, rows, 8)


def light(objective: str, labels: Array, **more: Any) -> lgb.Booster:
    said = {"objective": objective, "num_leaves": 7, "verbose": -1, "num_threads": 1, **more}
    return lgb.train(said, lgb.Dataset(HOLED, labels), 8)


def of_booster(booster: xgb.Booster) -> tuple[Any, Model]:
    model = open_xgboost(bytes(booster.save_raw("ubj")))
    return model.structure(), lambda rows: booster.inplace_predict(rows.astype(np.float32), predict_type="margin")


def of_light(booster: lgb.Booster) -> tuple[Any, Model]:
    model = open_lightgbm(booster.model_to_string().encode())
    return model.structure(), lambda rows: np.asarray(booster.predict(rows, raw_score=True))


def of_estimator(estimator: Any, labels: Array, rows: Array = X) -> tuple[Any, Model]:
    estimator.fit(rows, labels)
    raw = "decision_function" if hasattr(estimator, "decision_function") else "predict_proba"
    method = raw if hasattr(estimator, raw) else "predict"
    return of_sklearn(estimator), lambda asked: getattr(estimator, method)(asked.astype(np.float32))


def of_exported(estimator: Any, labels: Array) -> tuple[Any, Model]:
    estimator.fit(X, labels)
    made = to_onnx(estimator, X[:1], options={id(estimator): {"zipmap": False}}, target_opset=18)
    assert isinstance(made, ModelProto)
    return of_onnx(made.SerializeToString()), lambda rows: estimator.predict_proba(rows.astype(np.float32))


FORESTS: dict[str, Callable[[], tuple[Any, Model]]] = {
    "xgboost, two classes": lambda: of_booster(boosted("binary:logistic", Y)),
    "xgboost, three classes": lambda: of_booster(boosted("multi:softprob", THREE, num_class=3, base_score=0.5)),
    "xgboost, a number": lambda: of_booster(boosted("reg:squarederror", X[:, 0])),
    "lightgbm, two classes": lambda: of_light(light("binary", Y)),
    "lightgbm, three classes": lambda: of_light(light("multiclass", THREE, num_class=3)),
    "lightgbm, a number": lambda: of_light(light("regression", X[:, 0].copy())),
    "a tree": lambda: of_estimator(DecisionTreeClassifier(max_depth=4), THREE),
    "a forest": lambda: of_estimator(RandomForestClassifier(5, max_depth=4, random_state=1), Y),
    "a forest with holes": lambda: of_estimator(RandomForestClassifier(5, max_depth=4, random_state=1), Y, HOLED),
    "extra trees, a number": lambda: of_estimator(ExtraTreesRegressor(5, max_depth=4, random_state=1), X[:, 0]),
    "gradient boosting": lambda: of_estimator(GradientBoostingClassifier(n_estimators=8), Y),
    "gradient boosting, three classes": lambda: of_estimator(GradientBoostingClassifier(n_estimators=4), THREE),
    "histograms": lambda: of_estimator(HistGradientBoostingClassifier(max_iter=8), Y, HOLED),
    "histograms, a number": lambda: of_estimator(HistGradientBoostingRegressor(max_iter=8), X[:, 0], HOLED),
    "a forest in ONNX": lambda: of_exported(RandomForestClassifier(5, max_depth=4, random_state=1), Y),
    "a tree of three classes in ONNX": lambda: of_exported(DecisionTreeClassifier(max_depth=4), THREE),
}


@pytest.mark.parametrize("name", FORESTS)
def test_trees_of_every_library_are_explained_exactly(name: str) -> None:
    said, model = FORESTS[name]()
    rows = (
        HOLED
        if ("boost" in name and "gradient" not in name) or "light" in name or "holes" in name or "hist" in name
        else X
    )
    row, background = rows[7].astype(float), rows[20:32].astype(float)
    whole = np.asarray(model(row[None, :])).reshape(1, -1)
    for output in range(whole.shape[1]):
        forest = structure.forest(said, output, 4)

        def one(asked: Array, output: int = output) -> Array:
            return np.asarray(model(asked)).reshape(len(asked), -1)[:, output]

        assert forest.value(row) == pytest.approx(whole[0, output], abs=1e-5)
        shares = shapley.of_forest(forest, row, background)
        np.testing.assert_allclose(shares.contributions, by_definition(one, row, background), atol=1e-5)
        assert shares.errors is None


@pytest.mark.parametrize("estimator", [LogisticRegression(), LinearRegression()], ids=lambda each: type(each).__name__)
def test_linear_models_are_explained_exactly(estimator: Any) -> None:
    labels = Y if hasattr(estimator, "predict_proba") else X[:, 0] + X[:, 3]
    said, model = of_estimator(estimator, labels)
    coefficients, base = structure.linear(said, 0, 4)
    row, background = X[3].astype(float), X[40:60].astype(float)
    assert base + coefficients @ row == pytest.approx(float(model(row[None, :])[0]), abs=1e-5)
    shares = shapley.of_linear(coefficients, row, background)
    np.testing.assert_allclose(shares.contributions, by_definition(model, row, background), atol=1e-5)


def curved(rows: Array) -> Array:
    return np.sin(rows[:, 0]) * rows[:, 1] + np.maximum(rows[:, 2], rows[:, 3])


def test_any_model_of_few_columns_is_explained_exactly() -> None:
    row, background = X[3].astype(float), X[40:50].astype(float)
    assert shapley.few(4, 10) and not shapley.few(20, 10)
    shares = answered(shapley.of_subsets(row, background), curved)
    np.testing.assert_allclose(shares.contributions, by_definition(curved, row, background), atol=1e-9)


def test_sampled_contributions_come_within_their_stated_errors_and_add_up_on_average() -> None:
    row, background, sample = X[3].astype(float), X[40:50].astype(float), shapley.Sample(4)
    asking = shapley.sampling(row, background, sample, seed=1)
    rows = next(asking)
    for _ in range(400):
        rows = asking.send(curved(rows))
    shares, truth = sample.shares(), by_definition(curved, row, background)
    assert shares.errors is not None and sample.rounds == 3200
    assert (np.abs(shares.contributions - truth) < 4 * shares.errors + 1e-9).all()
    assert (shares.errors < 0.03).all()


def test_sampled_contributions_add_up_after_each_whole_pass_over_the_background() -> None:
    row, background, sample = X[3].astype(float), X[40:48].astype(float), shapley.Sample(4)
    asking = shapley.sampling(row, background, sample, seed=1)
    rows = next(asking)
    for passes in (1, 2, 3):
        rows = asking.send(curved(rows))
        assert sample.rounds == 8 * passes
        expected = curved(row[None, :])[0] - curved(background).mean()
        assert sample.shares().contributions.sum() == pytest.approx(expected)


@given(numbers=st.lists(st.floats(-3, 3, width=32), min_size=8, max_size=8))
def test_contributions_add_up_to_the_value_less_the_background_s_mean(numbers: list[float]) -> None:
    row, background = np.array(numbers[:4]), np.array([numbers[4:], [0.0] * 4])
    shares = answered(shapley.of_subsets(row, background), curved)
    expected = curved(row[None, :])[0] - curved(background).mean()
    assert shares.contributions.sum() == pytest.approx(expected, abs=1e-9)


HOSTILE: list[dict[str, Any]] = [
    {}, {"left": np.array([0]), "right": np.array([0])}, {"left": np.array([5])}, {"roots": np.array([], int)},
    {"roots": np.array([7])}, {"column": np.array([9, 0, 0])}, {"values": np.zeros((1, 1))},
    {"left": np.array(["x"] * 3)}, {"right": np.array([1, -1, -1])},
]  # fmt: skip


@pytest.mark.parametrize("harm", HOSTILE)
def test_numbers_that_are_no_trees_are_refused(harm: dict[str, Any]) -> None:
    good = {
        "left": np.array([1, -1, -1]), "right": np.array([2, -1, -1]), "column": np.zeros(3, int),
        "threshold": np.zeros(3), "missing_left": np.zeros(3, bool), "values": np.ones((3, 1)),
        "roots": np.array([0]), "base": np.zeros(1),
    }  # fmt: skip
    assert structure.forest(good, 0, 2).value(np.array([1.0, 1.0])) == 1
    with pytest.raises(structure.NotUsable):
        structure.forest(good | harm if harm else {}, 0, 2)


def changed(
    row: Array, others: Array, mutable: Array, decide: Model, classes: tuple[int, ...] = ()
) -> counterfactual.Change | None:
    steps = counterfactual.Steps(np.ones(len(row)), np.isin(np.arange(len(row)), classes))
    asking = counterfactual.search(row, others, mutable, steps, np.ones(len(row)))
    try:
        rows = next(asking)
        while True:
            rows = asking.send(decide(rows))
    except StopIteration as ended:
        return ended.value


def test_the_fewest_columns_that_turn_the_decision_are_found() -> None:
    def decide(rows: Array) -> Array:
        return (rows[:, 1] > 1) & (rows[:, 3] > 1)

    others = X[decide(X)].astype(float)
    found = changed(np.zeros(4), others, np.ones(4, bool), decide)
    assert found is not None and found.changed == (1, 3)
    assert decide(found.row[None, :])[0] and found.row[0] == found.row[2] == 0


def test_each_class_is_as_near_as_any_other() -> None:
    def decide(rows: Array) -> Array:
        return (rows[:, 0] == 9) | (rows[:, 1] > 1.5)

    others = np.array([[9.0, 0.0], [0.0, 2.0]])
    of_classes = changed(np.zeros(2), others, np.ones(2, bool), decide, classes=(0,))
    assert of_classes is not None and of_classes.row.tolist() == [9, 0], "another class is one step, 2 are two"
    of_numbers = changed(np.zeros(2), others, np.ones(2, bool), decide)
    assert of_numbers is not None and of_numbers.row.tolist() == [0, 2]


def test_what_may_not_change_stays_and_where_nothing_else_helps_there_is_no_answer() -> None:
    def decide(rows: Array) -> Array:
        return rows[:, 0] > 1

    others = X[decide(X)].astype(float)
    assert changed(np.zeros(4), others, np.array([False, True, True, True]), decide) is None
    assert changed(np.zeros(4), others[:0], np.ones(4, bool), decide) is None


def test_a_row_without_a_value_is_far_and_no_missing_value_is_proposed() -> None:
    def decide(rows: Array) -> Array:
        return np.isnan(rows[:, 0]) | (rows[:, 0] > 1)

    row, others = np.zeros(2), np.array([[np.nan, 0.0]] * 10 + [[2.0, 0.0]])
    found = changed(row, others, np.ones(2, bool), decide)
    assert found is not None and found.row.tolist() == [2.0, 0.0]
    assert changed(row, others[:10], np.ones(2, bool), decide) is None


def test_what_both_rows_miss_keeps_them_together_and_what_one_misses_apart() -> None:
    row, others = np.array([np.nan, 0.0]), np.array([[5.0, 1.0], [np.nan, 1.5]])
    steps = counterfactual.Steps(np.ones(2), np.zeros(2, bool))
    assert counterfactual._nearest(row, others, np.ones(2, bool), steps).tolist()[1] == [5.0, 1.0]


@pytest.mark.parametrize("kind", [DecisionTreeClassifier, RandomForestClassifier])
def test_trees_that_compare_single_precision_are_walked_as_they_round(kind: Any) -> None:
    """Doubles between two values of FP32 go where their rounded ones go."""
    step = float(np.spacing(np.float32(1)))
    places = 1 + np.arange(-40, 40) * step / 4  # halfway between two, too
    values = np.concatenate([places, np.nextafter(places, 0), np.nextafter(places, 2)])[:, None]
    estimator = kind(random_state=1, **({} if kind is DecisionTreeClassifier else {"n_estimators": 3}))
    estimator.fit(1 + np.arange(-10, 10)[:, None] * step, np.arange(20) % 2)
    told = of_sklearn(estimator)
    assert told is not None
    walked = structure.forest(told, 1, 1)
    said = [walked.value(row) for row in values]
    np.testing.assert_allclose(said, estimator.predict_proba(values)[:, 1], atol=1e-12)
