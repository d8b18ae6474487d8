"""Recorded rows and their observed labels, frozen into one object: what a retraining learns from."""

import asyncio
from collections.abc import Sequence
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
from ..files import Files

_READ = ["inference_id", "row", "model", "version", "received_at", "features", "texts", "prediction", "score"]
LABEL = "label"


@dataclass(frozen=True)
class Snapshot:
    """An object, how many rows it has, and how many of them have a label."""

    digest: str
    rows: int
    labelled: int


class Snapshots:
    """Makes snapshots under the caller's units, or under one of them."""

    def __init__(self, db: Database, files: Files, objects: Objects, rows_at_most: int) -> None:
        self._db = db
        self._files = files
        self._objects = objects
        self._rows_at_most = rows_at_most

    async def make(self, endpoint: str, model: str, since: datetime | None, unit: str | None = None) -> Snapshot:
        """Freeze the newest rows of a model behind an endpoint. Raises NotFound where there are none."""
        async with self._db.reading(unit) as session:
            schema = await store.newest_schema(session, endpoint, model)
            files = await store.files_of(session, endpoint, since)
            labels = await store.labels(session, endpoint)
        with TemporaryDirectory(prefix="fairlead-snapshot-") as place:
            path = Path(place) / "snapshot.parquet"
            rows, labelled = await asyncio.to_thread(self._write, path, files, labels, schema, model, since)
            if rows == 0:
                raise NotFound(f"no rows of {model} behind {endpoint} are recorded{f' since {since}' if since else ''}")
            digest = await self._objects.put_file(path)
        async with self._db.transaction(unit) as tx:
            tx.record("snapshot.made", f"{endpoint}/{model}", digest=digest, rows=rows, labelled=labelled)
        return Snapshot(digest, rows, labelled)

    def _write(
        self, path: Path, files: Sequence[tuple[str, int]], labels: Sequence[tuple[str, int, float | str]],
        schema: ModelSchema, model: str, since: datetime | None,
    ) -> tuple[int, int]:  # fmt: skip
        parts: list[pa.Table] = []
        rows = 0
        for place, count in files:
            if rows + count > self._rows_at_most and parts:
                break
            part = self._files.read(place, columns=_READ)
            kept = pc.equal(part["model"], model)  # pyright: ignore[reportAttributeAccessIssue]
            if since is not None:
                kept = pc.and_(kept, pc.greater_equal(part["received_at"], pa.scalar(since, part["received_at"].type)))  # pyright: ignore[reportAttributeAccessIssue]
            parts.append(_widened(part.filter(kept), schema))
            rows += parts[-1].num_rows
        if rows == 0:
            return 0, 0
        table = pa.concat_tables(parts, promote_options="permissive")
        table = _labelled(table, labels).sort_by([("received_at", "ascending"), ("inference_id", "ascending")])
        pq.write_table(table, path, compression="zstd")
        return table.num_rows, table.num_rows - table[LABEL].null_count


def _widened(part: pa.Table, schema: ModelSchema) -> pa.Table:
    """The maps as the model's columns; a column of texts where it has any."""
    names = [column.name for column in schema.columns]
    numbers, texts = _by_name(part["features"], names), _by_name(part["texts"], names)
    columns = {name: texts.get(name, numbers.get(name, pa.nulls(part.num_rows, pa.float64()))) for name in names}
    also = {"version": part["version"], "predicted": part["prediction"], "score": part["score"]}
    return pa.table(also | columns | {name: part[name] for name in ("inference_id", "row", "received_at")})


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


def _labelled(table: pa.Table, labels: Sequence[tuple[str, int, float | str]]) -> pa.Table:
    known = {(id, row): label for id, row, label in labels}
    keys = zip(table["inference_id"].to_pylist(), table["row"].to_pylist(), strict=True)
    found = [known.get(key) for key in keys]
    if any(isinstance(label, str) for label in found):
        return table.append_column(LABEL, pa.array([None if v is None else str(v) for v in found], pa.string()))
    return table.append_column(LABEL, pa.array([None if v is None else float(v) for v in found], pa.float64()))
