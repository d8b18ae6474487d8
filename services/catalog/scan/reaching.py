"""What a text of Python, or a call within a pickle, reaches for beyond its rows: the network, processes, other code."""

import ast
import re
from collections.abc import Iterator, Mapping, Set
from itertools import pairwise

from services.kit.errors import Invalid

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
_BUILTINS = frozenset({"builtins", "__builtin__"})
_UNPICKLING = frozenset({"_pickle", "pickle", "dill", "dill._dill"})


def recipe_findings(source: bytes) -> list[str]:
    """What a recipe reaches for beyond its rows. Raises Invalid where it is no Python or has no `train`."""
    tree = _parsed(source, "recipe.py", "recipe")
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if "train" not in functions:
        raise Invalid("recipe.py defines no function `train(rows, out)`", "recipe")
    if len(functions["train"].args.args) < 2:
        raise Invalid("recipe.py: `train` takes two arguments, the rows and the folder to write", "recipe")
    return sorted(set(_reaches(tree, "recipe.py")))


def code_findings(source: bytes, name: str) -> list[str]:
    """What a module of a model reaches for. Raises Invalid where it is no Python."""
    return sorted(set(_reaches(_parsed(source, name, "package"), name)))


def _parsed(source: bytes, name: str, field: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Invalid(f"{name} is not Python: {' '.join(str(error).split())[:200]}", field) from None


def _reaches(tree: ast.Module, file: str) -> Iterator[str]:
    bound, assigned = _bound(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (f"{file} imports {name}" for name in _imported(node).values() if _is_reaching(name))
        elif isinstance(node, ast.Name | ast.Attribute | ast.Call):
            name = _dotted(node, bound, assigned)
            if name.split(".")[0] not in _REACHING and _is_reaching(name):  # of the others the import tells
                yield f"{file} uses {name.removeprefix('?.')}"


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


def runs(module: str, name: str) -> bool:
    """Whether a function that a pickle calls reaches out of it."""
    starts = module in _SYSTEM and _STARTING.fullmatch(name) is not None
    executes = module in _BUILTINS and name in _EXECUTING | {"getattr", "open", "__getattribute__"}
    return starts or executes or module in _UNPICKLING or _is_reaching(module)
