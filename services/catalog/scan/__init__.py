"""The scan of a package: pickles wherever they lie, and what its Python reaches for. Evidence, never the boundary.

`clean` says that nothing was found in what was looked at; both are told by name: what was, and what was not.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from modelaudit_picklescan import PickleReport, SafetyVerdict, ScanStatus, scan_bytes

from contracts import Scan
from services.kit.errors import Invalid

from ..domain import CODE_FORMATS, MANIFEST, Manifest
from .contents import LAMBDA, Contents, Found
from .reaching import code_findings, recipe_findings, runs

__all__ = ["code_findings", "recipe_findings", "scan"]

Verdict = Literal["clean", "suspicious", "malicious", "incomplete"]
_ORDER: tuple[Verdict, ...] = ("clean", "suspicious", "incomplete", "malicious")
_TOLD_AT_MOST = 50
_KERAS = "a Lambda layer, which is code, in a Keras model"


@dataclass
class _Seen:
    """What the scan has come to."""

    findings: list[tuple[Verdict, str]] = field(default_factory=list[tuple[Verdict, str]])
    looked: list[str] = field(default_factory=list[str])
    unread: list[str] = field(default_factory=list[str])

    def suspect(self, findings: Iterable[str]) -> None:
        self.findings.extend(("suspicious", each) for each in findings)

    @property
    def verdict(self) -> Verdict:
        """The worst of what was found."""
        kinds = {kind for kind, _ in self.findings}
        found: list[Verdict] = [kind for kind in _ORDER if kind in kinds]
        return found[-1] if found else "clean"


def scan(folder: Path, names: list[str], manifest: Manifest, untrusted: list[str]) -> Scan:
    """One verdict over all files: the worst of what was found.

    A model that is code builds its own types wherever it likes to: of its pickles only what reaches out is told.
    Raises Invalid where code of a model that is code, or a recipe, is no Python.
    """
    seen = _Seen()
    seen.suspect(untrusted)
    contents = Contents()
    for name in names:
        if read := _read_elsewhere(name, manifest):
            seen.looked.append(f"{name}: {read}")
        if name == manifest.recipe:
            seen.suspect(recipe_findings((folder / name).read_bytes()))
        else:
            _look(contents.of(folder / name, name), name, manifest, seen, is_read=bool(read))
    if manifest.requirements:
        seen.unread.append(f"{manifest.requirements}: the libraries that it names, and what is known against them")
    return Scan(
        verdict=seen.verdict, scanner=f"fairlead, modelaudit-picklescan {version('modelaudit-picklescan')}",
        findings=_told([finding for _, finding in seen.findings]), looked_at=_told(seen.looked),
        not_looked_at=_told(seen.unread),
    )  # fmt: skip


def _told(lines: Sequence[str]) -> tuple[str, ...]:
    more = [f"and {len(lines) - _TOLD_AT_MOST} more"] if len(lines) > _TOLD_AT_MOST else []
    return (*(line[:300] for line in lines[:_TOLD_AT_MOST]), *more)


def _read_elsewhere(name: str, manifest: Manifest) -> str:
    """How a file is read by whom it is for, which refuses what it does not know."""
    if name == MANIFEST:
        return "read as the package's manifest"
    if name == manifest.recipe:
        return "read as Python"
    if name == manifest.requirements:
        return "read as requirements: no options, paths or addresses, each pinned with its hashes"
    if name == manifest.training:
        return "read as rows"
    return f"opened as {manifest.format}" if name == manifest.model and manifest.format not in CODE_FORMATS else ""


def _look(found: Iterable[Found], name: str, manifest: Manifest, seen: _Seen, *, is_read: bool) -> None:
    """Look at a file and at what is packed in it; of the many members that nobody looks at, their number is told."""
    unread: Counter[str] = Counter()
    number = 0
    for number, each in enumerate(found):  # noqa: B007 - the file itself comes first, then its members
        told = _look_at(each, manifest, seen)
        unread.update([told] if told and not is_read else [])
    for told, count in unread.items():
        seen.unread.append(f"{name}: {f'{count} of its {number} members: ' if number else ''}{told}")


def _look_at(found: Found, manifest: Manifest, seen: _Seen) -> str:
    """Look at one thing; what it is, where nobody can look into it."""
    is_code = manifest.format in CODE_FORMATS
    if found.data is None:
        if found.kind not in ("closed", "hdf5", "notebook"):
            seen.findings.append(("incomplete", f"{found.name} cannot be scanned"))
        return found.told
    if found.kind == "pickle":
        seen.findings += _reaching_ones(found.data, found.name) if is_code else _pickle(found.data, found.name)
        seen.looked.append(f"{found.name}: what it calls, as a pickle")
        if is_code and b"cloudpickle" in found.data:
            seen.unread.append(f"{found.name}: the code of functions that are pickled whole")
    elif found.kind == "python":
        _look_at_python(found.data, found.name, seen, must_be=is_code and "!" not in found.name)
    elif found.kind == "archive":
        seen.looked.append(f"{found.name}: what is packed in it")
    elif found.kind == "numbers":
        seen.looked += [] if "!" in found.name else [f"{found.name}: plain numbers"]
    else:
        return _closed(found, seen)
    return ""


def _look_at_python(source: bytes, name: str, seen: _Seen, *, must_be: bool) -> None:
    try:
        seen.suspect(code_findings(source, name))
        seen.looked.append(f"{name}: read as Python")
    except Invalid:
        if must_be:
            raise
        seen.unread.append(f"{name}: not the Python of this installation")


def _closed(found: Found, seen: _Seen) -> str:
    """What a file is that is not looked into; only a Keras model says in plain text that it brings code."""
    if found.data and any(mark in found.data for mark in LAMBDA):
        seen.suspect([f"{found.name} has {_KERAS}"])
    return found.told


def _reaching_ones(data: bytes, name: str) -> list[tuple[Verdict, str]]:
    """Of a pickle's findings those of functions that reach out of it; its other types are the model's own."""
    report = scan_bytes(data)
    called = {(str(f.details.get("module", "")), str(f.details.get("name", ""))) for f in report.findings}
    found: list[tuple[Verdict, str]] = [
        ("malicious", f"{name} calls {of}.{what}") for of, what in sorted(called) if runs(of, what)
    ]
    return found if report.coverage.opcode_scan_complete else [*found, _broken_off(report, name)]


def _pickle(data: bytes, name: str) -> list[tuple[Verdict, str]]:
    """All that the scanner finds."""
    report = scan_bytes(data)
    kinds: dict[SafetyVerdict, Verdict] = {
        SafetyVerdict.MALICIOUS: "malicious",
        SafetyVerdict.SUSPICIOUS: "suspicious",
    }
    kind = kinds.get(report.verdict, "incomplete")
    if report.is_clean:
        return []
    if report.status != ScanStatus.COMPLETE and kind == "incomplete":
        return [_broken_off(report, name)]
    return [(kind, f"{name}: {finding.message}") for finding in report.findings] or [(kind, f"{name}: {kind}")]


def _broken_off(report: PickleReport, name: str) -> tuple[Verdict, str]:
    return "incomplete", f"{name}: the scan as a pickle was broken off ({report.status.value})"
