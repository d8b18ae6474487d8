"""The file of signed checkpoints: outside the database, one JSON line each, read and written in bounded memory."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

_BLOCK = 64 * 1024


class CheckpointFile:
    """Checkpoints in the order in which they were sealed. A last line that a crash tore was never relied on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, lines: list[dict[str, Any]]) -> None:
        """Add lines and see them on the disk before anything relies on them."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            file.truncate(self._whole())
            file.write(b"".join(orjson.dumps(line) + b"\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())

    def lines(self) -> Iterator[dict[str, Any]]:
        """Every checkpoint; an empty one for a line that is no checkpoint at all."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n") and line.strip():
                    yield _read(line)

    def last(self) -> dict[str, Any] | None:
        """The newest checkpoint; None in an empty file."""
        return next(self._backwards(), None)

    def after(self, position: int) -> list[dict[str, Any]]:
        """The checkpoints at the file's end that seal more than that."""
        found: list[dict[str, Any]] = []
        for line in self._backwards():
            sealed = line.get("position")
            if not isinstance(sealed, int) or sealed <= position:
                break
            found.append(line)
        return found[::-1]

    def chunks(self) -> Iterator[bytes]:
        """The file as it lies there, to its last whole line."""
        left = self._whole()
        if not left:
            return
        with self.path.open("rb") as file:
            while left and (block := file.read(min(_BLOCK, left))):
                left -= len(block)
                yield block

    def _whole(self) -> int:
        """Where the last whole line ends."""
        if not self.path.exists():
            return 0
        with self.path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            while end:
                start = max(0, end - _BLOCK)
                file.seek(start)
                if (found := file.read(end - start).rfind(b"\n")) >= 0:
                    return start + found + 1
                end = start
        return 0

    def _backwards(self) -> Iterator[dict[str, Any]]:
        end = self._whole()
        if not end:
            return
        with self.path.open("rb") as file:
            rest = b""
            while end:
                start = max(0, end - _BLOCK)
                file.seek(start)
                rest, *whole = (file.read(end - start) + rest).split(b"\n")
                yield from (_read(line) for line in reversed(whole) if line.strip())
                end = start
            if rest.strip():
                yield _read(rest)


def _read(line: bytes) -> dict[str, Any]:
    try:
        told = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) else {}
