"""Recorded rows and their observed labels, frozen into one object: what a retraining learns from."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.errors import NotFound
from services.kit.ids import now
from services.kit.objects import Objects

from .. import store
from ..domain.frozen import Order, columns_of
from ..files import Files
from .freezing import Freezer, digest_of_file, filtered

_PAGE = 10_000
"""Decisions of the books at a time."""


@dataclass(frozen=True)
class Snapshot:
    """An object, how many rows it has, and how many of them have a label."""

    digest: str
    rows: int
    labelled: int


class Snapshots:
    """Makes snapshots under the caller's units, or under one of them.

    The same request over the same decisions and labels gives the same bytes, however the rows lie in files.
    """

    def __init__(self, db: Database, files: Files, objects: Objects, rows_at_most: int) -> None:
        self._db = db
        self._files = files
        self._objects = objects
        self._rows_at_most = rows_at_most

    async def make(self, endpoint: str, model: str, since: datetime | None, unit: str | None = None) -> Snapshot:
        """Freeze the newest rows of a model behind an endpoint. Raises NotFound where there are none.

        A part of the rows is in memory at a time, whatever the snapshot grows to.
        """
        async with self._db.reading(unit) as session:
            schema, home = await store.newest_schema(session, endpoint, model)
        with TemporaryDirectory(prefix="fairlead-snapshot-") as place:
            async with self._undisturbed():
                order = await self._order(endpoint, model, since, unit)
                freezer = Freezer(Path(place), order, columns_of(schema))
                await self._read(freezer, order)
                rows, labelled = await self._write(freezer, unit)
                if rows == 0:
                    since_when = f" since {since}" if since else ""
                    raise NotFound(f"no rows of {model} behind {endpoint} are recorded{since_when}")
                digest = await asyncio.to_thread(digest_of_file, freezer.whole)
                await self._know(store.Frozen(digest, home, endpoint, model, rows, labelled, now()))
                await self._objects.put_file(freezer.whole)
        async with self._db.transaction(unit) as tx:
            tx.record("snapshot.made", f"{endpoint}/{model}", digest=digest, rows=rows, labelled=labelled)
        return Snapshot(digest, rows, labelled)

    async def look(self, digest: str) -> store.Frozen:
        """Raises NotFound."""
        async with self._db.reading() as session:
            return await store.frozen(session, digest)

    @asynccontextmanager
    async def _undisturbed(self) -> AsyncIterator[None]:
        """Nobody moves rows meanwhile, and an erasure finds the snapshot in the books."""
        async with self._db.engine.connect() as lock:
            await lock.execution_options(isolation_level="AUTOCOMMIT")
            await store.share_for_long(lock, store.MOVING)
            try:
                yield
            finally:
                await store.give_back(lock, store.MOVING)

    async def _order(self, endpoint: str, model: str, since: datetime | None, unit: str | None) -> Order:
        """The newest decisions that fit."""
        chosen: list[store.Chosen] = []
        rows = 0
        while True:
            async with self._db.reading(unit) as session:
                before = chosen[-1] if chosen else None
                page = await store.newest(session, endpoint, model, since, before, _PAGE)
            for each in page:
                rows += each.rows
                if rows > self._rows_at_most and chosen:
                    return _order_of(chosen)
                chosen.append(each)
            if len(page) < _PAGE:
                return _order_of(chosen)

    async def _read(self, freezer: Freezer, order: Order) -> None:
        async with self._db.reading("*") as session:
            places = await store.places(session, order.files)
        for file in order.files:
            if file in places:
                await asyncio.to_thread(freezer.take, self._files, places[file], file)

    async def _write(self, freezer: Freezer, unit: str | None) -> tuple[int, int]:
        """Answers rows and labels."""
        rows = labelled = 0
        with freezer.writing():
            for chunk in range(freezer.chunks):
                async with self._db.reading(unit) as session:
                    labels = await store.labels(session, freezer.ids(chunk))
                more = await asyncio.to_thread(freezer.write, chunk, labels)
                rows, labelled = rows + more[0], labelled + more[1]
        return rows, labelled

    async def _know(self, snapshot: store.Frozen) -> None:
        """In a transaction of its own, before there is an object: none is ever unknown to an erasure."""
        with use(Context(system("recorder"))):
            async with self._db.transaction() as tx:
                await store.add_snapshot(tx.session, snapshot)

    # Who was erased goes from what was frozen

    async def without(self, erasure: UUID) -> None:
        """Snapshots with rows that an erasure took out are replaced by ones without them; again: no harm."""
        after = ""
        while True:
            async with self._db.reading() as session:
                found = await store.frozen_of(session, erasure, after)
            if not found:
                return
            for snapshot in found:
                await self._replace(erasure, snapshot)
            after = found[-1].digest

    async def _replace(self, erasure: UUID, old: store.Frozen) -> None:
        if old.replaced_by is None and not await self._rewritten(erasure, old):
            return
        await self._objects.remove(old.digest)
        async with self._db.transaction() as tx:
            await store.remove_snapshot(tx.session, old.digest, now())

    async def _rewritten(self, erasure: UUID, old: store.Frozen) -> bool:
        """Put the snapshot without those rows beside it; False where it holds none of them."""
        async with self._db.reading() as session:
            ids = await store.erased_ids(session, erasure, old.endpoint)
        with TemporaryDirectory(prefix="fairlead-snapshot-") as place:
            try:
                whole = await self._objects.fetch(old.digest, Path(place) / "whole.parquet")
            except NotFound:
                return False
            left = await asyncio.to_thread(filtered, whole, Path(place) / "left.parquet", ids)
            if left is None:
                return False
            digest = ""
            if left.rows:
                digest = await asyncio.to_thread(digest_of_file, left.path)
                new = store.Frozen(digest, old.unit, old.endpoint, old.model, left.rows, left.labelled, now())
                await self._know(new)
                await self._objects.put_file(left.path)
        async with self._db.transaction() as tx:
            await store.replace_snapshot(tx.session, erasure, old.digest, digest)
            tx.record(
                "snapshot.replaced", f"{old.endpoint}/{old.model}", unit=old.unit, digest=old.digest,
                replaced_by=digest, rows=left.rows,
            )  # fmt: skip
        return True


def _order_of(chosen: list[store.Chosen]) -> Order:
    return Order.of([each.inference_id for each in chosen], [each.rows for each in chosen], [e.file for e in chosen])
