"""What the retrainer can do: take requests, tell how they stand, do them one at a time."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts import ModelRegistered, RetrainingRequested
from services.kit.auth import allow
from services.kit.context import Caller, Context, current, system, use
from services.kit.db import Database
from services.kit.errors import Conflict, NotFound, NotYet, Unavailable
from services.kit.ids import now, uuid7
from services.kit.telemetry import get_logger

from . import store
from .domain import Job, Kind, Replayed, Reproduced, Retrained, Verdict
from .workshop import Workshop

log = get_logger(__name__)


@dataclass(frozen=True)
class Wish:
    """Whose recorded decisions behind an endpoint which version shall be held against."""

    endpoint: str
    model: str
    version: int
    of: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    against: int | None = None


class Retrainer:
    """Durable jobs: a request is a row, and a row ends in exactly one event, whatever dies in between."""

    def __init__(self, db: Database, workshop: Workshop, *, clock: Callable[[], datetime] = now) -> None:
        self._db = db
        self._workshop = workshop
        self._now = clock
        self.asked: Callable[[], None] = lambda: None
        """Called when there may be work."""

    # What is heard

    async def learn_version(self, event: ModelRegistered) -> None:
        """A version may be retrained or reproduced from now on."""
        async with self._db.transaction() as tx:
            await store.save_version(tx.session, event)

    async def take_request(self, event: RetrainingRequested) -> None:
        """Queue a retraining. Raises NotYet for a version that has not arrived."""
        async with self._db.transaction() as tx:
            try:
                model = await store.version(tx.session, event.model, event.version)
            except NotFound as unknown:
                raise NotYet(unknown.message) from None
            job = self._job(
                event.retraining_id,
                "retraining",
                model,
                event.requested_by,
                event.endpoint,
                event.use_case,
                event.since,
            )
            await store.add(tx.session, job)
            tx.then.append(self.asked)

    # What is asked

    async def reproduce(self, caller: Caller, model: str, version: int) -> Job:
        """Queue a reproduction. Raises NotFound, Conflict for a version that was not made here."""
        async with self._db.transaction() as tx:
            made = await store.version(tx.session, model, version)
            allow(caller, "retraining.request", made.unit)
            if made.training.retraining_id is None or made.training.data_digest is None:
                raise Conflict(f"version {version} of {model} came from outside: its rows are not recorded here")
            job = self._job(uuid7(), "reproduction", made, caller.actor)
            await store.add(tx.session, job)
            tx.record("reproduction.requested", model, unit=made.unit, version=version, reproduction_id=str(job.id))
            tx.then.append(self.asked)
        return job

    async def replay(self, caller: Caller, wish: Wish) -> Job:
        """Queue a replay of recorded decisions with another version. Raises NotFound, Forbidden."""
        async with self._db.transaction() as tx:
            challenger = await store.version(tx.session, wish.model, wish.version)
            allow(caller, "retraining.request", challenger.unit)
            told = {"of": wish.of or wish.model, "until": wish.until.isoformat() if wish.until else None,
                    "against": wish.against}  # fmt: skip
            job = self._job(uuid7(), "replay", challenger, caller.actor, wish.endpoint, since=wish.since)
            job = replace(job, wish=told)
            await store.add(tx.session, job)
            tx.record("replay.requested", wish.endpoint, unit=challenger.unit, model=wish.model, version=wish.version,
                      replay_id=str(job.id))  # fmt: skip
            tx.then.append(self.asked)
        return job

    async def job(self, id: UUID, kind: Kind) -> Job:
        """One job, where the caller may see it. Raises NotFound."""
        async with self._db.reading() as session:
            return await store.get(session, id, kind)

    async def jobs(
        self, kind: Kind, about: Mapping[str, str | None], before: tuple[datetime, UUID] | None, limit: int
    ) -> list[Job]:
        """Jobs that fit, the newest first."""
        async with self._db.reading() as session:
            return await store.page(session, kind, about, before, limit)

    # What is done

    async def work(self) -> bool:
        """Do the job that waits longest; answers whether there was one. Raises Unavailable when a part is away."""
        with use(Context(system("retrainer"))):
            async with self._db.reading() as session:
                if not await store.is_work(session):
                    return False
        async with store.turn(self._db) as mine:
            if not mine:
                return False
            with use(Context(system("retrainer"))):
                async with self._db.transaction() as tx:
                    job = await store.claim(tx.session, self._now())
            if job is None:
                return False
            with use(Context(system("retrainer", job.unit), job.correlation_id, job.traceparent)):
                await self._do(job)
        return True

    async def _do(self, job: Job) -> None:
        log.info("a job starts", job=str(job.id), kind=job.kind, model=job.model, attempt=job.attempt)
        async with self._db.reading() as session:
            model = await store.version(session, job.model, job.version)
        try:
            if job.kind == "retraining":
                await self._end_retraining(job, await self._retrained(job, model))
            elif job.kind == "reproduction":
                await self._end_reproduction(job, await self._reproduced(job, model))
            else:
                await self._end_replay(job, await self._replayed(job, model))
        except Unavailable as away:
            await self._put_back(job, f"waits: {away.message}")
            raise
        except asyncio.CancelledError:
            # A restart of the service says nothing against the job.
            await self._put_back(job, "waits: the service was stopped")
            raise

    async def _put_back(self, job: Job, reason: str) -> None:
        async with self._db.transaction() as tx:
            await store.put_back(tx.session, job, reason)

    async def _retrained(self, job: Job, model: ModelRegistered) -> Retrained:
        return Retrained(Verdict("failed", _killed(job))) if job.kills else await self._workshop.retrain(job, model)

    async def _reproduced(self, job: Job, model: ModelRegistered) -> Reproduced:
        if job.kills:
            return Reproduced("failed", _killed(job), {}, model.training.metrics, {})
        return await self._workshop.reproduce(model)

    async def _replayed(self, job: Job, model: ModelRegistered) -> Replayed:
        return Replayed("failed", _killed(job)) if job.kills else await self._workshop.replay(job, model)

    async def _end_replay(self, job: Job, end: Replayed) -> None:
        async with self._db.transaction() as tx:
            if await store.end(tx.session, job, end.state, end.reason, asdict(end), self._now()):
                tx.record("replay.completed", job.endpoint or job.model, model=job.model, version=job.version,
                          replay_id=str(job.id), outcome=end.state, reason=end.reason)  # fmt: skip

    async def _end_retraining(self, job: Job, end: Retrained) -> None:
        verdict = end.verdict
        async with self._db.transaction() as tx:
            if await store.end(tx.session, job, verdict.outcome, verdict.reason, _result(end), self._now()):
                tx.emit(end.fact(job), detail={"outcome": verdict.outcome, "retraining_id": str(job.id)})
        log.info("a retraining ended", job=str(job.id), outcome=verdict.outcome, reason=verdict.reason)

    async def _end_reproduction(self, job: Job, end: Reproduced) -> None:
        async with self._db.transaction() as tx:
            if await store.end(tx.session, job, end.state, end.reason, asdict(end), self._now()):
                tx.record("reproduction.completed", job.model, version=job.version, reproduction_id=str(job.id),
                          outcome=end.state, reason=end.reason)  # fmt: skip

    def _job(
        self,
        id: UUID,
        kind: Kind,
        model: ModelRegistered,
        requested_by: str,
        endpoint: str | None = None,
        use_case: str | None = None,
        since: datetime | None = None,
    ) -> Job:
        story = current()
        return Job(
            id=id, kind=kind, unit=model.unit, model=model.model, version=model.version, endpoint=endpoint,
            use_case=use_case, since=since, requested_by=requested_by, state="requested", reason=None, attempt=0,
            orphaned=0, correlation_id=story.correlation_id, traceparent=story.traceparent, requested_at=self._now(),
            started_at=None, ended_at=None, result={},
        )  # fmt: skip


def _killed(job: Job) -> str:
    return f"it ended the retrainer's process {job.orphaned} times and is not tried again; ask for another retraining"


def _result(end: Retrained) -> dict[str, Any]:
    return {name: value for name, value in asdict(end).items() if name != "verdict"}
