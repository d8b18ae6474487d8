"""The scan of a package: pickles wherever they lie, and what a recipe reaches for. Evidence, never the boundary."""

import ast
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Set
from importlib.metadata import version
from itertools import pairwise
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
    "_ctypes", "_posixsubprocess", "_socket", "aiohttp", "asyncio", "cffi", "code", "ctypes", "ftplib", "http", "httpx",
    "imaplib", "importlib", "imp", "marshal", "multiprocess", "multiprocessing", "nntplib", "nt", "paramiko", "pdb",
    "pexpect", "poplib", "posix", "pty", "requests", "runpy", "shutil", "signal", "smtplib", "socket", "socketserver",
    "ssl", "subprocess", "telnetlib", "urllib", "urllib3", "webbrowser", "xmlrpc",
})  # fmt: skip
_REACHING_WITHIN = ("concurrent.futures.ProcessPool", "concurrent.futures.process", "sys.modules", "numpy.ctypeslib")
_SYSTEM = frozenset({"os", "_os", "posix", "nt"})
_STARTING = re.compile(
    r"system|popen|exec[lv]\w*|spawn[lv]\w*|posix_spawnp?|fork|forkpty|openpty|killp?g?|startfile|pidfd_\w+|\*|__dict__"
)
"""What the module `os` has to start, become or end a process."""
_INNARDS = frozenset({"__builtins__", "__globals__", "__import__", "__loader__", "__subclasses__"})
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
    bound, assigned = _bound(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (f"recipe.py imports {name}" for name in _imported(node).values() if _is_reaching(name))
        elif isinstance(node, ast.Name | ast.Attribute | ast.Call):
            name = _dotted(node, bound, assigned)
            if name.split(".")[0] not in _REACHING and _is_reaching(name):  # of the others the import tells
                yield f"recipe.py uses {name.removeprefix('?.')}"


def _is_reaching(name: str) -> bool:
    """Whether a dotted name leads to the network, to processes or to code that is not written here."""
    parts = name.split(".")
    if parts[0] in _REACHING or not _INNARDS.isdisjoint(parts) or name.startswith(_REACHING_WITHIN):
        return True
    if parts[0] in _EXECUTING or (parts[0] == "builtins" and not (_EXECUTING | {"*"}).isdisjoint(parts)):
        return True
    return any(of in _SYSTEM and _STARTING.fullmatch(what) for of, what in pairwise(parts))


def _bound(tree: ast.Module) -> tuple[dict[str, str], set[str]]:
    """What the recipe's names stand for, through imports and plain assignments; and all that it assigns."""
    nodes = list(ast.walk(tree))
    bound: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound |= _imported(node)
    assigned = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assigned |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = _dotted(node.value, bound, assigned)
            if "?" not in name:
                bound.setdefault(node.targets[0].id, name)
    return bound, assigned


def _imported(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """The full names of what is imported, by the names that it gets here."""
    if isinstance(node, ast.ImportFrom):
        return {alias.asname or alias.name: f"{node.module or ''}.{alias.name}" for alias in node.names}
    return {alias.asname or alias.name: alias.name for alias in node.names} | {
        first: first for alias in node.names if not alias.asname for first in [alias.name.split(".")[0]]
    }


def _dotted(node: ast.expr, bound: Mapping[str, str], assigned: Set[str]) -> str:
    """The full name of an expression; `?` for what is no module's, `*` for any name of what comes before it."""
    steps: list[str] = []
    while True:
        if isinstance(node, ast.Attribute):
            steps.append(node.attr)
            node = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr" and node.args:
            named = node.args[1] if len(node.args) > 1 else None
            steps.append(named.value if isinstance(named, ast.Constant) and isinstance(named.value, str) else "*")
            node = node.args[0]
        else:
            break
    own = isinstance(node, ast.Name) and node.id not in assigned and node.id in _EXECUTING | _INNARDS
    base = bound.get(node.id, node.id if own else "?") if isinstance(node, ast.Name) else "?"
    return ".".join([base, *reversed(steps)])


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
