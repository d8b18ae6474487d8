"""Recorded rows and their observed labels, frozen into one object: what a retraining learns from."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts import ModelSchema
from services.kit.db import Database
from services.kit.errors import NotFound
from services.kit.objects import Objects

from .. import store
from ..files import Files, Lost

_ABOUT = ["inference_id", "row", "received_at", "version", "prediction", "prediction_text", "score"]
"""What a snapshot keeps of a row beside its columns, as the recorded files have it."""
_READ = [*_ABOUT, "model", "features", "texts", "shadow_of"]
_ORDER = [("received_at", "ascending"), ("inference_id", "ascending"), ("row", "ascending")]
_PAGE = 500
"""Files of the books at a time."""

Label = tuple[str, int, float | str]


@dataclass(frozen=True)
class Snapshot:
    """An object, how many rows it has, and how many of them have a label."""

    digest: str
    rows: int
    labelled: int


@dataclass(frozen=True)
class Wanted:
    """Which rows of the files, and which columns of the model."""

    model: str
    since: datetime | None
    columns: tuple[str, ...]

    @classmethod
    def of(cls, model: str, since: datetime | None, schema: ModelSchema) -> "Wanted":
        """A model without declared columns has its input tensors for columns."""
        return cls(model, since, tuple(each.name for each in schema.columns or schema.inputs))


class Snapshots:
    """Makes snapshots under the caller's units, or under one of them."""

    def __init__(self, db: Database, files: Files, objects: Objects, rows_at_most: int) -> None:
        self._db = db
        self._files = files
        self._objects = objects
        self._rows_at_most = rows_at_most

    async def make(self, endpoint: str, model: str, since: datetime | None, unit: str | None = None) -> Snapshot:
        """Freeze the newest rows of a model behind an endpoint. Raises NotFound where there are none.

        One file is in memory at a time, whatever the snapshot grows to.
        """
        async with self._db.reading(unit) as session:
            wanted = Wanted.of(model, since, await store.newest_schema(session, endpoint, model))
        with TemporaryDirectory(prefix="fairlead-snapshot-") as place:
            parts, rows, labelled = await self._parts(Path(place), endpoint, wanted, unit)
            if rows == 0:
                raise NotFound(f"no rows of {model} behind {endpoint} are recorded{f' since {since}' if since else ''}")
            whole = Path(place) / "snapshot.parquet"
            await asyncio.to_thread(_join, whole, reversed(parts))
            digest = await self._objects.put_file(whole)
        async with self._db.transaction(unit) as tx:
            tx.record("snapshot.made", f"{endpoint}/{model}", digest=digest, rows=rows, labelled=labelled)
        return Snapshot(digest, rows, labelled)

    async def _parts(self, place: Path, endpoint: str, wanted: Wanted, unit: str | None) -> tuple[list[Path], int, int]:
        """A part for each file that has such rows, newest first; how many rows they have, and how many labels."""
        parts: list[Path] = []
        rows = labelled = 0
        async for file in self._newest(endpoint, wanted.since, unit):
            if rows + file.rows > self._rows_at_most and parts:
                break
            part = await asyncio.to_thread(self._read, file.path, wanted)
            if part is None or not part.num_rows:
                continue
            ids = pc.unique(part["inference_id"]).to_pylist()  # pyright: ignore[reportAttributeAccessIssue]
            async with self._db.reading(unit) as session:
                labels = await store.labels(session, ids)
            part = _widened(part, labels, wanted.columns)
            parts.append(place / f"part-{len(parts)}.parquet")
            await asyncio.to_thread(pq.write_table, part, parts[-1])
            rows += part.num_rows
            labelled += sum(part.num_rows - part[name].null_count for name in ("label", "label_text"))
        return parts, rows, labelled

    async def _newest(self, endpoint: str, since: datetime | None, unit: str | None) -> AsyncGenerator[store.Recorded]:
        """The endpoint's files, newest first, a bounded number of them in memory; no transaction is left open."""
        last: store.Recorded | None = None
        while True:
            async with self._db.reading(unit) as session:
                files = await store.files_of(session, endpoint, since, last, _PAGE)
            for last in files:
                yield last
            if len(files) < _PAGE:
                return

    def _read(self, path: str, wanted: Wanted) -> pa.Table | None:
        """The rows of a file that are wanted; None where it is lost."""
        try:
            part = self._files.read(path, columns=_READ)
        except Lost:
            return None
        kept = pc.equal(part["model"], wanted.model)  # pyright: ignore[reportAttributeAccessIssue]
        # Of some inferences no payload was logged.
        there = pc.or_(part["features"].is_valid(), part["texts"].is_valid())  # pyright: ignore[reportAttributeAccessIssue]
        kept = pc.and_(kept, there)  # pyright: ignore[reportAttributeAccessIssue]
        if "shadow_of" in part.column_names:  # a shadow's rows are its champion's once more
            kept = pc.and_(kept, pc.is_null(part["shadow_of"]))  # pyright: ignore[reportAttributeAccessIssue]
        if wanted.since is not None:
            since = pa.scalar(wanted.since, part["received_at"].type)
            kept = pc.and_(kept, pc.greater_equal(part["received_at"], since))  # pyright: ignore[reportAttributeAccessIssue]
        return part.filter(kept).sort_by(_ORDER)


def _widened(part: pa.Table, labels: Iterable[Label], columns: Sequence[str]) -> pa.Table:
    """The rows with their truth, and the maps as structures of the model's columns.

    Columns lie in structures of their own, numbers in `features` and texts in `texts`: whatever a model calls them,
    none takes the place of what a snapshot says about the row.
    """
    known = {(id, row): label for id, row, label in labels}
    keys = zip(part["inference_id"].to_pylist(), part["row"].to_pylist(), strict=True)
    truth = [known.get(key) for key in keys]
    return pa.table(
        {name: part[name] for name in _ABOUT}
        | {
            "label": pa.array([None if isinstance(v, str) else v for v in truth], pa.float64()),
            "label_text": pa.array([v if isinstance(v, str) else None for v in truth], pa.string()),
            "features": _structure(part["features"], columns, pa.float64()),
            "texts": _structure(part["texts"], columns, pa.string()),
        }
    )


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


def _join(whole: Path, parts: Iterable[Path]) -> None:
    writer: pq.ParquetWriter | None = None
    for part in parts:
        table = pq.read_table(part)
        writer = writer or pq.ParquetWriter(whole, table.schema, compression="zstd")
        writer.write_table(table)
    if writer:
        writer.close()
