"""The scan of a package: pickles wherever they lie, and what a recipe reaches for. Evidence, never the boundary."""

import ast
import zipfile
import zlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from modelaudit_picklescan import SafetyVerdict, ScanStatus, scan_bytes

from contracts import Scan
from services.kit.errors import Invalid

Verdict = Literal["clean", "suspicious", "malicious", "incomplete"]
_ORDER: tuple[Verdict, ...] = ("clean", "suspicious", "incomplete", "malicious")

_PICKLE_SUFFIXES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin", ".dill", ".npy")
_MAX_PICKLE = 256 * 1024 * 1024
_REACHING = frozenset({
    "asyncio", "ctypes", "ftplib", "http", "importlib", "marshal", "multiprocessing", "pty", "requests", "runpy",
    "shutil", "signal", "smtplib", "socket", "socketserver", "subprocess", "telnetlib", "urllib", "httpx", "webbrowser",
})  # fmt: skip
_EXECUTING = frozenset({"eval", "exec", "compile", "__import__", "breakpoint"})


def scan(folder: Path, names: list[str], recipe: str | None, untrusted: list[str]) -> Scan:
    """One verdict over all files: the worst of what was found."""
    findings = [("suspicious", finding) for finding in untrusted]
    for name in names:
        findings += _pickles(folder / name, name)
    if recipe:
        findings += [("suspicious", finding) for finding in recipe_findings((folder / recipe).read_bytes())]
    verdict: Verdict = max((kind for kind, _ in findings), key=_ORDER.index, default="clean")  # pyright: ignore
    told = tuple(finding[:300] for _, finding in findings)
    return Scan(verdict=verdict, scanner=f"fairlead, modelaudit-picklescan {version('modelaudit-picklescan')}",
                findings=(*told[:50], *([f"and {len(told) - 50} more"] if len(told) > 50 else [])))  # fmt: skip


def recipe_findings(source: bytes) -> list[str]:
    """What a recipe reaches for beyond its rows. Raises Invalid where it is no Python or has no `train`."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Invalid(f"recipe.py is not Python: {' '.join(str(error).split())[:200]}", "recipe") from None
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if "train" not in functions:
        raise Invalid("recipe.py defines no function `train(rows, out)`", "recipe")
    if len(functions["train"].args.args) < 2:
        raise Invalid("recipe.py: `train` takes two arguments, the rows and the folder to write", "recipe")
    return sorted(set(_reaches(tree)))


def _reaches(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _EXECUTING:
            yield f"recipe.py calls {node.func.id}"
        yield from (f"recipe.py imports {name}" for name in modules if name.split(".")[0] in _REACHING)


def _pickles(path: Path, name: str) -> list[tuple[Verdict, str]]:
    """Findings of a file that is a pickle, or of pickles inside a zip (skops, PyTorch)."""
    with path.open("rb") as file:
        head = file.read(4)
    if head == b"PK\3\4":
        try:
            with zipfile.ZipFile(path) as archive:
                return [each for info in archive.infolist() for each in _inside(archive, info, name)]
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError):
            return [("incomplete", f"{name} looks like a zip but cannot be read")]
    if not _may_be_pickle(head, name):
        return []
    if path.stat().st_size > _MAX_PICKLE:
        return [("incomplete", f"{name} is too large to be scanned")]
    return _pickle(path.read_bytes(), name)


def _inside(archive: zipfile.ZipFile, info: zipfile.ZipInfo, outer: str) -> list[tuple[Verdict, str]]:
    name = f"{outer}!{info.filename[:100]}"
    if info.file_size > _MAX_PICKLE:
        return [("incomplete", f"{name} is too large to be scanned")]
    with archive.open(info) as member:
        head = member.read(4)
        return _pickle(head + member.read(), name) if _may_be_pickle(head, name) else []


def _may_be_pickle(head: bytes, name: str) -> bool:
    if head.startswith(b"\x93NUM"):
        return False  # numpy reads arrays of plain numbers; those of objects are refused when the model is built
    return (head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5") or name.lower().endswith(_PICKLE_SUFFIXES)


def _pickle(data: bytes, name: str) -> list[tuple[Verdict, str]]:
    report = scan_bytes(data, source=name)
    kinds: dict[SafetyVerdict, Verdict] = {
        SafetyVerdict.MALICIOUS: "malicious",
        SafetyVerdict.SUSPICIOUS: "suspicious",
    }
    kind = kinds.get(report.verdict, "incomplete")
    if report.is_clean:
        return []
    if report.status != ScanStatus.COMPLETE and kind == "incomplete":
        return [("incomplete", f"{name}: the scan was {report.status.value}")]
    return [(kind, f"{name}: {finding.message}") for finding in report.findings] or [(kind, f"{name}: {kind}")]
