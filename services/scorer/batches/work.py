"""One job from its first chunk that is missing to its result."""

import asyncio
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from contracts import InferenceLogged, Profile
from services.kit.db import Database
from services.kit.errors import Invalid, NotFound
from services.kit.health import Progress
from services.kit.ids import now
from services.kit.objects import Objects
from services.kit.producer import Producer
from services.kit.telemetry import get_logger

from ..logrecord import HeaderMaker, LogRecord
from ..served import Served
from . import store
from .chunks import Done, Task
from .domain import Chunk, Job
from .executors import Executor
from .inputs import Inputs
from .places import Places
from .results import ResultFile, unified
from .serving import Serving
from .sheet import Sheet, needed, optional
from .summary import Comparison, Decisions

log = get_logger(__name__)

Scoring = tuple[Task, Served, "asyncio.Task[Done]"]
Record = bytes | None
"""A chunk's log record; None where no row could be scored."""


class Cancelled(Exception):
    """Somebody ended the job meanwhile."""


class GaveWay(Exception):
    """Others wait: the job goes on from its last kept chunk when it is its turn again."""


@dataclass
class Turn:
    """How long a job is worked on while others wait, from its first chunk on: to come as far as that, its file is read
    again."""

    seconds: float
    other_waits: Callable[[UUID], Awaitable[bool]]
    """Whether another job than this could be worked on here."""
    _until: float = inf

    def begin(self) -> None:
        """Something is scored."""
        self._until = min(self._until, time.monotonic() + self.seconds)

    async def is_over(self, job: Job) -> bool:
        """Never while no other waits."""
        if time.monotonic() < self._until:
            return False
        self._until = time.monotonic() + self.seconds
        return await self.other_waits(job.id)


@dataclass
class Work:
    """What a job is done with."""

    db: Database
    objects: Objects
    inputs: Inputs
    serving: Serving
    executor: Executor
    progress: Progress
    producer: Producer
    headers: HeaderMaker
    places: Places
    turn: Turn

    async def do(self, job: Job, kept: Sequence[Chunk]) -> None:
        """Say what was kept but not said, score the rest, and put the result together. Raises GaveWay."""
        served = (await self.serving.needed(job.endpoint)).choose(job.version)
        with self.serving.meter.working_for(served.counts):
            for chunk in kept:
                if not chunk.logged:
                    await self._say(job, chunk, await self._record(chunk))
            compared = await self._comparison(job, served)
            batches = Sheet(await self.inputs.open(job)).batches(served.schema, job.chunk_rows)
            await self._score_rest(job, kept, _tasks(job, batches, len(kept), compared))
            await self._finish(job, compared)

    async def _score_rest(self, job: Job, kept: Sequence[Chunk], tasks: Iterator[Task]) -> None:
        """Some chunks are scored at a time; they are kept, said and counted in their order: what is said is counted
        where the next is kept, as a transaction costs as much as the rows of some."""
        scoring: deque[Scoring] = deque()
        over = False
        said: list[Chunk] = [chunk for chunk in kept if not chunk.logged]
        try:
            while True:
                while not over and len(scoring) <= self.executor.width and (task := await _next(tasks)):
                    scoring.append(await self._begin(task))
                if not scoring:
                    if over and await _next(tasks):  # what was in hand is kept
                        raise GaveWay
                    return await self._count(job, said)
                task, served, running = scoring[0]
                done = await running
                chunk = await self._keep(job, task, done, said)
                self._meter(served, done)
                scoring.popleft()
                await self._say(job, chunk, done.record)
                said = [chunk]
                self.progress.beat("batches")
                over = over or await self.turn.is_over(job)
        except Exception:  # whatever ends the job: what is in the log counts
            await self._count(job, said)
            raise
        finally:
            await _cancel([running for _, _, running in scoring])

    async def _begin(self, task: Task) -> Scoring:
        endpoint = await self.serving.needed(task.job.endpoint)
        served = endpoint.choose(task.job.version)
        if missing := needed(served.schema).keys() - optional(served.schema) - set(task.rows.schema.names):
            raise NotFound(f"a new version of the endpoint takes other columns: {', '.join(sorted(missing))[:200]}")
        self.turn.begin()
        return task, served, asyncio.create_task(self.executor.score(task, endpoint))

    async def _keep(self, job: Job, task: Task, done: Done, said: Sequence[Chunk]) -> Chunk:
        result = await self.objects.put(done.result)
        for each in done.referred:
            await self.objects.put(each)
        record = await self.objects.put(done.record) if done.record else None
        chunk = Chunk(task.number, done.rows, done.failed, result, record)
        async with self.db.transaction(unit=job.unit) as tx:
            for each in said:  # of a job that was cancelled, too
                await store.mark_logged(tx.session, job, each)
            if goes_on := await store.goes_on(tx.session, job.id):
                await store.add_chunk(tx.session, job, chunk)
        if not goes_on:
            raise Cancelled
        return chunk

    async def _record(self, chunk: Chunk) -> Record:
        return await self.objects.get(chunk.record_digest) if chunk.record_digest else None

    async def _say(self, job: Job, chunk: Chunk, kept: Record) -> None:
        if kept is None:
            return
        record = LogRecord.from_spool(kept)
        value = record.value(job.writer, chunk.number + 1)
        key, headers = record.inference_id.encode(), self.headers.headers(record)
        await self.producer.send_all([(InferenceLogged.topic.name, key, value, headers)])

    async def _count(self, job: Job, said: Sequence[Chunk]) -> None:
        async with self.db.transaction(unit=job.unit) as tx:
            for chunk in said:
                await store.mark_logged(tx.session, job, chunk)

    def _meter(self, served: Served, done: Done) -> None:
        """What no row came out of is not counted: there is no inference."""
        self.serving.meter.hear(done.process, done.told)
        if done.record is None:
            return
        counts = served.counts
        counts.inferences += 1
        counts.rows += done.rows - done.failed
        counts.seconds += done.seconds
        counts.bytes_in += done.bytes_in
        counts.bytes_out += len(done.result)

    async def _finish(self, job: Job, compared: Comparison | None) -> None:
        async with self.db.reading() as session:
            kept = await store.chunks(session, job.id)
        decisions = Decisions()
        with tempfile.TemporaryDirectory(prefix="fairlead-batch-") as folder:
            path = await self._collect(kept, Path(folder) / "result.parquet", decisions)
            digest = await self.objects.put_file(path)
            await self.places.write(job, path)
        summary = orjson.dumps(_summary(job, kept, decisions, compared)).decode()
        async with self.db.transaction(unit=job.unit) as tx:
            is_done = await store.change(
                tx.session, job.id, state="done", result_digest=digest, finished_at=now(), summary=summary
            )  # fmt: skip
            if not is_done:
                raise Cancelled
            tx.record("batch.done", f"{job.endpoint}/{job.id}", rows=job.rows_total, result=digest)
        self.inputs.forget(job.id)
        log.info("a batch is done", batch=str(job.id), rows=job.rows_total)

    async def _comparison(self, job: Job, served: Served) -> Comparison | None:
        """None where the version has no baseline, or none that can be read."""
        if served.variant.baseline_digest is None:
            return None
        try:
            profile = Profile.model_validate_json(await self.objects.get(served.variant.baseline_digest))
        except (NotFound, Invalid, ValidationError) as error:
            log.error("a baseline cannot be read", endpoint=job.endpoint, reason=str(error)[:300])
            return None
        return Comparison(served.origin.version, profile, served.schema, job.rows_total)

    async def _collect(self, kept: Sequence[Chunk], path: Path, decisions: Decisions) -> Path:
        """The parts twice: once for what types they have, once to be written, a few of them in memory."""
        schemas: set[pa.Schema] = set()
        for chunk in kept:
            schemas.add(pq.read_schema(pa.BufferReader(await self.objects.get(chunk.result_digest))))
            self.progress.beat("batches")
        with ResultFile(path, unified(schemas)) as file:
            for chunk in kept:
                part = await asyncio.to_thread(file.add, await self.objects.get(chunk.result_digest))
                await asyncio.to_thread(decisions.add, part)
                self.progress.beat("batches")
        return path


def _summary(job: Job, kept: Sequence[Chunk], decisions: Decisions, compared: Comparison | None) -> dict[str, Any]:
    refused = sum(chunk.failed for chunk in kept)
    said: dict[str, Any] = {"rows": job.rows_total, "refused": refused, "decisions": decisions.said()}
    return said | {"drift": compared and compared.said()}


def _tasks(
    job: Job, batches: Iterator[tuple[int, pa.RecordBatch]], first: int, compared: Comparison | None
) -> Iterator[Task]:
    """The chunks from `first` on. All of the file is read, so that all of it is compared with the baseline, once."""
    for number, batch in batches:
        if compared:
            compared.add(batch)
        if number >= first:
            yield Task(job, number, batch)


async def _next(tasks: Iterator[Task]) -> Task | None:
    return await asyncio.to_thread(next, tasks, None)


async def _cancel(running: Sequence["asyncio.Task[Done]"]) -> None:
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)
