"""What the documents name is there: tests, files and make targets, so that nobody is sent to something that was moved."""

import re
from pathlib import Path

import pytest

from deploy.embedded.home import ROOT

DOCUMENTS = sorted(
    {ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("*/*/README.md")}
)
_TEST = re.compile(r"tests/[\w/]+(?:\.py)?(?:::\w+)?")
_LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
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


@pytest.mark.parametrize("name", ["guarantees.md", "traps.md"])
def test_every_promise_and_every_closed_trap_names_what_shows_it(name: str) -> None:
    rows = _ROW.findall((ROOT / "docs" / name).read_text())[1:]
    assert len(rows) > 5
    assert [row for row in rows if not _TEST.search(row)] == []
