"""The folder of Parquet files: written beside, named after the commit, removed when they are too old."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from services.kit.tables import UNREADABLE, is_unreadable
from services.kit.telemetry import get_logger

log = get_logger(__name__)

_OLD_S = 600.0
_PENDING = "_pending"
"""Readers of the folder skip names that begin with an underscore."""


class Lost(Exception):
    """A recorded file is not there any more, or what lies in it is no Parquet any more."""


class Files:
    """Blocking; call it in a thread."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, path: str, table: pa.Table) -> None:
        """Write a file where readers do not look yet; a leftover of a batch that was rolled back is overwritten."""
        pending = self._pending(path)
        pending.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, pending, compression="zstd", compression_level=1, row_group_size=50_000)
        with pending.open("rb") as file:
            os.fsync(file.fileno())

    def place(self, path: str) -> None:
        """Give a committed file its name. Again: no harm."""
        final, pending = self._root / path, self._pending(path)
        if pending.exists():
            final.parent.mkdir(parents=True, exist_ok=True)
            pending.replace(final)

    def read(self, path: str, **options: Any) -> pa.Table:
        """A file's rows, whether it has its name already or not; options are pyarrow's. Raises Lost."""
        final = self._root / path
        try:
            for place in (final, self._pending(path), final):  # it may be given its name in this very moment
                with suppress(FileNotFoundError):
                    return self._read(place, options)
        except UNREADABLE as error:
            if not is_unreadable(error):
                raise
            reason = str(error)[:300]
        else:
            reason = "it is not there"
        log.error("a recorded file cannot be read", path=path, error=reason)
        raise Lost(f"{path}: {reason}")

    def _read(self, path: Path, options: dict[str, Any]) -> pa.Table:
        # A file object: pyarrow would take the folders' names for columns of the file.
        with path.open("rb") as file:
            return pq.read_table(file, **options)

    def remove(self, path: str) -> None:
        """Whether it has its name already or not. Again: no harm."""
        for place in (self._root / path, self._pending(path)):
            place.unlink(missing_ok=True)

    def sweep(self, partition: int, known: set[str]) -> None:
        """Remove what rolled-back batches of a partition left behind."""
        for pending in (self._root / _PENDING).glob(f"*~p{partition}-*.parquet"):
            # A worker that was just stalled may still be about to commit a young one.
            old = time.time() - pending.stat().st_mtime > _OLD_S
            if old and pending.name.replace("~", "/") not in known:
                pending.unlink(missing_ok=True)

    def _pending(self, path: str) -> Path:
        return self._root / _PENDING / path.replace("/", "~")
