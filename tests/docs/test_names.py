"""What the documents name is there: tests, files and make targets; nobody is sent to something that was moved."""

import re
import sys
from collections import Counter
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from contracts import SERVICES
from deploy.embedded.home import ROOT
from services.kit.settings import Settings

DOCUMENTS = sorted(
    {ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("*/*/README.md")}
)
_TEST = re.compile(r"tests/[\w/]+(?:\.py)?(?:::\w+)?")
_FILE = re.compile(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|md|toml))`")
_LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
_VARIABLE = re.compile(r"\bFAIRLEAD_[A-Z_]+\b")
_TARGET = re.compile(r"\bmake ([a-z-]+)\b")
_ROW = re.compile(r"^\|(?!---)(.+)\|$", re.MULTILINE)


def inside_code(document: Path) -> str:
    """What a document shows as code: only there is a word like `make` a command."""
    return "\n".join(re.findall(r"```.*?```|`[^`\n]+`", document.read_text(), re.DOTALL))


def is_there(name: str) -> bool:
    path, _, function = name.partition("::")
    found = ROOT / path
    if not function:
        return found.exists()
    return found.is_file() and re.search(rf"^(async )?def {function}\b", found.read_text(), re.MULTILINE) is not None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_names_only_what_is_there(document: Path) -> None:
    text = document.read_text()
    assert [name for name in _TEST.findall(text) if not is_there(name)] == []
    assert [link for link in _LINK.findall(text) if not (document.parent / link).exists()] == []
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(_TARGET.findall(inside_code(document))) <= targets


@cache
def ends() -> frozenset[str]:
    """Every file of ours by its path and by each end of it: who speaks of a folder names what lies within."""
    rooms = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    found = [
        *ROOT.iterdir(),
        *(file for room in rooms for file in room.rglob("*.*") if "node_modules" not in file.parts),
    ]
    paths = [file.relative_to(ROOT).parts for file in found]
    return frozenset("/".join(parts[start:]) for parts in paths for start in range(len(parts)))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_names_no_file_that_was_moved(document: Path) -> None:
    named = set(_FILE.findall(document.read_text()))
    assert {name for name in named - ends() if Path(name).stem not in sys.stdlib_module_names} == set()


@pytest.mark.parametrize("name", ["guarantees.md", "traps.md"])
def test_every_promise_and_every_closed_trap_names_what_shows_it(name: str) -> None:
    rows = _ROW.findall((ROOT / "docs" / name).read_text())[1:]
    assert len(rows) > 5
    assert [row for row in rows if not _TEST.search(row)] == []


def own_settings() -> list[str]:
    """The names of what each service can be told beside what every service can, one after the other."""
    every = [vars(import_module(f"services.{service}.settings")).values() for service in SERVICES]
    kinds = {kind for found in every for kind in found if isinstance(kind, type) and issubclass(kind, Settings)}
    return [name for kind in kinds for name in set(kind.model_fields) - set(Settings.model_fields)]


def test_no_two_services_are_told_different_things_by_one_variable() -> None:
    assert {name for name, times in Counter(own_settings()).items() if times > 1} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_names_only_variables_that_somebody_reads(document: Path) -> None:
    named = set(_VARIABLE.findall(document.read_text()))
    settings = {f"FAIRLEAD_{name.upper()}" for name in [*own_settings(), *Settings.model_fields]}
    code = (
        path.read_text() for room in ("deploy", "fairlead", "tests", "bench") for path in (ROOT / room).rglob("*.py")
    )
    read = {name for text in code for name in _VARIABLE.findall(text)}
    assert named - settings - read == set()
