"""Files without some of their rows: the rest is written beside, the books say so, the disk follows."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc

from services.kit.db import Database, Tx

from .. import store
from ..domain.layout import Place, conform
from ..files import Files, Lost
from .upkeep import Upkeep

Beat = Callable[[], None]


@dataclass(frozen=True)
class Removal:
    """Which inferences' rows leave a file."""

    file: store.Member
    ids: Sequence[str]
    forget: Callable[[Tx, bool], Awaitable[None]]
    """Takes them out of the books, or where it is told so whatever the file had: it is gone from the disk."""


class Rewriting:
    """A crash at any point leaves a state that goes on: the books say what is still to be done."""

    def __init__(self, db: Database, files: Files, upkeep: Upkeep) -> None:
        self._db = db
        self._files = files
        self._upkeep = upkeep

    async def all(self, find: Callable[[Sequence[int]], Awaitable[Removal | None]], beat: Beat) -> list[str]:
        """Do what `find` gives until it gives none; it leaves out the files that it is told, which cannot be read.

        Answers what is wrong with those. Raises InUse where somebody works with the files.
        """
        problems: dict[int, str] = {}
        while removal := await find([*problems]):
            beat()
            try:
                await self._do(removal)
            except Lost as lost:
                problems[removal.file.id] = f"a file cannot be read: mend or remove it: {lost}"
        return list(problems.values())

    async def _do(self, removal: Removal) -> None:
        file = removal.file
        fresh = Place(file.place.path, f"r-{uuid4().hex}", file.place.kind)
        kept = _Rest(self._files, file.place, removal.ids)
        try:
            bytes = await asyncio.to_thread(self._files.write, fresh, kept.parts())
            async with self._db.transaction() as tx:
                await store.alone(tx.session, store.MOVING)
                await store.alone(tx.session, store.FILING)
                if not await store.still(tx.session, [file]):
                    raise store.InUse("a file changed while it was rewritten")
                await removal.forget(tx, kept.gone)
                if kept.rows:
                    await store.rewrite(tx.session, file.id, str(fresh.pending), kept.rows, bytes)
                else:
                    await store.empty(tx.session, file.id)
        except (store.InUse, Lost):
            # After any other end nobody knows whether it committed, and then this is the file's only right content.
            await asyncio.to_thread(self._files.discard, fresh)
            raise
        await (self._upkeep.place() if kept.rows else asyncio.to_thread(self._files.discard, fresh))


class _Rest:
    """The rows of a file that are not of some inferences; none of a file that is not there any more."""

    def __init__(self, files: Files, place: Place, without: Sequence[str]) -> None:
        self._files = files
        self._place = place
        self._without = pa.array(without, pa.string())
        self.rows = 0
        self.gone = False

    def parts(self) -> Iterator[pa.Table]:
        try:
            for part in self._files.parts(self._place):
                gone = pc.is_in(part["inference_id"], value_set=self._without)  # pyright: ignore[reportAttributeAccessIssue]
                kept = conform(part.filter(pc.invert(gone)), self._place.kind)  # pyright: ignore[reportAttributeAccessIssue]
                self.rows += kept.num_rows
                yield kept
        except Lost as lost:
            if lost.there:
                raise
            self.rows, self.gone = 0, True
