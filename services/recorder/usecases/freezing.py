"""Rows of many files, brought into one order on the disk and written as one file, the same bytes for the same rows."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..domain.frozen import Array, Order
from ..domain.layout import Place
from ..files import Files, Lost

_ABOUT = ["inference_id", "row", "received_at", "version", "prediction", "prediction_text", "score"]
"""What a snapshot keeps of a row beside its columns, as the recorded files have it."""
_READ = [*_ABOUT, "features", "texts", "params"]

Label = tuple[str, int, float | str]


class Freezer:
    """Blocking; for one snapshot. `folder` is empty and its own."""

    def __init__(self, folder: Path, order: Order, columns: Sequence[str]) -> None:
        self._folder = folder
        self._order = order
        self._columns = columns
        self._pieces: dict[int, list[Path]] = {}
        self._writer: pq.ParquetWriter | None = None
        self.whole = folder / "snapshot.parquet"

    @property
    def chunks(self) -> int:
        return len(self._order.starts) - 1

    def ids(self, chunk: int) -> list[str]:
        return self._order.ids_of(chunk)

    def take(self, files: Files, place: Place, file: int) -> None:
        """Put the rows that are wanted of a file where their chunks find them; of one that is lost none."""
        there = self._order.by_file[file]
        ids = pa.array([self._order.ids[each] for each in there], pa.string())
        with suppress(Lost):
            for part in files.parts(place, _READ):
                found = pc.index_in(part["inference_id"], value_set=ids)  # pyright: ignore[reportAttributeAccessIssue]
                # Of some inferences no payload was logged.
                logged = pc.or_(part["features"].is_valid(), part["texts"].is_valid())  # pyright: ignore[reportAttributeAccessIssue]
                kept = pc.and_(found.is_valid(), logged)  # pyright: ignore[reportAttributeAccessIssue]
                places = there[found.filter(kept).to_numpy()]
                self._spill(_with_params(part.filter(kept)), places)

    def _spill(self, rows: pa.Table, places: Array) -> None:
        chunks = self._order.chunk_of(places)
        rows = rows.append_column("place", pa.array(places))
        for chunk in np.unique(chunks):
            pieces = self._pieces.setdefault(int(chunk), [])
            pieces.append(self._folder / f"{chunk}-{len(pieces)}.parquet")
            pq.write_table(rows.filter(pa.array(chunks == chunk)), pieces[-1])

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around all chunks."""
        try:
            yield
        finally:
            if self._writer:
                self._writer.close()

    def write(self, chunk: int, labels: Iterable[Label]) -> tuple[int, int]:
        """A chunk's rows with what is known of them; answers how many rows, and how many labels."""
        pieces = [pq.read_table(piece) for piece in self._pieces.get(chunk, ())]
        if not pieces:
            return 0, 0
        rows = pa.concat_tables(pieces).sort_by([("place", "ascending"), ("row", "ascending")])
        made = _widened(rows, labels, self._columns).combine_chunks()
        self._writer = self._writer or pq.ParquetWriter(self.whole, made.schema, compression="zstd")
        self._writer.write_table(made, row_group_size=made.num_rows)
        return made.num_rows, _labels(made)


@dataclass(frozen=True)
class Left:
    """A snapshot without some rows."""

    path: Path
    rows: int
    labelled: int


def filtered(whole: Path, path: Path, ids: Sequence[str]) -> Left | None:
    """A snapshot's rows that are not of some inferences, row group by row group; None where it holds none of them."""
    snapshot, gone = pq.ParquetFile(whole), pa.array(ids, pa.string())
    rows = labelled = 0
    with pq.ParquetWriter(path, snapshot.schema_arrow, compression="zstd") as writer:
        for group in range(snapshot.num_row_groups):
            part = snapshot.read_row_group(group)
            is_gone = pc.is_in(part["inference_id"], value_set=gone)  # pyright: ignore[reportAttributeAccessIssue]
            kept = part.filter(pc.invert(is_gone)).combine_chunks()  # pyright: ignore[reportAttributeAccessIssue]
            if kept.num_rows:
                writer.write_table(kept, row_group_size=kept.num_rows)
            rows, labelled = rows + kept.num_rows, labelled + _labels(kept)
    return None if rows == snapshot.metadata.num_rows else Left(path, rows, labelled)


def digest_of_file(path: Path) -> str:
    """As the object store will know it."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _labels(rows: pa.Table) -> int:
    return sum(rows.num_rows - rows[name].null_count for name in ("label", "label_text"))


def _widened(part: pa.Table, labels: Iterable[Label], columns: Sequence[str]) -> pa.Table:
    """The rows with their truth, and the maps as structures of the model's columns.

    Columns lie in structures of their own, numbers in `features` and texts in `texts`: whatever a model calls them,
    none takes the place of what a snapshot says about the row.
    """
    known = {(id, row): label for id, row, label in labels}
    keys = zip(part["inference_id"].to_pylist(), part["row"].to_pylist(), strict=True)
    truth = [known.get(key) for key in keys]
    return pa.table(
        {name: part[name] for name in [*_ABOUT, "params"]}
        | {
            "label": pa.array([None if isinstance(v, str) else v for v in truth], pa.float64()),
            "label_text": pa.array([v if isinstance(v, str) else None for v in truth], pa.string()),
            "features": _structure(part["features"], columns, pa.float64()),
            "texts": _structure(part["texts"], columns, pa.string()),
        }
    )


def _with_params(part: pa.Table) -> pa.Table:
    """Of a file of before there were any, too."""
    nothing = pa.nulls(part.num_rows, pa.string())
    return part if "params" in part.column_names else part.append_column("params", nothing)


def _structure(maps: pa.ChunkedArray, columns: Sequence[str], kind: pa.DataType) -> pa.Array:
    found = _by_name(maps, columns)
    values = [found.get(name, pa.nulls(len(maps), kind)) for name in columns]
    return pa.StructArray.from_arrays(values, names=list(columns))


def _by_name(maps: pa.ChunkedArray, names: Sequence[str]) -> dict[str, pa.Array]:
    """The values of some keys of maps, by row; keys that no row has are left out."""
    given = maps.combine_chunks()
    given = given if isinstance(given, pa.Array) else pa.concat_arrays(given.chunks)
    offsets = given.offsets.to_numpy()
    keys = given.keys.slice(offsets[0], offsets[-1] - offsets[0]) if len(given) else given.keys
    items = given.items.slice(offsets[0], len(keys))
    rows = np.repeat(np.arange(len(given)), np.diff(offsets))
    found: dict[str, pa.Array] = {}
    for name in names:
        places = np.flatnonzero(pc.equal(keys, name).to_numpy(zero_copy_only=False))  # pyright: ignore[reportAttributeAccessIssue]
        if not len(places) or items.take(pa.array(places)).null_count == len(places):
            continue
        place_of = np.full(len(given), -1)
        place_of[rows[places]] = places
        found[name] = items.take(pa.array(place_of, mask=place_of < 0))
    return found
