"""What a worker imports, and when: of the interpreter and the house while the walls are open, of others thereafter."""

import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from .lockdown import house

_NO_FILE = (None, "built-in", "frozen")
_STRANGERS = ("site-packages", "dist-packages")


def require_own(package: str) -> None:
    """See that all that was imported is of the interpreter's own library, of the house, or of the entry's `package`.

    Raises ImportError naming a module that is of none.
    """
    ours = house(package)
    for name, module in list(sys.modules.items()):
        for path in _places(module):
            if not any(path.is_relative_to(folder) for folder in ours) and not _is_of_interpreter(path):
                raise ImportError(f"{name} was imported from {path} while the walls were open")


def add(packages: str) -> None:
    """Let a folder's libraries be imported from here on, last: no name of the interpreter or the house means theirs.

    Once the filter is closed. `site` never runs, so neither does a `.pth` file or a `sitecustomize`.
    """
    sys.path.append(packages)


def _places(module: ModuleType) -> Iterator[Path]:
    """Where a module came from; nothing for one of the interpreter's binary, or made in memory."""
    for place in {getattr(module, "__file__", None), getattr(getattr(module, "__spec__", None), "origin", None)}:
        if place not in _NO_FILE:
            yield Path(place)


def _is_of_interpreter(path: Path) -> bool:
    for name in ("stdlib", "platstdlib"):
        folder = sysconfig.get_path(name, vars={"platbase": sys.base_exec_prefix})
        if path.is_relative_to(folder):
            return path.relative_to(folder).parts[0] not in _STRANGERS
    return False
