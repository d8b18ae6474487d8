"""The folders of Parquet files: written beside, put into their places after the commit, removed when they are to go."""

import ctypes
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.kit.durable import sync_folder
from services.kit.tables import UNREADABLE, is_unreadable
from services.kit.telemetry import get_logger

from .domain.layout import SCHEMAS, Kind, Place

log = get_logger(__name__)

T = TypeVar("T")

_OLD_S = 600.0
_PENDING = "_pending"
"""Readers of the folder skip names that begin with an underscore."""
_GROUP_ROWS = 50_000
_ROWS = 2**31
"""More than an inference has."""
_AT_FDCWD, _EXCHANGE = -100, 2


class Lost(Exception):
    """A recorded file is not there any more, or what lies in it is no Parquet any more."""

    def __init__(self, path: str, reason: str, *, there: bool) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.there = there
        """Whether something lies in its place that cannot be read."""


class Files:
    """Below `root` a folder for each kind. Blocking; call it in a thread."""

    def __init__(self, root: Path) -> None:
        self._root = root

    # Reading

    def read(self, place: Place, columns: Collection[str] | None = None) -> pa.Table:
        """A file's rows, whether it is in its place already or not. Raises Lost."""
        chosen = None if columns is None else [*columns]
        return self._open(place, lambda file: pq.read_table(file, columns=chosen))

    def find(self, place: Place, ids: Collection[str], columns: Collection[str] | None = None) -> pa.Table:
        """The rows of some inferences, in the file's order; only the parts that hold them are read. Raises Lost.

        Of the columns those that the file has, all where none are named.
        """
        return self._open(place, lambda file: _find(file, ids, columns))

    def rows(self, place: Place, wanted: Collection[tuple[str, int]], columns: Collection[str]) -> pa.Table:
        """Some rows, by inference and number, and of these columns those that the file has. Raises Lost."""
        ids = sorted({id for id, _ in wanted})
        return _chosen(self.find(place, ids, columns), ids, wanted)

    def parts(self, place: Place, columns: Collection[str] | None = None) -> Iterator[pa.Table]:
        """A file's rows, so many at a time that they fit into memory. Raises Lost."""
        for group in range(self._open(place, lambda file: pq.read_metadata(file).num_row_groups)):
            yield self._open(place, lambda file: _group(file, group, columns))  # noqa: B023 - called at once

    def size(self, place: Place) -> int:
        """Bytes; 0 for a file that is not there."""
        for path in self._ways(place):
            with suppress(FileNotFoundError):
                return path.stat().st_size
        return 0

    def _open(self, place: Place, work: Callable[[BinaryIO], T]) -> T:
        try:
            for path in self._ways(place):
                # A file object: pyarrow would take the folders' names for columns of the file.
                with suppress(FileNotFoundError), path.open("rb") as file:
                    return work(file)
        except UNREADABLE as error:
            if not is_unreadable(error):
                raise
            reason, there = str(error)[:300], True
        else:
            reason, there = "it is not there", False
        log.error("a recorded file cannot be read", path=place.path, error=reason)
        raise Lost(place.path, reason, there=there)

    def _ways(self, place: Place) -> tuple[Path, ...]:
        """Where to look, one after the other: it may be put into its place in this very moment."""
        final = self._final(place)
        return (self._waiting(place), final) if place.pending else (final, self._waiting(place), final)

    # Writing

    def write(self, place: Place, parts: Iterable[pa.Table]) -> int:
        """Write rows to where readers do not look yet; answers how many bytes. What lies there is overwritten."""
        pending = self._waiting(place)
        pending.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(pending, SCHEMAS[place.kind], compression="zstd", compression_level=1) as writer:
            for group in _groups(parts):
                writer.write_table(group, row_group_size=_GROUP_ROWS)
        _sync(pending)
        sync_folder(pending.parent)
        return pending.stat().st_size

    def discard(self, place: Place) -> None:
        """Remove what was written for nothing."""
        self._waiting(place).unlink(missing_ok=True)

    def place(self, place: Place, rows: int) -> bool:
        """Put a committed file into its place; what has it now is gone with that. Again: no harm.

        Answers False where the newest content is nowhere: what lies there has other than so many rows.
        """
        final, pending = self._final(place), self._waiting(place)
        with self._alone(place.kind):
            if pending.exists():
                final.parent.mkdir(parents=True, exist_ok=True)
                pending.replace(final)
                sync_folder(final.parent)
                return True
            return place.pending is None or not final.exists() or self._rows(place) == rows

    def _rows(self, place: Place) -> int | None:
        """How many rows lie in a place; None of what cannot be read."""
        with suppress(Lost):
            return self._open(Place(place.path, None, place.kind), lambda file: pq.read_metadata(file).num_rows)
        return None

    def swap(self, place: Place, members: Collection[str]) -> bool:
        """Put a merged file into its folder instead of its members. Again: no harm.

        Answers False where the merged file is nowhere: its members stay.

        The folder is exchanged as a whole, so that whoever lists it sees each row once, at any moment and after any
        crash. Where the file system cannot do that, the members go one by one after the merged file came.
        """
        final, pending = self._final(place), self._waiting(place)
        beside = pending.with_suffix(".d")
        gone = {Path(member).name for member in members}
        with self._alone(place.kind):
            shutil.rmtree(beside, ignore_errors=True)
            if pending.exists() and not final.exists():
                try:
                    self._exchange(final, pending, beside, gone)
                except OSError as error:
                    log.warning("a folder cannot be exchanged", folder=str(final.parent), error=str(error))
                    final.parent.mkdir(parents=True, exist_ok=True)
                    pending.replace(final)
            if not final.exists():
                return False
            for name in gone:
                (final.parent / name).unlink(missing_ok=True)
            sync_folder(final.parent)
            shutil.rmtree(beside, ignore_errors=True)
            pending.unlink(missing_ok=True)
            return True

    def _exchange(self, final: Path, pending: Path, beside: Path, gone: Collection[str]) -> None:
        beside.mkdir()
        for other in final.parent.iterdir():
            if other.name not in gone:
                os.link(other, beside / other.name)
        os.link(pending, beside / final.name)
        sync_folder(beside)
        _exchange(beside, final.parent)
        sync_folder(final.parent.parent)

    def remove(self, place: Place) -> None:
        """Whether it is in its place already or not. Again: no harm."""
        with self._alone(place.kind):
            for path in {*self._ways(place)}:
                path.unlink(missing_ok=True)

    def sweep(self, kind: Kind, partition: int, known: set[str]) -> None:
        """Remove what rolled-back batches of a partition left behind; `known` paths wait for their places."""
        for pending in (self._root / kind / _PENDING).glob(f"*~p{partition}-*.parquet"):
            if _is_old(pending) and pending.name.replace("~", "/") not in known:
                pending.unlink(missing_ok=True)

    def sweep_rewritten(self, known: set[str]) -> None:
        """Remove what was rewritten for nothing; `known` names wait for their places."""
        for pending in self._root.glob(f"*/{_PENDING}/r-*"):
            if pending.stem not in known and _is_old(pending):
                shutil.rmtree(pending) if pending.is_dir() else pending.unlink(missing_ok=True)

    def _final(self, place: Place) -> Path:
        return self._root / place.kind / place.path

    def _waiting(self, place: Place) -> Path:
        name = f"{place.pending}.parquet" if place.pending else place.path.replace("/", "~")
        return self._root / place.kind / _PENDING / name

    @contextmanager
    def _alone(self, kind: Kind) -> Iterator[None]:
        """One process of this host at a time changes what lies in the folders of a kind."""
        pending = self._root / kind / _PENDING
        pending.mkdir(parents=True, exist_ok=True)
        with (pending / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _is_old(path: Path) -> bool:
    """A worker that was just stalled may still be about to commit a young one."""
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > _OLD_S
    return False


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(one: Path, other: Path) -> None:
    """Each takes the other's place, at one moment. Raises OSError where the file system has no such thing."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise OSError("this C library has no renameat2")
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one))


def _groups(parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of enough rows for a row group."""
    waiting: list[pa.Table] = []
    rows = 0
    for part in parts:
        waiting.append(part)
        rows += part.num_rows
        if rows >= _GROUP_ROWS:
            yield pa.concat_tables(waiting)
            waiting, rows = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


def _group(file: BinaryIO, group: int, columns: Collection[str] | None) -> pa.Table:
    parquet = pq.ParquetFile(file)
    return parquet.read_row_group(group, columns=_there(parquet, columns))


def _there(parquet: pq.ParquetFile, columns: Collection[str] | None) -> list[str] | None:
    return None if columns is None else [name for name in columns if name in parquet.schema_arrow.names]


def _find(file: BinaryIO, ids: Collection[str], columns: Collection[str] | None) -> pa.Table:
    parquet, wanted = pq.ParquetFile(file), pa.array(sorted(ids), pa.string())
    found: list[pa.Table] = []
    for group in range(parquet.num_row_groups):
        if not _may_hold(parquet.metadata.row_group(group), min(ids), max(ids)):
            continue
        column = parquet.read_row_group(group, columns=["inference_id"])["inference_id"]
        kept = pc.is_in(column, value_set=wanted)  # pyright: ignore[reportAttributeAccessIssue]
        if pc.any(kept).as_py():  # pyright: ignore[reportAttributeAccessIssue]
            found.append(parquet.read_row_group(group, columns=_there(parquet, columns)).filter(kept))
    return pa.concat_tables(found) if found else parquet.schema_arrow.empty_table()


def _chosen(rows: pa.Table, ids: Sequence[str], wanted: Collection[tuple[str, int]]) -> pa.Table:
    """Compared as numbers: a chunk of a batch has tens of thousands of rows, of which few are wanted."""
    order = {id: number for number, id in enumerate(ids)}
    places = pa.array([order[id] * _ROWS + row for id, row in wanted], pa.int64())
    found = pc.index_in(rows["inference_id"], value_set=pa.array(ids, pa.string())).cast(pa.int64())  # pyright: ignore[reportAttributeAccessIssue]
    numbers = pc.add(pc.multiply(found, _ROWS), rows["row"].cast(pa.int64()))  # pyright: ignore[reportAttributeAccessIssue]
    return rows.filter(pc.is_in(numbers, value_set=places))  # pyright: ignore[reportAttributeAccessIssue]


def _may_hold(group: pq.RowGroupMetaData, first: str, last: str) -> bool:
    statistics = group.column(0).statistics
    if group.column(0).path_in_schema != "inference_id" or statistics is None or not statistics.has_min_max:
        return True
    return statistics.min <= last and first <= statistics.max
