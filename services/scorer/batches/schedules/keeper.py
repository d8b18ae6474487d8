"""Follows the schedules: each time and each file once, over all hosts and through kills.

The row of a run and its batch are one transaction, and the row's key is the time, or the file's path and version: who
comes second finds it and does nothing.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from math import inf
from pathlib import PurePosixPath
from uuid import UUID

from services.kit.again import Backoff
from services.kit.away import is_away
from services.kit.connections.files import Found, listed
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.errors import Invalid, NotFound, TooLarge, Unavailable
from services.kit.health import Progress
from services.kit.ids import now
from services.kit.telemetry import get_logger

from ..places import Place, Places
from ..store import held
from ..usecases import LARGEST_BYTES, Batches
from . import store
from .domain import Arrives, Due, Schedule, due

log = get_logger(__name__)

_LOOK_S = 2.0
_SETTLED = timedelta(seconds=2)
"""A file of a folder may still be written; an object of a bucket is whole as soon as it is there."""
_PUT_OFF_S, _LONGEST_PUT_OFF_S = 60.0, 3600.0
"""Until a file that could not be read is looked at again, and at most after more failures; others have their turn
meanwhile."""
_FAILURES = 3
"""So many files in a row that cannot be read: it is the connection that is away."""
_AT_ONCE = 50
_ASKED = 500


@dataclass
class _PutOff:
    """A file that could not be read."""

    why: str = ""
    due: float = 0.0
    """When it is tried again, by `time.monotonic`."""
    pauses: Backoff = field(default_factory=lambda: Backoff(_PUT_OFF_S, _LONGEST_PUT_OFF_S, forgiven_s=inf))

    def again(self, why: str) -> None:
        """It failed again."""
        self.why, self.due = why, time.monotonic() + self.pauses.pause()


class Keeper:
    """One per host; an advisory lock per schedule keeps others from doing the same work."""

    def __init__(self, db: Database, places: Places, batches: Batches, progress: Progress) -> None:
        self._db, self._places, self._batches, self._progress = db, places, batches, progress
        self._put_off: dict[UUID, dict[str, _PutOff]] = {}
        """Files of schedules that could not be read."""
        progress.expect("schedules", grace_s=600)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with use(Context(system("scorer"))):
                async with self._db.reading() as session:
                    schedules = await store.active(session)
            self._progress.beat("schedules")
            self._put_off = {one.id: self._put_off.get(one.id, {}) for one in schedules}
            for schedule in schedules:
                async with held(self._db, schedule.id) as ours:
                    if ours:
                        await self._tried(schedule)
            await asyncio.sleep(_LOOK_S)

    async def _tried(self, schedule: Schedule) -> None:
        try:
            await self._follow(schedule)
        except Exception as error:  # whatever it is, it is this schedule's
            if is_away(error):
                raise
            log.exception("a schedule failed in a way that nobody foresaw", schedule=str(schedule.id))

    async def _follow(self, schedule: Schedule) -> None:
        """What is due now; what is away is waited for, and the schedule says so."""
        with use(Context(system("scorer", schedule.unit))):
            try:
                await (self._times(schedule) if schedule.order.cron else self._arrivals(schedule))
                reason = None
            except (Unavailable, Invalid, NotFound) as error:
                reason = error.message[:500]
            if reason != schedule.reason:
                async with self._db.transaction(unit=schedule.unit) as tx:
                    await store.change(tx.session, schedule.id, reason=reason)

    async def _times(self, schedule: Schedule) -> None:
        order, at = schedule.order, now()
        if order.cron is None or schedule.next_at is None or schedule.next_at > at:
            return
        last, missed = due(order, schedule.next_at, at)
        ahead = order.next_at(last)
        now_due = Due(schedule, f"{last:%Y-%m-%dT%H:%M}Z", order.input_at(last), None, ahead, missed)
        if await self._can_be_scored(now_due):
            await self._take(now_due)

    async def _arrivals(self, schedule: Schedule) -> None:
        """One file that cannot be read holds up no other. Raises Unavailable naming those that could not be."""
        put_off, failed = self._put_off.setdefault(schedule.id, {}), 0
        for found in await self._new(schedule, put_off):
            key, place = _key(found), Place(connection=_watched(schedule).connection, path=found.path)
            arrived = Due(schedule, key, place, found.version)
            if not await self._can_be_scored(arrived):
                continue
            try:
                await self._take(arrived)
                put_off.pop(key, None)
                failed = 0
            except Unavailable as error:
                failed += 1
                put_off.setdefault(key, _PutOff()).again(f"{found.path[:200]}: {error.message}")
            if failed == _FAILURES:
                break
        if put_off:
            raise Unavailable("; ".join(one.why for one in put_off.values()))

    async def _new(self, schedule: Schedule, put_off: dict[str, _PutOff]) -> list[Found]:
        """Files that were not run: those first that never failed, whatever lies before them."""
        new: list[Found] = []
        some: list[Found] = []
        failed: dict[str, Found] = {}
        async for found in self._whole(schedule):
            if (key := _key(found)) in put_off:
                failed[key] = found
            else:
                some.append(found)
            if len(some) == _ASKED:
                new += await self._unseen(schedule, some)
                some = []
            if len(new) >= _AT_ONCE:
                return new
        new += await self._unseen(schedule, some)
        return new + await self._again(schedule, put_off, failed)

    async def _whole(self, schedule: Schedule) -> AsyncIterator[Found]:
        """All that is there and is not being written."""
        arrives = _watched(schedule)
        connection = self._places.connections.objects(arrives.connection, schedule.unit)
        latest = now() - _SETTLED if connection.folder() else None
        async for found in listed(connection, arrives.prefix.rstrip("/")):
            waits = latest is not None and (found.modified >= latest or _is_temporary(found.path))
            if found.bytes and not waits:
                yield found

    async def _again(self, schedule: Schedule, put_off: dict[str, _PutOff], there: dict[str, Found]) -> list[Found]:
        """Files whose pauses are over, the longest over first; what is gone or was run elsewhere is forgotten."""
        for gone in put_off.keys() - there.keys():
            del put_off[gone]
        over = sorted((one.due, key) for key, one in put_off.items() if one.due <= time.monotonic())[:_AT_ONCE]
        keys = [key for _, key in over]
        unseen = await self._unseen(schedule, [there[key] for key in keys])
        for run in set(keys) - {_key(found) for found in unseen}:
            del put_off[run]
        return unseen

    async def _unseen(self, schedule: Schedule, some: list[Found]) -> list[Found]:
        by_key = {_key(found): found for found in some}
        async with self._db.reading() as session:
            return [by_key[key] for key in await store.unseen(session, schedule.id, list(by_key))]

    async def _can_be_scored(self, due: Due) -> bool:
        """Asked before a large file is fetched for nothing; where it never can, its run says why. Raises Unavailable
        and NotFound, of whatever file it is."""
        try:
            await self._batches.endpoint_of(due.schedule)
        except Invalid as error:
            await self._refused(due, error.message[:500])
            return False
        return True

    async def _take(self, due: Due) -> None:
        """A time's or a file's batch, or why there is none. Raises Unavailable and NotFound: it is tried again."""
        with self._batches.room() as folder:
            path = folder / "upload"
            try:
                version = await self._places.take(due.place, due.schedule.unit, path, LARGEST_BYTES)
                # What was replaced since it was listed is found again as what it is now.
                if due.version in (None, version):
                    await self._batches.of_schedule(due, path)
            except (Invalid, TooLarge) as error:
                await self._refused(due, error.message[:500])

    async def _refused(self, due: Due, reason: str) -> None:
        schedule = due.schedule
        async with self._db.transaction(unit=schedule.unit) as tx:
            if await store.claim(tx.session, due, None, reason, now()):
                tx.record("batch.refused", f"{schedule.endpoint}/{schedule.id}", key=due.key, reason=reason)
        log.error("a scheduled batch is refused", schedule=str(schedule.id), key=due.key, reason=reason)


def _watched(schedule: Schedule) -> Arrives:
    arrives = schedule.order.arrives
    assert arrives is not None
    return arrives


def _is_temporary(path: str) -> bool:
    """What is copied into a folder has a hidden name until it is whole, by rsync and its kind."""
    return PurePosixPath(path).name.startswith(".")


def _key(found: Found) -> str:
    return f"{found.path}@{found.version}"
