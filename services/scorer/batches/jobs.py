"""Does the batches that wait: each chunk is scored, kept, logged and counted, in an order that survives kills.

A chunk's result and log record are kept before the record is said, and counted only after it is in Kafka. After a
kill a chunk that was kept is never scored again; a record that may have been said is said again under the same id,
writer and number, which readers know for a repeat.
"""

import asyncio
import time
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

from services.kit.away import is_away
from services.kit.connections import Connections
from services.kit.context import EVERY_UNIT, Context, system, use
from services.kit.db import Database
from services.kit.errors import Invalid, NotFound, Unavailable
from services.kit.health import Progress
from services.kit.ids import now
from services.kit.objects import Objects
from services.kit.producer import Producer
from services.kit.telemetry import get_logger

from ..logrecord import HeaderMaker
from ..settings import ScorerSettings
from . import store
from .domain import Job
from .executors import Broken, Executor, executor_of
from .inputs import Inputs
from .places import Places
from .serving import Serving
from .work import Cancelled, GaveWay, Turn, Work

log = get_logger(__name__)

_LOOK_S = 1.0
_IDLE_S = 2.0
"""How soon a job is seen that another host took in; one of this process is seen at once."""
_PATIENCE = timedelta(minutes=10)
"""How long a job waits for an endpoint, from the moment that it first could not have it."""
_REST_S = 60.0
"""How long models and processes stay after the last job, for the next one."""
_STRIKES = 3
"""Attempts that a job gets without keeping a chunk after errors that nobody foresaw; the others go on meanwhile."""
_KILLS = 10
"""The same where processes that score it were killed: another's hunger for memory may pass."""


class Runner:
    """One job at a time in this process; an advisory lock keeps a second process off it."""

    def __init__(
        self,
        settings: ScorerSettings,
        db: Database,
        objects: Objects,
        inputs: Inputs,
        serving: Serving,
        progress: Progress,
        executor: Executor | None = None,
    ) -> None:
        self._settings = settings
        self._places = Places(Connections.of(settings))
        self._executor = executor or executor_of(settings)
        self._db = db
        self._objects = objects
        self._inputs = inputs
        self._serving = serving
        self._progress = progress
        self._headers = HeaderMaker()
        self._strikes: dict[UUID, tuple[int, int]] = {}
        """Of a job, how often it failed since it had so many rows done."""
        self._missed: dict[UUID, datetime] = {}
        self._line: list[UUID] = []
        self._waiting_for = ""
        self._worked_at = 0.0
        self._wake = asyncio.Event()
        db.committed.append(self._wake.set)
        progress.expect("batches", grace_s=30)

    async def run(self) -> None:
        """Until cancelled; what fails for lack of a part is tried again from the last kept chunk."""
        async with Producer(self._settings, max_request_size=4 * 1024 * 1024) as producer:
            while True:
                self._wake.clear()
                with use(Context(system("scorer"))):
                    worked = await self._once(producer)
                if self._waiting_for:
                    self._progress.fail("batches", self._waiting_for)
                else:
                    self._progress.beat("batches")
                if worked:
                    self._worked_at = time.monotonic()
                elif not self._line and time.monotonic() - self._worked_at > _REST_S:
                    self._executor.rest()
                    self._serving.meter.silent()
                    self._serving.rest()
                if not worked:
                    await self._pause()

    async def _pause(self) -> None:
        """What waits for a part is tried again soon; an empty line is looked at when a job comes."""
        if self._line:
            await asyncio.sleep(_LOOK_S)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), _IDLE_S)

    async def _once(self, producer: Producer) -> bool:
        async with self._db.reading() as session:
            self._line = await store.waiting(session, self._inputs.host)
        worked, self._waiting_for = False, ""
        for id in self._line:
            async with store.held(self._db, id) as ours:
                worked |= ours and await self._try(id, producer)
        return worked

    async def _try(self, id: UUID, producer: Producer) -> bool:
        try:
            return await self._work(id, producer)
        except Broken as error:
            self._waiting_for = f"batch {id}: {error.message}"
            return await self._strike(id, error, _KILLS)
        except Unavailable as error:
            self._serving.meter.silent()  # what scored may be gone; whoever is not is heard again
            self._waiting_for = f"batch {id}: {error.message}"
            return False
        except Exception as error:  # whatever it is, it is told apart here
            if is_away(error):
                raise
            log.exception("a batch failed in a way that nobody foresaw", batch=str(id))
            self._serving.meter.silent()
            return await self._strike(id, error, _STRIKES)

    async def _strike(self, id: UUID, error: Exception, most: int) -> bool:
        """Try again, but not for ever where nothing comes of it: whatever it is, it is this job's."""
        async with self._db.reading() as session:
            job = await store.get(session, id)
        strikes, done = self._strikes.get(id, (0, 0))
        strikes = strikes + 1 if job.rows_done == done else 1
        self._strikes[id] = strikes, job.rows_done
        if strikes < most:
            return False
        del self._strikes[id]
        await self._fail(job, f"it failed {most} times with {type(error).__name__}; the scorer's log says more")
        return True

    async def _work(self, id: UUID, producer: Producer) -> bool:
        async with self._db.reading() as session:
            job, kept = await store.get(session, id), await store.chunks(session, id)
        if job.state not in ("queued", "running"):
            return False
        if await self._serving.endpoint(job.endpoint) is None:
            return await self._without_endpoint(job)
        self._missed.pop(id, None)
        with use(Context(system("scorer", job.unit), job.correlation_id, job.traceparent)):
            try:
                if await self._change(job, state="running", reason=None):
                    await self._doing(producer).do(job, kept)
            except GaveWay:
                log.info("a batch gave way to others", batch=str(job.id))
            except Cancelled:
                self._inputs.forget(job.id)
                log.info("a batch was cancelled", batch=str(job.id))
            except (NotFound, Invalid, FileNotFoundError) as error:
                await self._fail(job, str(error))
        return True

    def _doing(self, producer: Producer) -> Work:
        return Work(
            self._db, self._objects, self._inputs, self._serving, self._executor, self._progress, producer,
            self._headers, self._places, Turn(self._settings.batch_turn_s, self._other_waits),
        )  # fmt: skip

    async def _other_waits(self, id: UUID) -> bool:
        """Whether this host could work on another job, of whatever unit: one that nobody has, of an endpoint that is
        here."""
        async with self._db.reading(EVERY_UNIT) as session:
            others = [await store.get(session, one) for one in await store.waiting(session, self._inputs.host)]
        for job in others:
            if job.id != id and self._serving.is_wanted(job.endpoint):
                async with store.held(self._db, job.id) as free:
                    if free:
                        return True
        return False

    async def _without_endpoint(self, job: Job) -> bool:
        """Its endpoint is not (or no longer) served here: wait for it, but not for ever."""
        if now() - self._missed.setdefault(job.id, now()) > _PATIENCE:
            del self._missed[job.id]
            await self._fail(job, self._serving.why_not(job.endpoint))
        return False

    async def _fail(self, job: Job, reason: str) -> None:
        reason = reason.encode(errors="replace").decode().replace("\0", "?")  # PostgreSQL takes no other
        async with self._db.transaction(unit=job.unit) as tx:
            if await store.change(tx.session, job.id, state="failed", reason=reason[:500], finished_at=now()):
                tx.record("batch.failed", f"{job.endpoint}/{job.id}", reason=reason[:500])
        self._inputs.forget(job.id)

    async def _change(self, job: Job, **values: str | None) -> bool:
        async with self._db.transaction(unit=job.unit) as tx:
            return await store.change(tx.session, job.id, **values)
