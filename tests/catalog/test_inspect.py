"""What the inspector says of real models, wrong packages and hostile files. (The sandbox around it: test_intake.)"""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from services.catalog.domain import Manifest
from services.catalog.inspect import conversation
from services.catalog.sandboxed import opening
from services.catalog.scan import recipe_findings
from services.kit.models import Told, Unreadable
from services.kit.models.wire import pack, unpack
from services.kit.models.worker import model

from . import models

RAISES = pickle.dumps(np.arange(3).tolist())


def seen(folder: Path, data: bytes, *, files: dict[str, bytes] | None = None, **said: Any) -> dict[str, Any]:
    format_ = said.setdefault("format", "onnx")
    name = "model.onnx" if format_ == "onnx" else "model.skops"
    names = models.laid_out(folder, {name: data, **(files or {})})
    return talked(folder, Manifest.model_validate({"name": "credit", "model": name, **said}), names)


def talked(folder: Path, manifest: Manifest, names: list[str]) -> dict[str, Any]:
    """The inspector's talk with a model that is opened here, where its sandbox would be."""
    answer = None
    if manifest.format != "onnx":
        try:
            answer = model(opening(folder, folder / "package.zip", manifest).to_json())
        except Unreadable as error:
            field = str(error).partition(":")[0]
            return {"refused": str(error), "field": field if field == "score" else "package"}
    told = Told(**json.loads(answer(b""))) if answer else None
    talk = conversation(str(folder), manifest.model_dump(mode="json"), names, told, None)
    try:
        feed = next(talk)
        while True:
            assert answer is not None
            feed = talk.send(unpack(answer(pack(feed))))
    except StopIteration as ended:
        return ended.value


def passed(folder: Path, model: bytes, **said: Any) -> dict[str, Any]:
    answer = seen(folder, model, **said)
    assert "inspection" in answer, answer
    return answer["inspection"]


def refused(folder: Path, model: bytes, **said: Any) -> tuple[str, str | None]:
    answer = seen(folder, model, **said)
    assert "refused" in answer, answer
    assert len(answer["refused"]) < 1000
    return answer["refused"], answer["field"]


def shapes(tensors: list[dict[str, Any]]) -> list[tuple[str, str, list[int]]]:
    return [(each["name"], each["datatype"], each["shape"]) for each in tensors]


def test_onnx_tells_its_tensors(tmp_path: Path) -> None:
    told = passed(tmp_path, models.onnx_bytes(models.onnx_model()), columns=models.COLUMNS, score="score")
    schema = told["model_schema"]
    assert shapes(schema["inputs"]) == [("X", "FP32", [-1, 3])]
    assert shapes(schema["outputs"]) == [("label", "INT64", [-1]), ("score", "FP32", [-1])]
    assert (schema["prediction"], schema["score"]) == ("label", "score")
    assert [column["name"] for column in schema["columns"]] == ["a", "b", "c"]
    assert told["scan"]["verdict"] == "clean" and told["baseline"] is None
    assert told["environment"]["operator_sets"] == {"ai.onnx": 17}


def test_segments_are_marked_among_the_columns_declared_or_inferred(tmp_path: Path) -> None:
    data = models.onnx_bytes(models.onnx_model())
    said = [{"name": "a", "segment": True}, {"name": "b", "protected": True}, {"name": "c"}]
    told = passed(tmp_path, data, columns=said, segments=["c"])
    assert [column.get("segment", False) for column in told["model_schema"]["columns"]] == [True, False, True]
    rows = {"training.parquet": models.rows()}
    inferred = passed(tmp_path, data, files=rows, training="training.parquet", label="y", segments=["b"])
    assert [c["name"] for c in inferred["model_schema"]["columns"] if c.get("segment")] == ["b"]


@pytest.mark.parametrize(
    ("columns", "segments", "named"),
    [
        (models.COLUMNS, ["a", "d"], "segments: d is not a column; the columns are: a, b, c"),
        ([{"name": "a", "sensitive": True}, *models.COLUMNS[1:]], ["a"], "segments: column a is sensitive"),
        ([{"name": "a", "sensitive": True, "segment": True}, *models.COLUMNS[1:]], [], "column a is sensitive"),
    ],
)
def test_what_can_be_no_segment_is_refused_by_name(
    columns: list[dict[str, Any]], segments: list[str], named: str, tmp_path: Path
) -> None:
    message, field = refused(tmp_path, models.onnx_bytes(models.onnx_model()), columns=columns, segments=segments)
    assert named in message and field == "segments"


def test_more_segments_than_are_counted_are_refused_with_their_names(tmp_path: Path) -> None:
    columns = [{"name": f"c{n}", "segment": n < 8} for n in range(10)]
    wide = models.onnx_bytes(models.onnx_model(width=None))
    message, field = refused(tmp_path, wide, columns=columns, segments=["c9"])
    assert "9 are too many, 8 are counted: c0, c1" in message and field == "segments"


@pytest.mark.parametrize("place", models.external_models())
def test_external_data_is_refused_wherever_it_hides(place: str, tmp_path: Path) -> None:
    message, _ = refused(tmp_path, models.onnx_bytes(models.external_models()[place]))
    assert "(external data)" in message, message


def test_operators_of_unknown_domains_are_refused_by_name(tmp_path: Path) -> None:
    message, _ = refused(tmp_path, models.onnx_bytes(models.onnx_model(domain="evil.ops")))
    assert "evil.ops" in message


@pytest.mark.parametrize("domain", ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"])
def test_a_function_under_the_name_of_an_operator_is_refused_by_name(domain: str, tmp_path: Path) -> None:
    message, _ = refused(tmp_path, models.onnx_bytes(with_function(domain, "ConstantOfShape")))
    assert f"function 'ConstantOfShape' of its own in {domain or 'ai.onnx'!r}" in message


def test_a_function_in_a_domain_of_its_own_is_taken(tmp_path: Path) -> None:
    passed(tmp_path, models.onnx_bytes(with_function("pkg.onnxscript.torch_lib", "aten_relu")))


def with_function(domain: str, name: str) -> ModelProto:
    made, sets = models.onnx_model(), [helper.make_opsetid("", 17)]
    body = helper.make_node("Identity", ["x"], ["y"])
    made.functions.append(helper.make_function(domain, name, ["x"], ["y"], [body], sets))
    if domain not in ("", "ai.onnx"):
        made.opset_import.append(helper.make_opsetid(domain, 1))
    return made


@pytest.mark.parametrize("data", [b"\x08\x08\x12\xff\xff\xff", b"\x08\x08\x12\x01a", b"\x08\x08" * 500])
def test_broken_onnx_is_refused(data: bytes, tmp_path: Path) -> None:
    refused(tmp_path, data)


def test_maps_are_no_tensors_and_the_hint_says_what_to_do(tmp_path: Path) -> None:
    from skl2onnx import to_onnx

    model = to_onnx(models.forest(), models.X[:1], target_opset=17)
    assert isinstance(model, ModelProto)
    message, _ = refused(tmp_path, model.SerializeToString())
    assert "zipmap off" in message


def test_a_model_that_fails_on_its_rows_is_refused_with_its_reason(tmp_path: Path) -> None:
    node = helper.make_node("Reshape", ["X", "shape"], ["label"])
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("label", TensorProto.FLOAT, [None])],
        [onnx.numpy_helper.from_array(np.array([7], np.int64), "shape")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    assert "fails on its own rows" in refused(tmp_path, model.SerializeToString())[0]


def test_a_decision_must_be_one_value_a_row(tmp_path: Path) -> None:
    model = models.onnx_model(extra=[helper.make_node("Identity", ["X"], ["wide"])])
    model.graph.output.append(helper.make_tensor_value_info("wide", TensorProto.FLOAT, [None, 3]))
    assert refused(tmp_path, model.SerializeToString(), prediction="wide")[1] == "prediction"


WRONG: list[tuple[dict[str, Any], str, str | None]] = [
    ({"columns": models.COLUMNS[:2]}, "2 are declared, input X takes 3", "columns"),
    ({"prediction": "decision"}, "no output decision; it has label, score", "prediction"),
    ({"score": "probabilities"}, "no output probabilities", "score"),
    ({"training": "t.parquet", "files": {"t.parquet": b"PAR1 no"}}, "not a readable Parquet", "training"),
    ({"training": "t.parquet", "files": {"t.parquet": models.rows(c=None)}, "columns": models.COLUMNS},
     "column c is not in the training rows", "columns.c"),
    ({"training": "t.parquet", "files": {"t.parquet": models.rows(c=["x"] * 200)}, "columns": models.COLUMNS},
     "column c of the training rows holds no numbers", "columns.c"),
    ({"training": "t.parquet", "files": {"t.parquet": models.rows(c=[None, *[1.0] * 199])}, "columns": models.COLUMNS},
     "column c misses values", "columns.c"),
    ({"training": "t.parquet", "files": {"t.parquet": models.rows(c=[7.0] * 200)},
      "columns": [*models.COLUMNS[:2], {"name": "c", "maximum": 5}]},
     "column c: the training rows hold 7", "columns.c"),
    ({"training": "t.parquet", "files": {"t.parquet": models.rows(c=[7.0] * 200)},
      "columns": [*models.COLUMNS[:2], {"name": "c", "kind": "categorical", "categories": [1]}]},
     "hold 7", "columns.c"),
    ({"training": "t.parquet", "files": {"t.parquet": models.rows(label=1 - models.Y)}, "columns": models.COLUMNS,
      "label": "y"}, "column label of the training rows is not what the model predicts", "training"),
    ({"training": "t.parquet", "files": {"t.parquet": models.rows(d=models.Y)}, "label": "y"},
     "hold 4 columns beside", "columns"),
    ({"training": "t.parquet", "files": {"t.parquet": models.rows()}, "columns": models.COLUMNS, "label": "truth"},
     "label: the training rows have no column truth", "label"),
    ({"recipe": "recipe.py", "files": {"recipe.py": b"def train(rows, out): ..."}}, "label: a recipe learns", "label"),
    ({"recipe": "recipe.py", "files": {"recipe.py": b"def train(:"}}, "recipe.py is not Python", "recipe"),
    ({"recipe": "recipe.py", "files": {"recipe.py": b"x = 1"}}, "no function `train", "recipe"),
    ({"recipe": "recipe.py", "files": {"recipe.py": b"def train(rows): ..."}}, "two arguments", "recipe"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "message", "field"), WRONG)
def test_a_package_that_contradicts_itself_is_refused_by_name(
    said: dict[str, Any], message: str, field: str | None, tmp_path: Path
) -> None:
    told, where = refused(tmp_path, models.onnx_bytes(models.onnx_model()), **said)
    assert message in told and where == field


def test_columns_of_texts_are_classes_and_profiled(tmp_path: Path) -> None:
    told = passed(tmp_path, models.texts_onnx(), files={"t.parquet": models.texts_rows()}, training="t.parquet")
    job, age = told["model_schema"]["columns"]
    assert (job["kind"], job["categories"]) == ("categorical", ["baker", "nurse", "pilot"])
    assert (age["kind"], age["categories"]) == ("numeric", None)
    watched = {each["name"]: each for each in told["baseline"]["columns"]}
    assert watched["job"]["classes"] == ["baker", "nurse", "pilot"] and sum(watched["job"]["counts"]) == 100
    job = {"name": "job", "kind": "categorical", "categories": ["baker", "nurse", "pilot", "queen"]}
    files = {"t.parquet": models.texts_rows(job=models.JOBS.astype("S").tolist())}
    told = passed(tmp_path, models.texts_onnx(), files=files, training="t.parquet", columns=[job, {"name": "age"}])
    assert told["model_schema"]["columns"][0]["categories"] == job["categories"]
    told = passed(tmp_path, models.texts_onnx(), columns=[{"name": "job"}, {"name": "age"}])
    assert told["model_schema"]["columns"][0]["kind"] == "categorical", "a text is one, whatever it was declared as"


WRONG_TEXTS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"job": [None, *["nurse"] * 199]}, "column job misses values in the training rows; a text tensor has none"),
    ({}, {"job": np.arange(200)}, "column job of the training rows holds no texts, which the model takes"),
    ({}, {"age": ["old"] * 200}, "column age of the training rows holds no numbers"),
    (
        {"categories": ["nurse", "pilot"], "kind": "categorical"},
        {},
        "the training rows hold 'baker', which it excludes",
    ),
    ({"categories": [1, 2], "kind": "categorical"}, {}, "the model takes texts, and its categories are numbers"),
    ({"minimum": 1}, {}, "the model takes texts, which have no minimum"),
]


@pytest.mark.parametrize(("job", "rows", "message"), WRONG_TEXTS)
def test_columns_of_texts_that_contradict_their_rows_are_refused(
    job: dict[str, Any], rows: dict[str, Any], message: str, tmp_path: Path
) -> None:
    files, columns = {"t.parquet": models.texts_rows(**rows)}, [{"name": "job", **job}, {"name": "age"}]
    told, where = refused(tmp_path, models.texts_onnx(), files=files, training="t.parquet", columns=columns)
    assert message in told and where == f"columns.{'age' if 'age' in rows else 'job'}"


def test_categories_of_texts_are_not_those_of_a_number(tmp_path: Path) -> None:
    columns = [*models.COLUMNS[:2], {"name": "c", "kind": "categorical", "categories": ["1"]}]
    told, _ = refused(tmp_path, models.onnx_bytes(models.onnx_model()), columns=columns)
    assert "column c: the model takes numbers, and its categories are texts" in told


def test_a_forest_through_skops_tells_its_tensors(tmp_path: Path) -> None:
    told = passed(tmp_path, models.skops_bytes(models.forest()), format="sklearn")
    schema = told["model_schema"]
    assert shapes(schema["inputs"]) == [("X", "FP64", [-1, 3])]
    assert shapes(schema["outputs"]) == [("label", "INT64", [-1]), ("probabilities", "FP32", [-1, 2])]
    assert told["scan"]["verdict"] == "clean"
    assert any(line.startswith("scikit-learn==") for line in told["environment"]["requirements"])


def test_a_pipeline_and_a_regressor_too(tmp_path: Path) -> None:
    told = passed(tmp_path, models.skops_bytes(models.logistic()), format="sklearn", prediction="decision")
    assert told["model_schema"]["prediction"] == "decision"
    told = passed(tmp_path, models.skops_bytes(models.regressor()), format="sklearn")
    assert shapes(told["model_schema"]["outputs"]) == [("value", "FP64", [-1])]
    assert refused(tmp_path, models.skops_bytes(models.regressor()), format="sklearn", score="p")[1] == "score"


def test_untrusted_types_are_named_and_never_built(tmp_path: Path) -> None:
    told = passed(tmp_path, models.skops_bytes(models.untrusted()), format="sklearn", columns=models.COLUMNS)
    assert told["scan"]["verdict"] == "suspicious"
    assert "system" in told["scan"]["findings"][0]
    assert shapes(told["model_schema"]["inputs"]) == [("X", "FP64", [-1, 3])]


HOLLOW = [b"", b"{}", b"[]", b'{"_skops_version": "0.16"}', b'{"__loader__": "ObjectNode", "_skops_version": "1"}',
          b'{"_skops_version": "0.16", "protocol": 99, "__loader__": "x", "__class__": 1, "__module__": null}'
]  # fmt: skip


@pytest.mark.parametrize("schema", HOLLOW)
def test_hollow_skops_files_are_refused(schema: bytes, tmp_path: Path) -> None:
    refused(tmp_path, models.hollow_skops(schema), format="sklearn")


class Evil:
    def __reduce__(self) -> Any:
        import os

        return os.system, ("id",)


def test_a_malicious_pickle_beside_the_model_is_found(tmp_path: Path) -> None:
    files = {"encoder.pkl": pickle.dumps(Evil())}
    told = passed(tmp_path, models.onnx_bytes(models.onnx_model()), files=files)
    assert told["scan"]["verdict"] == "malicious" and "encoder.pkl" in told["scan"]["findings"][0]


def test_a_pickle_is_found_without_its_suffix_and_inside_a_skops_file(tmp_path: Path) -> None:
    told = passed(tmp_path, models.onnx_bytes(models.onnx_model()), files={"notes.txt": pickle.dumps(Evil())})
    assert told["scan"]["verdict"] == "malicious"
    (tmp_path / "model.skops").write_bytes(models.skops_bytes(models.logistic()))
    import zipfile

    with zipfile.ZipFile(tmp_path / "model.skops", "a") as archive:
        archive.writestr("hidden.bin", pickle.dumps(Evil(), protocol=0))
    data = (tmp_path / "model.skops").read_bytes()
    assert passed(tmp_path, data, format="sklearn")["scan"]["verdict"] == "malicious"


def test_plain_data_in_a_pickle_is_clean_and_a_broken_one_is_not(tmp_path: Path) -> None:
    model = models.onnx_bytes(models.onnx_model())
    assert passed(tmp_path, model, files={"data.pkl": RAISES})["scan"]["verdict"] == "clean"
    assert passed(tmp_path, model, files={"data.pkl": RAISES[:-3]})["scan"]["verdict"] != "clean"


@pytest.mark.parametrize("line", [b"import socket", b"from subprocess import run", b"import os, ctypes", b"eval('1')"])
def test_a_recipe_that_reaches_out_is_suspicious(line: bytes, tmp_path: Path) -> None:
    files = {"recipe.py": models.RECIPE + line}
    told = passed(tmp_path, models.onnx_bytes(models.onnx_model()), recipe="recipe.py", files=files, label="y")
    assert told["scan"]["verdict"] == "suspicious"


REACHING = [
    "import os; os.system('id')",
    "from os import system",
    "from os import system as add; add('id')",
    "import os as o; o.popen('id')",
    "from os import *",
    "import os\nos.execv('/bin/id', [])",
    "import os\nos.spawnlp(os.P_WAIT, 'id')",
    "import os\nos.fork()",
    "import os\nos.posix_spawn('/bin/id', [], {})",
    "import os\nrun = os.system\nrun('id')",
    "import os\nmine = os\nmine.system('id')",
    "import os\ngetattr(os, 'sys' + 'tem')('id')",
    "import os\ngetattr(os, 'system')('id')",
    "import os.path\nos.kill(1, 9)",
    "def late():\n    from os import popen",
    "import pathlib\npathlib.os.system('id')",
    "import posix",
    "import pty",
    "import ctypes",
    "import multiprocessing.pool as p",
    "from concurrent.futures import ProcessPoolExecutor",
    "from concurrent import futures\nfutures.ProcessPoolExecutor()",
    "import sys\nsys.modules['os'].system('id')",
    "run = eval\nrun('1')",
    "import builtins\nbuiltins.exec('1')",
    "().__class__.__base__.__subclasses__()",
    "__builtins__['eval']('1')",
    "import urllib.request as r",
    "import subprocess as s",
]


@pytest.mark.parametrize("line", REACHING)
def test_what_starts_a_process_is_found_by_whatever_name(line: str) -> None:
    assert recipe_findings(models.RECIPE + line.encode()), line


HARMLESS = [
    "import os\nhere = os.path.join('a', 'b')\nthreads = os.cpu_count()",
    "import re\nword = re.compile('a')",
    "signal = 1\nprint(signal)",
    "def fit(http, code):\n    return http.mean() + code.system",
    "from concurrent.futures import ThreadPoolExecutor",
    "compile = 1\nprint(compile)",
    "from sklearn.linear_model import LogisticRegression as exec_\nexec_().fit",
    "getattr(model, 'coef_')",
    "import os\nos.environ['X']",
]


@pytest.mark.parametrize("line", HARMLESS)
def test_what_every_recipe_may_do_is_no_finding(line: str) -> None:
    assert recipe_findings(models.RECIPE + line.encode()) == []


def test_the_recipes_that_come_with_the_platform_are_clean() -> None:
    assert recipe_findings((Path(__file__).parents[2] / "examples" / "census" / "recipe.py").read_bytes()) == []
