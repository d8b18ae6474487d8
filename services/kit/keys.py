"""Keys that an installation makes for itself at its first start."""

import os
from pathlib import Path

_BYTES = 32


def own_key(path: Path) -> bytes:
    """Of a file, made where there is none, for its owner alone; of several makers the first complete one stands."""
    if not path.exists():
        _create(path)
    return path.read_bytes()


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.touch(mode=0o600)
    part.write_bytes(os.urandom(_BYTES))
    try:
        os.link(part, path)
    except FileExistsError:
        pass
    finally:
        part.unlink()
