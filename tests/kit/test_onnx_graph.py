"""Which ONNX graphs may run beside others: those whose work follows from the shapes of what goes in."""

from typing import Any, cast

import numpy as np
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from services.kit.models.onnx_graph import unbounded
from tests.catalog.models import onnx_bytes, onnx_model, texts_onnx
from tests.scorer.hostile_onnx import composed, disguised, endless, hungry, looping
from tests.scorer.making import classifier, echo, fragile, wide
from tests.scorer.test_residency import adding

X = np.random.default_rng(3).normal(size=(200, 3)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(np.int64)


def test_the_models_of_the_tests_run_in_process() -> None:
    for model in (classifier(), echo("BYTES", ("rows",)), fragile(), wide(7), adding(1), texts_onnx(),
                  onnx_bytes(onnx_model())):  # fmt: skip
        assert unbounded(model) == ""


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("model", [
    LogisticRegression(), LinearRegression(), RandomForestClassifier(5), GradientBoostingClassifier(n_estimators=5),
    MLPClassifier((4,), max_iter=300), cast(Any, SVC)(probability=True),
    make_pipeline(
        ColumnTransformer([("numbers", make_pipeline(SimpleImputer(), StandardScaler()), [0, 1]),
                           ("classes", OneHotEncoder(handle_unknown="ignore"), [2])]),
        LogisticRegression(),
    ),
], ids=lambda model: type(model).__name__)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_what_is_exported_from_scikit_learn_runs_in_process(model: Any, zipmap: bool) -> None:
    from skl2onnx import to_onnx

    x = X if not hasattr(model, "steps") else np.round(X)
    model.fit(x, Y)
    options = {"zipmap": zipmap} if hasattr(model, "classes_") else None
    assert (
        unbounded(cast(ModelProto, to_onnx(model, x[:1], options=options, target_opset=18)).SerializeToString()) == ""
    )


def test_networks_that_convolve_and_that_remember_run_in_process() -> None:
    convolving = graph(
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2]),
        helper.make_node("GlobalAveragePool", ["m"], ["y"]),
    )  # fmt: skip
    remembering = graph(helper.make_node("LSTM", ["x", "w", "r"], ["", "y"], hidden_size=4))
    assert [unbounded(of(each)) for each in (convolving, remembering)] == ["", ""]


@pytest.mark.parametrize(("model", "operator"), [
    (looping(), "Loop"), (endless(), "Loop"), (hungry(), "ConstantOfShape"),
    (disguised(), "function ConstantOfShape"), (disguised("ai.onnx"), "function ConstantOfShape"),
    (composed(), "function aten_sub"), (b"\xff\xff\xff", "a part that cannot be read"),
], ids=["looping", "endless", "hungry", "disguised", "disguised otherwise", "a function", "no model"])  # fmt: skip
def test_hostile_ones_do_not(model: bytes, operator: str) -> None:
    assert unbounded(model) == operator


NUMBER = [helper.make_tensor_value_info("n", TensorProto.INT64, [1])]
OUT = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])]
SHAPE = numpy_helper.from_array(np.array([5]), "shape")


def graph(*nodes: NodeProto, given: list[TensorProto] | None = None, inputs: Any = NUMBER) -> GraphProto:
    return helper.make_graph(list(nodes), "g", inputs, OUT, given or [])


def of(made: GraphProto, **more: Any) -> bytes:
    return helper.make_model(made, **more).SerializeToString()


def test_a_size_may_be_a_constant_but_none_that_a_request_can_replace() -> None:
    filled = helper.make_node("ConstantOfShape", ["shape"], ["y"])
    constant = helper.make_node("Constant", [], ["shape"], value_ints=[5])
    assert unbounded(of(graph(constant, filled))) == ""
    assert unbounded(of(graph(filled, given=[SHAPE]))) == ""
    replaced = helper.make_tensor_value_info("shape", TensorProto.INT64, [1])
    assert unbounded(of(graph(filled, given=[SHAPE], inputs=[*NUMBER, replaced]))) == "ConstantOfShape"


@pytest.mark.parametrize(("operator", "inputs"), [
    ("Expand", ["x", "n"]), ("Tile", ["x", "n"]), ("Range", ["zero", "n", "one"]), ("OneHot", ["x", "n", "x"]),
    ("Pad", ["x", "n"]), ("Scan", ["n"]), ("RandomNormal", []), ("NobodyKnowsIt", ["n"]),
])  # fmt: skip
def test_what_is_as_large_as_a_value_says_is_found(operator: str, inputs: list[str]) -> None:
    assert unbounded(of(graph(helper.make_node(operator, inputs, ["y"])))) == operator


def test_it_is_found_in_branches_too() -> None:
    tile = helper.make_node("Tile", ["n", "n"], ["y"])
    plain = helper.make_node("Identity", ["n"], ["y"])

    def branching(deep: NodeProto) -> NodeProto:
        return helper.make_node("If", ["n"], ["y"], then_branch=graph(plain), else_branch=graph(deep))

    assert unbounded(of(graph(branching(plain)))) == ""
    assert unbounded(of(graph(branching(tile)))) == "Tile"
    assert unbounded(of(graph(branching(branching(tile))))) == "Tile"
    assert unbounded(of(graph(helper.make_node("Own", ["n"], ["y"], domain="own")))) == "Own"
