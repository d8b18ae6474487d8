"""What callers can do with batches: hand a file in, look how far it is, take the result."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir
from uuid import UUID

from contracts import ModelSchema
from services.kit.alerts import raise_alert
from services.kit.context import Caller, current
from services.kit.db import Database
from services.kit.errors import Altered, Conflict, Invalid, NotFound
from services.kit.ids import now, uuid7
from services.kit.objects import Objects

from ..endpoints import Endpoint
from ..served import Served
from . import store
from .domain import Job, chunk_rows
from .formats import ResultFormat, pieces
from .inputs import Inputs
from .places import Output, Place, Places
from .schedules import store as schedules
from .schedules.domain import Due, Schedule
from .sheet import Sheet, needed, to_parquet

LARGEST_BYTES = 1024**3
"""Of a file."""
Find = Callable[[str, Caller], Awaitable[Endpoint]]


class Batches:
    """Jobs are rows in PostgreSQL; the process `services.scorer.batches` does them."""

    def __init__(
        self, db: Database, objects: Objects, inputs: Inputs, find: Find, places: Places, chunk_rows: int | None = None
    ) -> None:
        self._db = db
        self._objects = objects
        self._inputs = inputs
        self._find = find
        self._places = places
        self._chunk_rows = chunk_rows

    async def submit(
        self, caller: Caller, endpoint: str, upload: Path, file_name: str, media_type: str,
        output: Output | None = None, version: int | None = None,
    ) -> Job:  # fmt: skip
        """Check the file, keep it, and put the job in line. Raises Invalid naming what is wrong, or NotFound."""
        found = await self._find(endpoint, caller)
        job = await self._job(found, version, caller.actor, upload, file_name, media_type, output)
        with self._swept_unless_added(job):
            async with self._db.transaction(unit=found.unit) as tx:
                await store.add(tx.session, job)
                tx.record("batch.submitted", f"{endpoint}/{job.id}", rows=job.rows_total, file=job.file_name)
        return job

    def room(self) -> AbstractContextManager[Path]:
        """A private folder for a file that is being taken in."""
        return self._inputs.room()

    @contextmanager
    def _swept_unless_added(self, job: Job) -> Iterator[None]:
        """Whether it was is known for sure only later: an answer to a commit may be lost."""
        try:
            yield
        except BaseException:
            self._inputs.failed(job.id)
            raise

    async def endpoint_of(self, schedule: Schedule) -> Endpoint:
        """Where a schedule's files are scored. Raises NotFound, Invalid for a version that may not serve there, and
        Unavailable where it may be had later."""
        caller = Caller(schedule.application, "application", frozenset({"application"}), frozenset({schedule.unit}))
        found = await self._find(schedule.endpoint, caller)
        named(found, schedule.order.version)
        return found

    async def of_schedule(self, due: Due, upload: Path) -> None:
        """As `submit`, of a file that was due; nothing where somebody else did it, or the schedule is gone."""
        schedule, name = due.schedule, due.place.path.rpartition("/")[2]
        found, order = await self.endpoint_of(schedule), schedule.order
        made = await self._job(found, order.version, schedule.application, upload, name, "", order.output)
        job = replace(made, schedule=schedule.id)
        with self._swept_unless_added(job):
            async with self._db.transaction(unit=found.unit) as tx:
                if ours := await schedules.claim(tx.session, due, job.id, None, now()):
                    await store.add(tx.session, job)
                    tx.record(
                        "batch.submitted", f"{schedule.endpoint}/{job.id}", rows=job.rows_total, file=job.file_name,
                        schedule=str(schedule.id), key=due.key,
                    )  # fmt: skip
            if not ours:
                self._inputs.forget(job.id)

    async def _job(
        self, found: Endpoint, version: int | None, application: str, upload: Path, file_name: str, media_type: str,
        output: Output | None,
    ) -> Job:  # fmt: skip
        served, context = named(found, version), current()
        schema = served.schema
        if output:
            self._places.check(output, found.unit, "output")
        path = await to_parquet(upload, file_name, media_type, schema)
        rows = await asyncio.to_thread(_examine, path, schema)
        each, id = self._chunk_rows or chunk_rows(served.variant.format, len(needed(schema))), uuid7()
        digest = await self._inputs.keep(id, path, private=served.codec.sensitive)
        return Job(
            id=id, unit=found.unit, endpoint=found.name, application=application, state="queued", input_digest=digest,
            file_name="".join(filter(str.isprintable, file_name))[:200], rows_total=rows, rows_done=0,
            rows_failed=0, chunk_rows=each, result_digest=None, reason=None, correlation_id=context.correlation_id,
            traceparent=context.traceparent, created_at=now(), output=output.model_dump_json() if output else None,
            version=version, host=None if digest else self._inputs.host,
        )  # fmt: skip

    async def take(
        self, caller: Caller, endpoint: str, source: Place, output: Output | None, to: Path, most: int,
        version: int | None = None,
    ) -> Job:  # fmt: skip
        """As `submit`, of a file of an approved object store; at most so many bytes. Raises Unavailable too."""
        found = await self._find(endpoint, caller)
        named(found, version)  # before a large file is fetched for nothing
        await self._places.take(source, found.unit, to, most)
        return await self.submit(caller, endpoint, to, source.path.rpartition("/")[2], "", output, version)

    async def show(self, id: UUID) -> Job:
        """A job of the caller's units. Raises NotFound."""
        async with self._db.reading() as session:
            return await store.get(session, id)

    async def cancel(self, id: UUID, caller: Caller) -> Job:
        """Score no more of a job; what was decided stays. Raises NotFound, or Conflict where it is at its end."""
        async with self._db.reading() as session:
            job = await store.get(session, id)
        reason = f"cancelled by {caller.actor}"
        async with self._db.transaction(unit=job.unit) as tx:
            if await store.change(tx.session, id, state="cancelled", reason=reason, finished_at=now()):
                tx.record("batch.cancelled", f"{job.endpoint}/{id}", rows_done=job.rows_done)
            cancelled = await store.get(tx.session, id)
        if cancelled.state != "cancelled":
            raise Conflict(f"batch {id} is {cancelled.state}")
        self._inputs.forget(id)
        return cancelled

    async def latest(self, endpoint: str | None, limit: int, before: UUID | None) -> list[Job]:
        """The caller's jobs, newest first; `before` is the last one seen."""
        async with self._db.reading() as session:
            return await store.latest(session, endpoint, limit, before)

    async def result(self, id: UUID, format: ResultFormat = "parquet") -> tuple[str, AsyncIterator[bytes]]:
        """The digest of the result file and its rows as wanted, all of the file checked. Raises Conflict while there is
        none, and Altered, of which an alert tells too."""
        job = await self.show(id)
        if job.result_digest is None:
            raise Conflict(f"batch {id} is {job.state}: {job.reason or f'{job.rows_done} of {job.rows_total} rows'}")
        try:
            if format == "parquet":
                return job.result_digest, await self._objects.stream_checked(job.result_digest, Path(gettempdir()))
            copy = await self._objects.fetch(job.result_digest, Path(gettempdir()) / f"fairlead-result-{uuid7()}")
            return job.result_digest, _converted(copy, format)
        except Altered as reason:
            await self._tell_altered(job, reason.message)
            raise

    async def _tell_altered(self, job: Job, reason: str) -> None:
        async with self._db.transaction(unit=job.unit) as tx:
            tx.record("batch.altered", f"{job.endpoint}/{job.id}", digest=job.result_digest)
            raise_alert(
                tx, "result-altered", f"{job.endpoint}/{job.id}", "critical",
                f"the stored result of a batch of {job.endpoint} was altered", reason,
                "It is not handed out. Find out who wrote to the object store, and put the object back from a backup,"
                " or hand the file in again: the inferences themselves are in the log.",
                unit=job.unit,
            )  # fmt: skip


def named(endpoint: Endpoint, version: int | None) -> Served:
    """The version that a batch asks for, else the champion. Raises Invalid for one that may not serve there, and
    Unavailable for one that is not loaded."""
    try:
        return endpoint.choose(version)
    except NotFound as error:
        raise Invalid(f"version: {error.message}", "version") from None


def _examine(path: Path, schema: ModelSchema) -> int:
    sheet = Sheet(path)
    sheet.check(schema)
    return sheet.rows


async def _converted(copy: Path, format: ResultFormat) -> AsyncIterator[bytes]:
    parts = pieces(copy, format)
    try:
        while (piece := await asyncio.to_thread(next, parts, None)) is not None:
            yield piece
    finally:
        await asyncio.to_thread(copy.unlink)
