"""Small files that one process writes and others read: whole or not at all."""

import os
from pathlib import Path
from typing import Any

import orjson

from services.kit.telemetry import get_logger

log = get_logger(__name__)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file, so that a reader sees the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)  # half a file on a full disk
        raise


def tell(path: Path, data: bytes) -> bool:
    """Write what is said anew again and again (health, metrics, progress): a full disk must not end who says it."""
    try:
        write_atomically(path, data)
    except OSError as error:
        log.warning("a file could not be written", file=path.name, error=error.strerror)
        return False
    return True


class Watched:
    """A JSON file that is read again when it was replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None

    def changed(self) -> Any | None:
        """The new content, once after each replacement; None when nothing changed."""
        try:
            status = self._path.stat()
            if (seen := (status.st_ino, status.st_mtime_ns)) == self._seen:
                return None
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        self._seen = seen
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:  # as a power loss leaves one: who writes it will write it again
            log.error("a file cannot be read", file=self._path.name, bytes=len(data))
            return None
