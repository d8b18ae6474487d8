"""Rows of Parquet files in the object store, of which only what is asked for is read."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import Invalid
from .objects import Objects

T = TypeVar("T")

_SMALL = 4 * 1024 * 1024
"""Bytes of an object that is read at once: a chunk's result, which one record refers to."""
_KEPT = 4
"""Larger ones are copied to this host's disk; so many of them are kept there, as a batch's records refer to one."""
_BUFFER = 1024 * 1024
_STEP_ROWS = 4_096


class Tables:
    """Opens Parquet objects. A copy on disk has no name, so that none is left over whatever becomes of the process."""

    def __init__(self, objects: Objects, folder: Path) -> None:
        self._objects = objects
        self._folder = folder
        self._files: OrderedDict[str, ParquetRows] = OrderedDict()
        self._lock = asyncio.Lock()

    async def rows(self, digest: str, columns: Sequence[str], first: int, rows: int) -> pa.Table:
        """Rows `first` to `first + rows` of those columns that the file has; fewer where it ends before.

        Raises NotFound, or Invalid for an object that was altered or is no Parquet that can be read.
        """
        async with self._lock:
            file = await self._open(digest)
            return await asyncio.to_thread(_reading, digest, lambda: file.read(columns, first, rows))

    async def _open(self, digest: str) -> "ParquetRows":
        if digest in self._files:
            self._files.move_to_end(digest)
            return self._files[digest]
        if (data := await self._objects.get_small(digest, _SMALL)) is not None:
            return _reading(digest, lambda: ParquetRows(pa.BufferReader(data)))
        copy = await self._objects.fetch(digest, self._folder / uuid4().hex)
        try:
            file = await asyncio.to_thread(_reading, digest, lambda: ParquetRows(copy))
        finally:
            copy.unlink()
        self._files[digest] = file
        while len(self._files) > _KEPT:
            self._files.popitem(last=False)[1].close()
        return file


class ParquetRows:
    """The rows of one file, a few at a time in memory. Blocking; for one caller at a time.

    Reading on after the rows that were read last costs nothing more; other rows cost reading their row group from its
    start, as far as them.
    """

    def __init__(self, file: Path | BinaryIO | pa.BufferReader) -> None:
        self._file = pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
        metadata = self._file.metadata
        sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        self._starts = np.cumsum([0, *sizes])
        self._columns: list[str] | None = None
        self._at = 0
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._rest: pa.RecordBatch | None = None

    def read(self, columns: Iterable[str], first: int, rows: int) -> pa.Table:
        """Rows from `first` on, of the columns that are there. Raises pyarrow's errors."""
        there = [name for name in columns if name in self._file.schema_arrow.names]
        before, self._columns = self._columns, None  # after a failure it is not known where this stands
        if there != before or not self._at <= first < self._end_of(self._at):
            self._go_to_group_of(first, there)
        for _ in self._take(first - self._at):
            pass
        taken = list(self._take(rows))
        self._columns = there
        return pa.Table.from_batches(taken) if taken else self._file.schema_arrow.empty_table().select(there)

    def _end_of(self, row: int) -> int:
        """Where the row group ends in which a row lies."""
        return int(self._starts[min(np.searchsorted(self._starts, row, side="right"), len(self._starts) - 1)])

    def _go_to_group_of(self, row: int, columns: list[str]) -> None:
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        groups = list(range(group, len(self._starts) - 1))
        self._at, self._rest = int(self._starts[group]), None
        self._batches = self._file.iter_batches(batch_size=_STEP_ROWS, row_groups=groups, columns=columns)

    def _take(self, rows: int) -> Iterator[pa.RecordBatch]:
        """The next rows, as far as there are any."""
        while rows > 0:
            batch = next(self._batches, None) if self._rest is None else self._rest
            if batch is None:
                return
            part = batch.slice(0, rows)
            self._rest = batch.slice(part.num_rows) if part.num_rows < batch.num_rows else None
            self._at += part.num_rows
            rows -= part.num_rows
            yield part

    def close(self) -> None:
        """Give the file back."""
        self._batches, self._rest = iter(()), None
        self._file.close()


UNREADABLE = (pa.ArrowException, OSError)


def is_unreadable(error: BaseException) -> bool:
    """Whether what lies in a file is at fault; where it is the disk, an error (of `UNREADABLE` too) has a number."""
    return isinstance(error, UNREADABLE) and not getattr(error, "errno", None)


def _reading(digest: str, work: Callable[[], T]) -> T:
    try:
        return work()
    except UNREADABLE as error:
        if not is_unreadable(error):
            raise
        raise Invalid(f"the object {digest} is no Parquet that can be read: {str(error)[:200]}") from None
