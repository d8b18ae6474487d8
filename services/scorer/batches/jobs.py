"""Does the batches that wait: each chunk is scored, kept, logged and counted, in an order that survives kills.

A chunk's result and log record are kept before the record is said, and counted only after it is in Kafka. After a
kill a chunk that was kept is never scored again; a record that may have been said is said again under the same id,
writer and number, which readers know for a repeat.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from contracts import InferenceLogged
from services.kit.away import is_away
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.errors import Busy, Invalid, NotFound, Unavailable
from services.kit.health import Progress
from services.kit.ids import now
from services.kit.objects import Objects
from services.kit.producer import Producer
from services.kit.settings import Settings
from services.kit.telemetry import get_logger

from ..dataplane import Endpoint, Served
from ..logrecord import INLINE_LIMIT, HeaderMaker, LogRecord, offload, reference
from . import store
from .domain import Chunk, Job, Scored, result_table
from .inputs import Inputs
from .results import ResultFile, unified
from .scoring import encode, score
from .serving import Serving
from .sheet import Columns, Sheet, needed

log = get_logger(__name__)

_PARQUET = "application/vnd.apache.parquet"
_LOOK_S = 1.0
_IDLE_S = 2.0
"""How soon a job is seen that another host took in; one of this process is seen at once."""
_PATIENCE = timedelta(minutes=10)
"""How long a job waits for an endpoint, from the moment that it first could not have it."""
_MODEL_PATIENCE_S = 30.0
"""How long a job waits for its model, before others get their turn."""
_STRIKES = 3
"""Attempts that a job gets after errors that nobody foresaw; the others go on meanwhile."""


class Runner:
    """One job at a time in this process; an advisory lock keeps a second process off it."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        objects: Objects,
        inputs: Inputs,
        serving: Serving,
        progress: Progress,
    ) -> None:
        self._settings = settings
        self._db = db
        self._objects = objects
        self._inputs = inputs
        self._serving = serving
        self._progress = progress
        self._headers = HeaderMaker()
        self._strikes: dict[UUID, int] = {}
        self._missed: dict[UUID, datetime] = {}
        self._line: list[UUID] = []
        self._waiting_for = ""
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
                if not worked:
                    self._serving.rest()
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
            self._line = await store.waiting(session)
        worked, self._waiting_for = False, ""
        for id in self._line:
            async with store.held(self._db, id) as ours:
                worked |= ours and await self._try(id, producer)
        return worked

    async def _try(self, id: UUID, producer: Producer) -> bool:
        try:
            return await self._work(id, producer)
        except Unavailable as error:
            self._waiting_for = f"batch {id}: {error.message}"
            return False
        except Exception as error:  # whatever it is, it is told apart here
            if is_away(error):
                raise
            log.exception("a batch failed in a way that nobody foresaw", batch=str(id))
            return await self._strike(id, error)

    async def _strike(self, id: UUID, error: Exception) -> bool:
        """Try again, but not for ever: whatever it is, it is this job's."""
        self._strikes[id] = self._strikes.get(id, 0) + 1
        if self._strikes[id] < _STRIKES:
            return False
        del self._strikes[id]
        async with self._db.reading() as session:
            job = await store.get(session, id)
        await self._fail(job, f"it failed {_STRIKES} times with {type(error).__name__}; the scorer's log says more")
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
                await self._change(job, state="running", reason=None)
                for chunk in kept:
                    await self._say(job, chunk, producer)
                await self._score_rest(job, len(kept), producer)
                await self._finish(job)
            except (NotFound, Invalid, FileNotFoundError) as error:
                await self._fail(job, str(error))
        return True

    async def _without_endpoint(self, job: Job) -> bool:
        """Its endpoint is not (or no longer) served here: wait for it, but not for ever."""
        if now() - self._missed.setdefault(job.id, now()) > _PATIENCE:
            del self._missed[job.id]
            await self._fail(job, self._serving.why_not(job.endpoint))
        return False

    async def _score_rest(self, job: Job, first: int, producer: Producer) -> None:
        schema = (await self._serving.needed(job.endpoint)).champion.schema
        chunks = Sheet(await self._inputs.open(job)).chunks(schema, job.chunk_rows, first)
        while (found := await asyncio.to_thread(_next, chunks)) is not None:
            number, columns = found
            endpoint = await self._serving.needed(job.endpoint)
            if missing := needed(endpoint.champion.schema).keys() - columns.keys():
                raise NotFound(f"a new version of the endpoint takes other columns: {', '.join(sorted(missing))[:200]}")
            chunk = await self._score(job, number, columns, endpoint)
            async with self._db.transaction(unit=job.unit) as tx:
                await store.add_chunk(tx.session, job, chunk)
            await self._say(job, chunk, producer)
            self._progress.beat("batches")

    async def _score(self, job: Job, number: int, columns: Columns, endpoint: Endpoint) -> Chunk:
        received, started = now(), time.perf_counter()
        rows = len(next(iter(columns.values())))
        served = endpoint.champion
        scored = await _patiently(columns, served)
        version, id = served.origin.version, job.inference_id(number)
        table = result_table(served.schema, scored, rows, number * job.chunk_rows, id, version)
        written = await asyncio.to_thread(_parquet, table)
        result = await self._objects.put(written)
        record = None
        if len(scored.good):
            ended = time.perf_counter()
            took = (ended - started) * 1000
            request, response = self._payloads(job, number, columns, scored, served, result, rows, id)
            said = served.records.record(
                inference_id=id, mode="batch", application=job.application, received_at=received, latency_ms=took,
                rows=len(scored.good), request=request, response=response,
                correlation_id=job.correlation_id, traceparent=job.traceparent,
            )  # fmt: skip
            record = await self._objects.put((await offload(said, self._objects)).to_spool())
            served.counts.inferences += 1
            served.counts.rows += len(scored.good)
            served.counts.seconds += ended - started
            served.counts.bytes_in += sum(values.nbytes for values in columns.values())
            served.counts.bytes_out += len(written)
        return Chunk(number, rows, rows - len(scored.good), result, record)

    def _payloads(
        self, job: Job, number: int, columns: Columns, scored: Scored, served: Served, result: str, rows: int, id: str
    ) -> tuple[bytes, bytes]:
        """Request and response of the log: as they are, or where they can be read."""
        request, response = encode(columns, scored, served, id)
        if len(request) + len(response) > INLINE_LIMIT and job.input_digest and len(scored.good) == rows:
            request = reference(job.input_digest, _PARQUET, number * job.chunk_rows, rows)
            response = reference(result, _PARQUET, 0, rows)
        return request, response

    async def _say(self, job: Job, chunk: Chunk, producer: Producer) -> None:
        if chunk.logged:
            return
        if chunk.record_digest:
            record = LogRecord.from_spool(await self._objects.get(chunk.record_digest))
            value = record.value(job.writer, chunk.number + 1)
            key, headers = record.inference_id.encode(), self._headers.headers(record)
            await producer.send_all([(InferenceLogged.topic.name, key, value, headers)])
        async with self._db.transaction(unit=job.unit) as tx:
            await store.mark_logged(tx.session, job, chunk)

    async def _finish(self, job: Job) -> None:
        async with self._db.reading() as session:
            kept = await store.chunks(session, job.id)
        with tempfile.TemporaryDirectory(prefix="fairlead-batch-") as folder:
            digest = await self._objects.put_file(await self._collect(kept, Path(folder) / "result.parquet"))
        async with self._db.transaction(unit=job.unit) as tx:
            await store.change(tx.session, job.id, state="done", result_digest=digest, finished_at=now())
            tx.record("batch.done", f"{job.endpoint}/{job.id}", rows=job.rows_total, result=digest)
        self._inputs.forget(job)
        log.info("a batch is done", batch=str(job.id), rows=job.rows_total)

    async def _collect(self, kept: Sequence[Chunk], path: Path) -> Path:
        """The parts twice: once for what types they have, once to be written, a few of them in memory."""
        schemas: set[pa.Schema] = set()
        for chunk in kept:
            schemas.add(pq.read_schema(pa.BufferReader(await self._objects.get(chunk.result_digest))))
            self._progress.beat("batches")
        with ResultFile(path, unified(schemas)) as file:
            for chunk in kept:
                await asyncio.to_thread(file.add, await self._objects.get(chunk.result_digest))
                self._progress.beat("batches")
        return path

    async def _fail(self, job: Job, reason: str) -> None:
        reason = reason.encode(errors="replace").decode().replace("\0", "?")  # PostgreSQL takes no other
        async with self._db.transaction(unit=job.unit) as tx:
            await store.change(tx.session, job.id, state="failed", reason=reason[:500], finished_at=now())
            tx.record("batch.failed", f"{job.endpoint}/{job.id}", reason=reason[:500])
        self._inputs.forget(job)

    async def _change(self, job: Job, **values: str | None) -> None:
        async with self._db.transaction(unit=job.unit) as tx:
            await store.change(tx.session, job.id, **values)


async def _patiently(columns: Columns, served: Served) -> Scored:
    """Scored, once the model has time: batches come after those who wait. Raises Unavailable when it has none."""
    ends = time.monotonic() + _MODEL_PATIENCE_S
    while True:
        try:
            return await score(columns, served)
        except (Busy, Unavailable) as error:
            if time.monotonic() > ends:
                raise Unavailable(f"the model does not answer: {error.message}") from None
            await asyncio.sleep(0.2)


def _next(chunks: Iterator[tuple[int, Columns]]) -> tuple[int, Columns] | None:
    return next(chunks, None)


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()
