"""One chunk through the model, to bytes that are kept: the same code in this process, in a pool of them, and on Ray."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa

from services.kit.ids import now
from services.kit.signing import digest_of

from ..logrecord import LogRecord, offload, reference
from ..metering import Told
from ..served import Served
from .domain import Job, Scored, result_table
from .results import part
from .scoring import encode, score
from .sheet import Columns, columns_of, is_as_in_file, needed, parquet, refused_of

PARQUET = "application/vnd.apache.parquet"
_INLINE_VALUES = 16_384
"""A chunk of fewer values is written into its log record; of more, the record refers to the files: JSON costs more than
many a model."""


@dataclass(frozen=True)
class Task:
    """Rows of a job that are one inference."""

    job: Job
    number: int
    rows: pa.RecordBatch
    """The columns that the model takes, as they are in the file."""


@dataclass
class Done:
    """What became of a task: bytes to keep, and what to count."""

    version: int
    rows: int
    failed: int
    result: bytes
    """Its part of the result, as Parquet."""
    record: bytes | None = None
    """Its log record, as `LogRecord.from_spool` reads it; None where no row could be scored."""
    referred: list[bytes] = field(default_factory=list[bytes])
    """What the record refers to besides; kept before the record."""
    seconds: float = 0.0
    bytes_in: int = 0
    process: str = ""
    """The other process that scored it; empty for this one."""
    told: list[Told] = field(default_factory=list[Told])
    """What that process used since it told so last."""


class _Kept:
    """Collects what a record refers to."""

    def __init__(self) -> None:
        self.objects: list[bytes] = []

    async def put(self, data: bytes) -> str:
        self.objects.append(data)
        return digest_of(data)


async def score_chunk(task: Task, served: Served) -> Done:
    """Raises Unavailable where the model is away or busy for long, and Invalid where the columns cannot be read."""
    received, started = now(), time.perf_counter()
    columns = await asyncio.to_thread(columns_of, task.rows, needed(served.schema), task.number * task.job.chunk_rows)
    scored = await score(columns, served, refused_of(task.rows))
    done = await asyncio.to_thread(_written, task, columns, scored, served)
    if len(scored.good):
        ended = time.perf_counter()
        record = await asyncio.to_thread(_record, task, columns, scored, served, done, received, ended - started)
        kept = _Kept()
        done.record = (await offload(record, kept)).to_spool()
        done.referred += kept.objects
        done.seconds = ended - started
    done.bytes_in = sum(values.nbytes for values in columns.values())
    return done


def _written(task: Task, columns: Columns, scored: Scored, served: Served) -> Done:
    rows, version, job = len(next(iter(columns.values()))), served.origin.version, task.job
    first, id = task.number * job.chunk_rows, job.inference_id(task.number)
    table = result_table(served.schema, scored, rows, first, id, version)
    return Done(version, rows, rows - len(scored.good), part(table))


def _record(
    task: Task, columns: Columns, scored: Scored, served: Served, done: Done, received: datetime, took_s: float
) -> LogRecord:
    job, id = task.job, task.job.inference_id(task.number)
    request, response = _payloads(task, columns, scored, served, done, id)
    return served.records.record(
        inference_id=id, mode="batch", application=job.application, received_at=received, latency_ms=took_s * 1000,
        rows=len(scored.good), request=request, response=response,
        correlation_id=job.correlation_id, traceparent=job.traceparent,
    )  # fmt: skip


def _payloads(task: Task, columns: Columns, scored: Scored, served: Served, done: Done, id: str) -> tuple[bytes, bytes]:
    """Request and response of the log: as they are, or where they can be read."""
    job, good = task.job, len(scored.good)
    if not job.input_digest or good * len(columns) <= _INLINE_VALUES:
        # Sensitive columns are always written, as tokens: nothing may refer to their file.
        return encode(columns, scored, served, id)
    if good == done.rows and is_as_in_file(task.rows):
        request = reference(job.input_digest, PARQUET, task.number * job.chunk_rows, good)
        return request, reference(digest_of(done.result), PARQUET, 0, good)
    taken = pa.array(scored.good)
    asked = parquet(pa.Table.from_batches([task.rows]).select(list(columns)).take(taken))
    said = part(result_table(served.schema, _only_good(scored), good, 0, id, done.version))
    done.referred += [asked, said]
    return reference(digest_of(asked), PARQUET, 0, good), reference(digest_of(said), PARQUET, 0, good)


def _only_good(scored: Scored) -> Scored:
    return Scored(scored.outputs, np.arange(len(scored.good)), {})
