"""Arrow IPC from strangers: read in the sandbox alone, since a reader trusts what the file says of itself."""

import asyncio
import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from services.kit.errors import Invalid, Unavailable
from services.kit.sandbox import SandboxDeadline, SandboxDied, SandboxError, SandboxUnavailable, run_sandboxed

ENTRY, PRELOAD = "services.scorer.batches.arrow:converter", ("pyarrow", "pyarrow.parquet")
FILE, STREAM = b"ARROW1", b"\xff\xff\xff\xff"
# The file is mapped: it takes address space, no memory.
_MEMORY_MB, _DISK_MB, _DEADLINE_S = 1024, 4096, 300.0


async def to_parquet(path: Path, takes: Collection[str]) -> Path:
    """The columns of an Arrow file or stream that a model takes, as Parquet. Raises Invalid, or Unavailable."""
    room = path.with_name("parquet")
    await asyncio.to_thread(room.mkdir)
    size_mb = (await asyncio.to_thread(path.stat)).st_size // 1024**2 + 1
    job = {"path": str(path), "to": str(room / "rows.parquet"), "takes": list(takes)}
    try:
        await run_sandboxed(
            ENTRY, json.dumps(job).encode(), preload=PRELOAD, readable=[path], writable=[room],
            memory_mb=_MEMORY_MB + size_mb, disk_mb=_DISK_MB, deadline_s=_DEADLINE_S, name="arrow",
        )  # fmt: skip
    except SandboxUnavailable as error:
        raise Unavailable(str(error)) from None
    except (SandboxDeadline, SandboxDied):
        raise Invalid("the file is not readable Arrow: reading it takes more than a batch may take", "file") from None
    except SandboxError as error:
        raise Invalid(f"the file is not readable Arrow: {str(error)[:300]}", "file") from None
    return room / "rows.parquet"


def converter(argument: bytes) -> Callable[[bytes], bytes]:
    """In the sandbox. The call converts; it raises what is wrong."""
    job = json.loads(argument)
    pa.set_memory_pool(pa.system_memory_pool())  # the others reserve more address space than there is

    def convert(_: bytes) -> bytes:
        with pa.memory_map(job["path"]) as file:
            _convert(file, Path(job["to"]), job["takes"])
        return b""

    return convert


def _convert(file: pa.NativeFile, to: Path, takes: list[str]) -> None:
    is_file = file.read(len(FILE)) == FILE
    file.seek(0)
    options = pa.ipc.IpcReadOptions(use_threads=False)  # the sandbox starts none
    reader = (pa.ipc.open_file if is_file else pa.ipc.open_stream)(file, options=options)
    places = [place for place, name in enumerate(reader.schema.names) if name in takes]
    schema = pa.schema([reader.schema.field(place) for place in places])
    with pq.ParquetWriter(to, schema) as writer:
        for batch in _batches(reader, is_file):
            batch.validate(full=True)
            columns = [batch.column(place) for place in places]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _batches(
    reader: "pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader", is_file: bool
) -> Iterator[pa.RecordBatch]:
    if not is_file:
        yield from reader
        return
    for number in range(reader.num_record_batches):
        yield reader.get_batch(number)
