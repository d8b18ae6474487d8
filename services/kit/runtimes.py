"""The programs that an operator allows models to be run by."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Runtime:
    """An interpreter or virtual machine, and the folders that it reads beside the system's libraries."""

    program: Path
    readable: tuple[Path, ...]


def runtimes(said: str) -> dict[str, Runtime]:
    """Out of `name=/path/of/program[:/more/folders…]`, separated by commas. Raises ValueError naming what is wrong."""
    found: dict[str, Runtime] = {}
    for entry in filter(None, map(str.strip, said.split(","))):
        name, given, paths = entry.partition("=")
        program, *folders = paths.split(":")
        if not name.isidentifier() or not given or not all(path.startswith("/") for path in (program, *folders)):
            raise ValueError(f"{entry} is not name=/path/of/program or name=/path/of/program:/folder")
        found[name] = _runtime(Path(program), tuple(map(Path, folders)))
    return found


def _runtime(program: Path, more: tuple[Path, ...]) -> Runtime:
    """Its installation is read: the folder above `bin`, but never the whole machine."""
    real = program.resolve()
    above = real.parent.parent if real.parent.name == "bin" else real.parent
    home = real.parent if above == Path("/") else above
    return Runtime(real, (home, *more))
