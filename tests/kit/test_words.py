"""What is told of code that failed: its cause in its own words, and a place that holds nothing of the data."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from services.kit.sandbox.words import as_place, last_words, place_in, place_of

from .programs import NODE

NOISE = "loading part 1 of the model, which takes a while\n" * 100
JAVA = """Exception in thread "main" java.lang.IllegalStateException: row 4711.5 is bad
\tat Model.predict(Model.java:31)
\tat Model.main(Model.java:12)
Caused by: java.lang.ArithmeticException: / by zero
\tat Model.divide(Model.java:44)
\t... 2 more
"""
GO = "panic: runtime error: index out of range [4711]\n\ngoroutine 1 [running]:\nmain.main()\n\t/src/main.go:9 +0x1d\n"
RUST = "thread 'main' panicked at src/main.rs:7:5:\n4711\nnote: run with `RUST_BACKTRACE=1`\n"


def said_by(*command: str | Path) -> str:
    return NOISE + subprocess.run(command, check=False, capture_output=True, text=True, timeout=60).stderr


def of_node(folder: Path) -> str:
    (folder / "model.js").write_text(
        "function predict(x) {\n  throw new TypeError('weight of ' + x);\n}\npredict(4711);\n"
    )
    return said_by(NODE, folder / "model.js")


def of_python(folder: Path) -> str:
    (folder / "model.py").write_text("def predict(x):\n    raise KeyError(x)\n\npredict(4711)\n")
    return said_by(sys.executable, folder / "model.py")


@pytest.mark.parametrize(("made", "cause", "place"), [
    (of_node, "TypeError: weight of 4711", "TypeError at model.js:2"),
    (of_python, "KeyError: 4711", "KeyError at model.py:2"),
    (lambda _: NOISE + JAVA, "Caused by: java.lang.ArithmeticException: /", "ArithmeticException at Model.java:44"),
    (lambda _: NOISE + GO, "panic: runtime error: index out of range", "panic at main.go:9"),
    (lambda _: NOISE + RUST, "thread 'main' panicked at", "panic"),
    (lambda _: NOISE + "no weights", "no weights", ""),
])  # fmt: skip
def test_the_cause_is_told_first_and_the_place_without_the_data(
    made: Callable[[Path], str], cause: str, place: str, tmp_path: Path
) -> None:
    said = made(tmp_path)
    words = last_words(said)
    assert cause in words and len(words) <= 400
    assert words.startswith(cause) or place == ""
    assert place_in(said) == place


def test_of_an_exception_the_model_s_own_line_and_the_library_s_within_are_told() -> None:
    told = ""
    try:
        exec(
            compile("import json\n\ndef predict(x):\n    json.loads(x)\n", "/tmp/a/package/lib/model.py", "exec"),
            scope := {},
        )
        scope["predict"]("{4711")
    except ValueError as error:
        told = place_of(error)
    assert told.startswith("JSONDecodeError at lib/model.py:4 in predict (from json/decoder.py:"), told
    assert as_place(told) == told and "4711" not in told


@pytest.mark.parametrize("said", ["no place at all", "ValueError: 4711", "ValueError at model.py:4 in predict; rm -rf",
                                  "X" * 500, "E\nat"])  # fmt: skip
def test_what_a_process_says_is_taken_for_a_place_only_where_it_is_one(said: str) -> None:
    assert as_place(said) == ""
