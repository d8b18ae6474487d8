"""Somebody is forgotten: decisions, what followed, rows in files and in snapshots, payloads in the object store."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from contracts import DecisionsErased
from services.kit.context import Caller
from services.kit.db import Database, Tx
from services.kit.ids import now, uuid7

from .. import metrics, store
from ..domain.erasures import checked_reason, pseudonym, unit_of
from .remaining import Kept, Remainder, remaining
from .rewriting import Beat, Removal, Rewriting
from .snapshots import Snapshots
from .upkeep import Upkeep
from .withdrawing import Withdrawing

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
        self,
        db: Database,
        rewriting: Rewriting,
        withdrawing: Withdrawing,
        upkeep: Upkeep,
        snapshots: Snapshots,
        key: bytes,
        kept: Kept,
    ) -> None:
        self._db = db
        self._rewriting = rewriting
        self._withdrawing = withdrawing
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

    async def go_on(self, beat: Beat = lambda: None) -> bool:
        """Do what is to be done; answers whether nothing is left. Raises InUse where somebody works with the files."""
        self.asked.clear()
        async with self._db.reading() as session:
            running = await store.running(session)
        return all([await self._erase(erasure, beat) for erasure in running])

    async def _erase(self, erasure: store.Erasure, beat: Beat) -> bool:
        await self._wait_for(store.FOLDING, 30)  # batches that began before they could know of it
        await self._upkeep.place()
        problems = await self._rewriting.all(partial(self._next, erasure), beat)
        async with self._db.transaction() as tx:  # decisions that retention took of late may have been the entity's
            await store.alone(tx.session, store.FILING)
            await store.hasten(tx.session)
        problems += await self._withdrawing.go_on(beat)
        await self._upkeep.place()
        await self._upkeep.remove_files()
        await self._wait_for(store.MOVING, 5)  # snapshots that began before
        await self._snapshots.without(erasure.id)
        await self._upkeep.remove_payloads()
        async with self._db.transaction(erasure.unit) as tx:
            left = await store.left(tx.session, erasure)
            behind = await store.unfollowed(tx.session)  # asked last: what has left the books by then is among them
            if left or behind:
                problems += [f"the disk is behind the books: mend or remove {path}" for path in behind]
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

    async def _next(self, erasure: store.Erasure, without: Sequence[int]) -> Removal | None:
        """A file that holds decisions of the entity."""
        async with self._db.reading() as session:
            file = await store.next_file(session, erasure, without)
            ids = await store.ids_in(session, erasure, file.id) if file else []
        return Removal(file, ids, partial(_forget, erasure, file.id, ids)) if file else None


async def _forget(erasure: store.Erasure, file: int, ids: Sequence[str], tx: Tx, whole: bool) -> None:
    if whole:  # who else was in it has no row any more: nothing would find, keep or forget them
        ids = await store.all_in(tx.session, file)
    await store.erase(tx.session, erasure, ids)
    for part in batched(ids, _TOLD_AT_ONCE):  # who holds anything about them hears of it
        tx.emit(DecisionsErased(erasure_id=erasure.id, inference_ids=part), unit=erasure.unit)
