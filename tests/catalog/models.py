"""Real models and hostile ones, made for the tests."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import skops.io
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

X: NDArray[np.float32] = np.random.default_rng(5).normal(size=(200, 3)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(np.int64)
COLUMNS = [{"name": "a"}, {"name": "b"}, {"name": "c"}]


def onnx_bytes(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString()


def onnx_model(
    *, width: int | str | None = 3, extra: list[Any] | None = None, initializers: list[TensorProto] | None = None,
    sparse: list[Any] | None = None, domain: str = "",
) -> onnx.ModelProto:  # fmt: skip
    """label = X · weights > 0, as INT64; probabilities beside it."""
    weights = numpy_helper.from_array(np.array([[1.0], [1.0], [0.0]], np.float32), "weights")
    nodes = [
        helper.make_node("MatMul", ["X", "weights"], ["product"], domain=domain),
        helper.make_node("Squeeze", ["product", "one"], ["score"]),
        helper.make_node("Greater", ["score", "zero"], ["above"]),
        helper.make_node("Cast", ["above"], ["label"], to=TensorProto.INT64),
        *(extra or []),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
         helper.make_tensor_value_info("score", TensorProto.FLOAT, [None])],
        [weights, numpy_helper.from_array(np.array([1], np.int64), "one"),
         numpy_helper.from_array(np.array(0, np.float32), "zero"), *(initializers or [])],
        sparse_initializer=sparse or [],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def external(name: str = "outside", target: str = "/etc/passwd") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=target)
    return tensor


def external_models() -> dict[str, onnx.ModelProto]:
    """Models with external data in every place where ONNX lets a tensor lie."""
    branch = helper.make_graph(
        [helper.make_node("Identity", ["outside"], ["out"])], "branch", [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1])], [external()],
    )  # fmt: skip
    deep = helper.make_graph(
        [helper.make_node("If", ["above1"], ["out"], then_branch=branch, else_branch=branch)], "deep", [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1])],
    )  # fmt: skip
    sparse = helper.make_sparse_tensor(external("values"), numpy_helper.from_array(np.array([0]), "places"), [3])
    in_function = onnx_model()
    function = helper.make_function(
        "local", "f", [], ["y"], [helper.make_node("Constant", [], ["y"], value=external())],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    in_function.functions.append(function)
    return {
        "initializer": onnx_model(initializers=[external()]),
        "sparse initializer": onnx_model(sparse=[sparse]),
        "attribute": onnx_model(extra=[helper.make_node("Constant", [], ["k"], value=external())]),
        "sparse attribute": onnx_model(extra=[helper.make_node("Constant", [], ["k"], sparse_value=sparse)]),
        "subgraph": onnx_model(extra=[helper.make_node("If", ["above1"], ["k"], then_branch=deep, else_branch=deep)]),
        "function": in_function,
    }


def hungry_onnx() -> onnx.ModelProto:
    """A kilobyte that asks for a tensor of 64 GB when it is run."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        helper.make_node("Add", ["X", "sum"], ["label"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info("label", TensorProto.FLOAT, [None])],
        [numpy_helper.from_array(np.array([1 << 34], np.int64), "shape")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def skops_bytes(model: BaseEstimator) -> bytes:
    return skops.io.dumps(model)


def forest() -> RandomForestClassifier:
    return RandomForestClassifier(5, max_depth=3, random_state=1).fit(X, Y)


def logistic() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)


def regressor() -> LinearRegression:
    return LinearRegression().fit(X, X[:, 0] * 2)


def untrusted() -> Any:
    """A pipeline that calls a function of the operating system."""
    import os

    return make_pipeline(FunctionTransformer(os.system), LogisticRegression())


def hollow_skops(schema: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("schema.json", schema)
    return made.getvalue()


def rows(**more: Any) -> bytes:
    """Training rows as Parquet: a, b, c and the label."""
    columns = {name: X[:, index] for index, name in enumerate("abc")} | {"y": Y} | more
    made = io.BytesIO()
    pq.write_table(pa.table({name: values for name, values in columns.items() if values is not None}), made)
    return made.getvalue()


JOBS = np.array(["baker", "nurse", "pilot"])[np.random.default_rng(6).integers(0, 3, 200)]


def texts_onnx() -> bytes:
    """A pipeline over the text `job` and the number `age`, a tensor each: pilots and old people are of class 1."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    age = X[:, :1] * 10 + 40
    rows = np.empty((200, 2), object)
    rows[:, 0], rows[:, 1] = JOBS, age[:, 0]
    encoded = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), [0]), remainder=StandardScaler())  # pyright: ignore[reportArgumentType]
    model = make_pipeline(encoded, LogisticRegression(C=100)).fit(rows, ((JOBS == "pilot") | (rows[:, 1] > 50)))
    types: Any = [("job", StringTensorType([None, 1])), ("age", FloatTensorType([None, 1]))]
    made = to_onnx(model, initial_types=types, options={"zipmap": False}, target_opset=17)
    assert isinstance(made, onnx.ModelProto)
    return made.SerializeToString()


def texts_rows(**more: Any) -> bytes:
    """Rows for it as Parquet."""
    made = io.BytesIO()
    columns = {"job": JOBS.tolist(), "age": X[:, 0] * 10 + 40} | more
    pq.write_table(pa.table({name: values for name, values in columns.items() if values is not None}), made)
    return made.getvalue()


RECIPE = b"def train(rows, out):\n    return {}\n"


def package(model: bytes, /, *, files: dict[str, bytes] | None = None, format_: str = "onnx", **said: Any) -> bytes:
    """A zip with `fairlead.yaml` and the model."""
    name = "model.onnx" if format_ == "onnx" else "model.skops"
    manifest = {"name": "credit", "format": format_, "model": name, **said}
    members = {"fairlead.yaml": yaml.safe_dump(manifest).encode(), name: model, **(files or {})}
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return made.getvalue()


def laid_out(folder: Path, members: dict[str, bytes]) -> list[str]:
    for name, data in members.items():
        (folder / name).write_bytes(data)
    return list(members)
