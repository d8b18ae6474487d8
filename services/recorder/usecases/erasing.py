"""Somebody is forgotten: decisions, what followed, rows in files and in snapshots, payloads in the object store."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

import pyarrow as pa
import pyarrow.compute as pc

from contracts import DecisionsErased
from services.kit.context import Caller
from services.kit.db import Database
from services.kit.ids import now, uuid7

from .. import metrics, store
from ..domain.erasures import checked_reason, pseudonym, unit_of
from ..domain.layout import Place, conform
from ..files import Files, Lost
from .remaining import Kept, Remainder, remaining
from .snapshots import Snapshots
from .upkeep import Upkeep

_TOLD_AT_ONCE = 1000


def batched(ids: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    """The same in parts."""
    for first in range(0, len(ids), size):
        yield tuple(ids[first : first + size])


@dataclass(frozen=True)
class Asked:
    """Whom to forget, and why."""

    entity: str
    use_case: str | None
    unit: str | None
    reason: str


class Erasing:
    """An erasure is asked for in a moment and done by and by; a crash at any point leaves a state that goes on."""

    def __init__(
        self, db: Database, files: Files, upkeep: Upkeep, snapshots: Snapshots, key: bytes, kept: Kept
    ) -> None:  # fmt: skip
        self._db = db
        self._files = files
        self._upkeep = upkeep
        self._snapshots = snapshots
        self._key = key
        self._kept = kept
        self.asked = asyncio.Event()

    async def ask(self, caller: Caller, asked: Asked) -> store.Erasure:
        """From now on nothing of the entity that was decided until now is recorded any more. Raises Invalid."""
        unit = unit_of(asked.unit, caller.units)
        reason = checked_reason(asked.reason, asked.entity)
        hashed = pseudonym(self._key, asked.entity)
        new = store.Erasure(uuid7(), unit, asked.use_case, asked.entity, hashed, reason, caller.actor, now())
        async with self._db.transaction(unit) as tx:
            await store.add_erasure(tx.session, new)
            tx.record("erasure.requested", hashed, erasure=str(new.id), use_case=asked.use_case, reason=reason)
            tx.then.append(self.asked.set)
        return new

    async def look(self, id: UUID) -> tuple[store.Erasure, int]:
        """How far an erasure came, and how many decisions are left. Raises NotFound."""
        async with self._db.reading() as session:
            found = await store.erasure(session, id)
            return found, await store.left(session, found)

    def elsewhere(self, erasure: store.Erasure) -> list[Remainder]:
        """What of the erased decisions is not here."""
        return remaining(erasure.requested_at, self._kept, told=erasure.told)

    async def go_on(self, beat: Callable[[], None] = lambda: None) -> bool:
        """Do what is to be done; answers whether nothing is left. Raises InUse where somebody works with the files."""
        self.asked.clear()
        async with self._db.reading() as session:
            running = await store.running(session)
        return all([await self._erase(erasure, beat) for erasure in running])

    async def _erase(self, erasure: store.Erasure, beat: Callable[[], None]) -> bool:
        await self._wait_for(store.FOLDING, 30)  # batches that began before they could know of it
        await self._upkeep.place()
        problems = await self._rewrite_all(erasure, beat)
        await self._upkeep.remove_files()
        await self._wait_for(store.MOVING, 5)  # snapshots that began before
        await self._snapshots.without(erasure.id)
        await self._upkeep.remove_payloads()
        async with self._db.transaction(erasure.unit) as tx:
            if left := await store.left(tx.session, erasure):
                await store.tell_problem(tx.session, erasure.id, "; ".join(problems)[:500] or f"{left} decisions left")
                return False
            done = await store.finish(tx.session, erasure.id, now())
            tx.record(
                "entity.erased", done.entity_hash, erasure=str(done.id), decisions=done.decisions,
                outcomes=done.outcomes, files=done.files, snapshots=done.snapshots,
            )  # fmt: skip
        metrics.ERASED.inc(done.decisions)
        return True

    async def _wait_for(self, what: str, patience_s: int) -> None:
        """Until what goes on now has ended."""
        async with self._db.transaction() as tx:
            await store.alone(tx.session, what, patience_s)

    async def _rewrite_all(self, erasure: store.Erasure, beat: Callable[[], None]) -> list[str]:
        """All files that hold decisions of the entity; answers what is wrong with those that cannot be rewritten."""
        problems: dict[int, str] = {}
        while True:
            async with self._db.reading() as session:
                file = await store.next_file(session, erasure, [*problems])
                ids = await store.ids_in(session, erasure, file.id) if file else []
            if file is None:
                return list(problems.values())
            beat()
            try:
                await self._rewrite(erasure, file, ids)
            except Lost as lost:
                problems[file.id] = f"a file with decisions cannot be read: mend or remove it: {lost}"

    async def _rewrite(self, erasure: store.Erasure, file: store.Member, ids: Sequence[str]) -> None:
        fresh = Place(file.place.path, f"r-{uuid4().hex}")
        kept = _Rest(self._files, file.place, ids)
        bytes = await asyncio.to_thread(self._files.write, fresh, kept.parts())
        try:
            async with self._db.transaction() as tx:
                await store.alone(tx.session, store.MOVING)
                if not await store.still(tx.session, [file]):
                    raise store.InUse("a file changed while it was rewritten")
                if kept.gone:  # who else was in it has no row any more: nothing would find, keep or forget them
                    ids = await store.all_in(tx.session, file.id)
                await store.erase(tx.session, erasure, ids)
                for part in batched(ids, _TOLD_AT_ONCE):  # who holds anything about them hears of it
                    tx.emit(DecisionsErased(erasure_id=erasure.id, inference_ids=part), unit=erasure.unit)
                if kept.rows:
                    await store.rewrite(tx.session, file.id, str(fresh.pending), kept.rows, bytes)
                else:
                    await store.empty(tx.session, file.id)
        except BaseException:
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
                kept = conform(part.filter(pc.invert(gone)))  # pyright: ignore[reportAttributeAccessIssue]
                self.rows += kept.num_rows
                yield kept
        except Lost as lost:
            if lost.there:
                raise
            self.rows, self.gone = 0, True
