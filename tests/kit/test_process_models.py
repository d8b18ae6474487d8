"""Models that are programs: what they answer is checked, whatever they are written in."""

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from services.kit.errors import Invalid
from services.kit.models import Asked, v2json
from services.kit.models.process import ProcessModel, Program
from services.kit.models.wire import WireError
from services.kit.sandbox import SandboxDied, SandboxError
from services.kit.testing import eventually
from tests.java import compiled

from .programs import SAID, packed

EXAMPLES = Path(__file__).parents[2] / "examples" / "programs"
ROWS = np.array([[50.0, 60_000.0, 1_000.0], [20.0, 10_000.0, 30_000.0]])
OUTPUTS = [{"name": "sum", "datatype": "FP64", "shape": [-1]}]
INPUTS = [{"name": "X", "datatype": "FP64", "shape": [-1, 3]}]


@asynccontextmanager
async def running(
    folder: Path, files: dict[str, Any], command: list[str], asked: Asked
) -> AsyncGenerator[ProcessModel]:
    """A started model of these files."""
    program = Program(command, packed(folder, files), None, asked)
    model = ProcessModel(program, runtimes=SAID, memory_mb=1024, deadline_s=10, load_s=30, name="test")
    try:
        await model.start()
        yield model
    finally:
        await model.close()


def python(folder: Path, answer: str, outputs: list[dict[str, Any]] = OUTPUTS) -> Any:
    """A model in Python whose answer to `asked` (its `rows` rows) is an expression."""
    source = f"""
import json, sys
for number, line in enumerate(sys.stdin):
    asked = json.loads(line)
    rows = asked["inputs"][0]["shape"][0]
    said = {{"id": asked["id"], "outputs": []}} if not number else {answer}
    print(said if isinstance(said, str) else json.dumps(said), flush=True)
"""
    return running(folder, {"main.py": source}, ["python", "main.py"], Asked(inputs=INPUTS, outputs=outputs))


def one(**said: Any) -> str:
    """The expression of an answer with one output that is right but for these."""
    right = {"name": "sum", "datatype": "FP64", "shape": [2], "data": [1.5, 2]}
    return repr({"outputs": [right | said]}) + " | {'id': asked['id']}"


async def test_the_examples_in_javascript_and_java_answer_alike(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    compiled(tmp_path / "examples" / "java" / "Model.java", tmp_path / "examples" / "java")
    said: dict[str, Any] = {}
    for language in ("javascript", "java"):
        folder = tmp_path / "examples" / language
        manifest = yaml.safe_load((folder / "fairlead.yaml").read_text())
        asked = Asked(inputs=manifest["inputs"], outputs=manifest["outputs"])
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        async with running(tmp_path, files, manifest["command"], asked) as model:
            said[language] = await model.predict({"X": ROWS})
    assert said["java"]["label"].tolist() == said["javascript"]["label"].tolist() == [1, 0]
    np.testing.assert_allclose(said["java"]["probability"], said["javascript"]["probability"])


async def test_values_pass_as_they_are(tmp_path: Path) -> None:
    outputs = [
        {"name": "text", "datatype": "BYTES", "shape": [-1]},
        {"name": "matrix", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "flag", "datatype": "BOOL", "shape": [-1]},
        {"name": "small", "datatype": "INT8", "shape": [-1]},
    ]
    answer = (
        "{'id': asked['id'], 'outputs': ["
        "{'name': 'text', 'datatype': 'BYTES', 'shape': [2], 'data': ['ä', asked['inputs'][0]['data'][0]]},"
        "{'name': 'matrix', 'datatype': 'FP32', 'shape': [2, 2], 'data': [[1, None], [2.5, 3]]},"
        "{'name': 'flag', 'datatype': 'BOOL', 'shape': [2], 'data': [True, False]},"
        "{'name': 'small', 'datatype': 'INT8', 'shape': [2], 'data': [-128, 127]}]}"
    )
    loop = "for line in sys.stdin:\n    asked = json.loads(line)\n"
    source = f"import json, sys\n{loop}    print(json.dumps({answer}), flush=True)"
    asked = Asked(inputs=[{"name": "T", "datatype": "BYTES", "shape": [-1]}], outputs=outputs)
    async with running(tmp_path, {"main.py": source}, ["python", "main.py"], asked) as model:
        said = await model.predict({"T": np.array(["Grüße".encode(), b"x"], object)})
        assert said["text"].tolist() == ["ä".encode(), "Grüße".encode()]
        np.testing.assert_array_equal(said["matrix"], [[1, np.nan], [2.5, 3]])
        assert said["flag"].tolist() == [True, False]
        assert said["small"].tolist() == [-128, 127]
        with pytest.raises(WireError, match="T is no UTF-8 text"):
            await model.predict({"T": np.array([b"\xff"], object)})


async def test_a_missing_number_is_null(tmp_path: Path) -> None:
    answer = one().replace("[1.5, 2]", "[0.5 + (asked['inputs'][0]['data'][1] is None), 2]")
    async with python(tmp_path, answer) as model:
        rows = ROWS.copy()
        rows[0, 1] = np.nan
        assert (await model.predict({"X": rows}))["sum"].tolist() == [1.5, 2]


WRONG = {
    "no JSON": ("'hello'", "its answer is no JSON.*hello"),
    "no object": ("[1]", "no JSON object"),
    "no outputs": ("{'id': asked['id']}", "no list `outputs`"),
    "another output": (one(name="total"), "no output sum"),
    "another datatype": (one(datatype="FP32"), "output sum is FP32, declared is FP64"),
    "other rows": (one(shape=[3], data=[1, 2, 3]), r"shape \[3\] for 2 rows"),
    "fewer values": (one(data=[1]), "has 1 values"),
    "another rank": (one(shape=[2, 1]), r"shape \[2, 1\]"),
    "no shape": (one(shape="2"), "no shape"),
    "texts": (one(data=["a", "b"]), "no FP64"),
    "booleans": (one(data=[True, False]), "no FP64"),
    "uneven": (one(data=[[1], [2, 3]]), "nested unevenly"),
    "a number beyond": (one(data=[10**400, 1]), "its answer is no JSON|beyond|no FP64"),
    "no list": (one(data=7), "no list"),
}


@pytest.mark.parametrize("what", WRONG)
async def test_an_answer_that_does_not_fit_is_refused_with_what_is_wrong(what: str, tmp_path: Path) -> None:
    answer, reason = WRONG[what]
    async with python(tmp_path, answer) as model:
        with pytest.raises(WireError, match=reason):
            await model.predict({"X": ROWS})


@pytest.mark.parametrize(
    ("datatype", "value"), [("INT8", 128), ("UINT8", -1), ("INT64", 1.5), ("INT64", 2**64), ("BYTES", 1)]
)
def test_a_value_beyond_its_datatype_is_refused(datatype: str, value: Any) -> None:
    spec = {"name": "sum", "datatype": datatype, "shape": [-1]}
    with pytest.raises(WireError, match="output sum holds"):
        v2json.tensor([value], spec, 1)


async def test_an_answer_to_another_request_ends_the_program_which_starts_anew(tmp_path: Path) -> None:
    answer = one().replace("asked['id']", "'0' if number == 1 else asked['id']")
    async with python(tmp_path, answer) as model:
        with pytest.raises(WireError, match="is to request '0', not to '1'"):
            await model.predict({"X": ROWS})
        await eventually(lambda: model.sandbox.restarts == 1)


async def test_a_refusal_is_told_in_the_program_s_words_and_the_program_lives(tmp_path: Path) -> None:
    answer = "{'id': asked['id'], 'error': 'too old'} if number == 1 else " + one()
    async with python(tmp_path, answer) as model:
        with pytest.raises(SandboxError, match="too old"):
            await model.predict({"X": ROWS})
        assert (await model.predict({"X": ROWS}))["sum"].tolist() == [1.5, 2]
        assert model.sandbox.restarts == 0


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("print('loading the model', flush=True)\nimport time; time.sleep(60)", "no JSON.*loading the model"),
        ("raise SystemExit('no weights')", "exit status 1.*no weights"),
        (
            "print('loading ' * 500, file=sys.stderr)\nraise ValueError('no weights')",
            r"status 1\) ValueError: no weights",
        ),
    ],
)
async def test_a_program_that_does_not_start_says_why(source: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises((SandboxError, SandboxDied), match=reason):
        files = {"main.py": "import sys\n" + source}
        async with running(tmp_path, files, ["python", "main.py"], Asked(inputs=INPUTS, outputs=OUTPUTS)):
            pass


async def test_a_program_in_javascript_that_crashes_is_told_with_its_cause_and_logged_without_the_data(
    tmp_path: Path,
) -> None:
    source = """
    let number = 0;
    require('readline').createInterface({input: process.stdin}).on('line', line => {
      const asked = JSON.parse(line);
      if (!number++) return process.stdout.write(JSON.stringify({id: asked.id, outputs: []}) + '\\n');
      console.error('a word about the model '.repeat(300));
      throw new RangeError('age ' + asked.inputs[0].data[0]);
    });
    """
    asked = Asked(inputs=INPUTS, outputs=OUTPUTS)
    async with running(tmp_path, {"main.js": source}, ["node", "main.js"], asked) as model:
        with pytest.raises(SandboxDied, match=r"exit status 1\) RangeError: age 50") as died:
            await model.predict({"X": ROWS})
        assert died.value.place == "RangeError at main.js:7"
        await eventually(lambda: model.sandbox.restarts == 1)


def test_a_runtime_that_the_operator_does_not_allow_is_refused_by_name(tmp_path: Path) -> None:
    program = Program(["bash", "x.sh"], packed(tmp_path, {"x.sh": b""}), None, Asked(inputs=INPUTS, outputs=OUTPUTS))
    with pytest.raises(Invalid, match="command: the operator allows no runtime 'bash'"):
        ProcessModel(program, runtimes=SAID, memory_mb=1024, deadline_s=10, load_s=30, name="test")
