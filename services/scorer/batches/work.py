"""One job from its first chunk that is missing to its result."""

import asyncio
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from .summary import Decisions, drift

log = get_logger(__name__)

Scoring = tuple[Task, Served, "asyncio.Task[Done]"]


class Cancelled(Exception):
    """Somebody ended the job meanwhile."""


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

    async def do(self, job: Job, kept: Sequence[Chunk]) -> None:
        """Say what was kept but not said, score the rest, and put the result together."""
        served = (await self.serving.needed(job.endpoint)).choose(job.version)
        with self.serving.meter.working_for(served.counts):
            for chunk in kept:
                await self._say(job, chunk)
            await self._score_rest(job, len(kept))
            await self._finish(job)

    async def _score_rest(self, job: Job, first: int) -> None:
        """Some chunks are scored at a time; they are kept, said and counted in their order."""
        schema = (await self.serving.needed(job.endpoint)).choose(job.version).schema
        batches = Sheet(await self.inputs.open(job)).batches(schema, job.chunk_rows, first)
        scoring: deque[Scoring] = deque()
        try:
            while True:
                while len(scoring) <= self.executor.width and (task := await asyncio.to_thread(_next, job, batches)):
                    scoring.append(await self._begin(task))
                if not scoring:
                    return
                task, served, running = scoring[0]
                chunk = await self._keep(job, task, served, await running)
                scoring.popleft()
                await self._say(job, chunk)
                self.progress.beat("batches")
        finally:
            await _cancel([running for _, _, running in scoring])

    async def _begin(self, task: Task) -> Scoring:
        endpoint = await self.serving.needed(task.job.endpoint)
        served = endpoint.choose(task.job.version)
        if missing := needed(served.schema).keys() - optional(served.schema) - set(task.rows.schema.names):
            raise NotFound(f"a new version of the endpoint takes other columns: {', '.join(sorted(missing))[:200]}")
        return task, served, asyncio.create_task(self.executor.score(task, endpoint))

    async def _keep(self, job: Job, task: Task, served: Served, done: Done) -> Chunk:
        result = await self.objects.put(done.result)
        for each in done.referred:
            await self.objects.put(each)
        record = await self.objects.put(done.record) if done.record else None
        chunk = Chunk(task.number, done.rows, done.failed, result, record)
        async with self.db.transaction(unit=job.unit) as tx:
            if not await store.goes_on(tx.session, job.id):
                raise Cancelled
            await store.add_chunk(tx.session, job, chunk)
        self.serving.meter.hear(done.process, done.told)
        _count(served, done)
        return chunk

    async def _say(self, job: Job, chunk: Chunk) -> None:
        if chunk.logged:
            return
        if chunk.record_digest:
            record = LogRecord.from_spool(await self.objects.get(chunk.record_digest))
            value = record.value(job.writer, chunk.number + 1)
            key, headers = record.inference_id.encode(), self.headers.headers(record)
            await self.producer.send_all([(InferenceLogged.topic.name, key, value, headers)])
        async with self.db.transaction(unit=job.unit) as tx:
            await store.mark_logged(tx.session, job, chunk)

    async def _finish(self, job: Job) -> None:
        async with self.db.reading() as session:
            kept = await store.chunks(session, job.id)
        decisions = Decisions()
        with tempfile.TemporaryDirectory(prefix="fairlead-batch-") as folder:
            path = await self._collect(kept, Path(folder) / "result.parquet", decisions)
            digest = await self.objects.put_file(path)
            await self.places.write(job, path)
        summary = orjson.dumps(await self._summary(job, kept, decisions)).decode()
        async with self.db.transaction(unit=job.unit) as tx:
            is_done = await store.change(
                tx.session, job.id, state="done", result_digest=digest, finished_at=now(), summary=summary
            )  # fmt: skip
            if not is_done:
                raise Cancelled
            tx.record("batch.done", f"{job.endpoint}/{job.id}", rows=job.rows_total, result=digest)
        self.inputs.forget(job)
        log.info("a batch is done", batch=str(job.id), rows=job.rows_total)

    async def _summary(self, job: Job, kept: Sequence[Chunk], decisions: Decisions) -> dict[str, Any]:
        refused = sum(chunk.failed for chunk in kept)
        said: dict[str, Any] = {"rows": job.rows_total, "refused": refused, "decisions": decisions.said()}
        return said | {"drift": await self._drift(job)}

    async def _drift(self, job: Job) -> dict[str, Any] | None:
        """None where the version has no baseline, or none that can be read."""
        served = (await self.serving.needed(job.endpoint)).choose(job.version)
        if served.variant.baseline_digest is None:
            return None
        try:
            profile = Profile.model_validate_json(await self.objects.get(served.variant.baseline_digest))
        except (NotFound, Invalid, ValidationError) as error:
            log.error("a baseline cannot be read", endpoint=job.endpoint, reason=str(error)[:300])
            return None
        sheet = Sheet(await self.inputs.open(job))
        found = await asyncio.to_thread(drift, profile, served.schema, sheet)
        return {"version": served.origin.version} | found

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


def _count(served: Served, done: Done) -> None:
    """What no row came out of is not counted: there is no inference."""
    if done.record is None:
        return
    counts = served.counts
    counts.inferences += 1
    counts.rows += done.rows - done.failed
    counts.seconds += done.seconds
    counts.bytes_in += done.bytes_in
    counts.bytes_out += len(done.result)


def _next(job: Job, batches: Iterator[tuple[int, pa.RecordBatch]]) -> Task | None:
    found = next(batches, None)
    return None if found is None else Task(job, found[0], found[1])


async def _cancel(running: Sequence["asyncio.Task[Done]"]) -> None:
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)
