"""Where chunks are scored: in this process, or in a pool of processes on this machine."""

import asyncio
import ctypes
import os
import signal
import socket
import threading
from collections.abc import Coroutine
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from contracts import DeploymentChanged
from services.kit.errors import Refusal, Unavailable
from services.kit.objects import Objects
from services.kit.telemetry import configure_logging

from ..dataplane import DataPlane
from ..endpoints import Endpoint
from ..libraries import Libraries, bring
from ..packages import Packages
from ..runtimes.errors import CannotLoad
from ..served import Served
from ..settings import ScorerSettings
from .chunks import Done, Task, score_chunk
from .domain import Job

T = TypeVar("T")
_PR_SET_PDEATHSIG = 1


class Executor(Protocol):
    """Scores chunks, `width` of them at a time."""

    @property
    def width(self) -> int: ...

    async def score(self, task: Task, endpoint: Endpoint) -> Done:
        """As `score_chunk`, by the version that the job asks for."""
        ...

    def rest(self) -> None:
        """Nothing waits: give memory and processes back."""
        ...


class Broken(Unavailable):
    """A process that scored was killed: what kills it may be this machine's trouble or the job's."""


class Here:
    """In this process; the model is in a thread or a sandbox of its own."""

    width = 1

    async def score(self, task: Task, endpoint: Endpoint) -> Done:
        return await score_chunk(task, endpoint.choose(task.job.version))

    def rest(self) -> None:
        """The models are `Serving`'s."""


@dataclass(frozen=True)
class Parcel:
    """A task on its way to another process, which verifies the state of the endpoint anew."""

    change: bytes
    job: Job
    number: int
    rows: bytes
    """As an Arrow stream: only this slice of what may be a larger buffer."""

    @classmethod
    def of(cls, task: Task, endpoint: Endpoint) -> "Parcel":
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, task.rows.schema) as writer:
            writer.write_batch(task.rows)
        return cls(endpoint.change.to_json(), task.job, task.number, sink.getvalue().to_pybytes())

    def task(self) -> Task:
        return Task(self.job, self.number, pa.ipc.open_stream(self.rows).read_next_batch())


class ChunkWorker:
    """Scores parcels in a process of its own, with models that it loads itself. Blocking, one at a time."""

    def __init__(self, settings: ScorerSettings) -> None:
        self._settings = settings
        self._objects = Objects(settings)
        self._packages = Packages(settings.run_folder.absolute(), settings.package_bytes)
        self._libraries = Libraries(settings, self._packages)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="models", daemon=True).start()
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    @cached_property
    def _plane(self) -> DataPlane:
        return DataPlane(self._settings)

    def score(self, parcel: Parcel) -> Done:
        """As `score_chunk`. Raises Unavailable where the model cannot be loaded in this process, or not yet."""
        return self._on_loop(self._score(parcel))

    async def _score(self, parcel: Parcel) -> Done:
        served = await self._served(DeploymentChanged.model_validate_json(parcel.change), parcel.job.version)
        done = await score_chunk(parcel.task(), served)
        done.process, done.told = self._name, self._plane.meter.report(served.counts)
        return done

    async def _served(self, change: DeploymentChanged, version: int | None) -> Served:
        """As `Serving.endpoint` has it: what serves, at this state or as it was."""
        try:
            await self._load(change)
        except (Refusal, CannotLoad) as error:
            if change.endpoint not in self._plane.endpoints:
                raise Unavailable(
                    f"endpoint {change.endpoint} cannot be loaded in a process of the pool: {error}"
                ) from None
        return self._plane.endpoints[change.endpoint].choose(version)

    async def _load(self, change: DeploymentChanged) -> None:
        """What this machine does not have yet is brought here first: another machine's agent knows nothing of it."""
        loaded = self._plane.endpoints.get(change.endpoint)
        if loaded is None or loaded.revision < change.revision or len(loaded.by_version) < len(change.variants):
            digests = [variant.digest for variant in change.variants]
            await bring(digests[:1], self._packages, self._objects, self._libraries)
            with suppress(Refusal, CannotLoad):
                await bring(digests[1:], self._packages, self._objects, self._libraries)
        await self._plane.apply(change)

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


_worker: list[ChunkWorker] = []
"""That of a process of the pool; empty elsewhere."""


class Processes:
    """A pool of processes, started with the first chunk and ended when nothing waits."""

    def __init__(self, settings: ScorerSettings, width: int) -> None:
        self._settings = settings
        self.width = width
        self._pool: ProcessPoolExecutor | None = None

    async def score(self, task: Task, endpoint: Endpoint) -> Done:
        """As `score_chunk`. Raises Broken where a process of the pool is killed."""
        parcel = await asyncio.to_thread(Parcel.of, task, endpoint)
        self._pool = pool = self._pool or ProcessPoolExecutor(
            self.width, get_context("spawn"), _begin, (self._settings, os.getpid())
        )
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, _score, parcel)
        except BrokenProcessPool:
            if self._pool is pool:
                self.rest()
            raise Broken("a process of the pool was killed while it scored") from None

    def rest(self) -> None:
        """End the processes, in the middle of their work too."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


def executor_of(settings: ScorerSettings) -> Executor:
    """What the settings say; without a word, half of the cores: requests and streams need the others.

    Raises Unavailable where Ray is wanted and not installed.
    """
    if settings.ray:
        try:
            from .cluster import OnRay
        except ImportError:
            raise Unavailable("FAIRLEAD_RAY is set, but Ray is not installed: install fairlead[ray]") from None
        return OnRay(settings)
    width = settings.batch_processes or max(1, (os.cpu_count() or 1) // 2)
    return Here() if width == 1 else Processes(settings, width)


def _begin(settings: ScorerSettings, parent: int) -> None:
    """A process of the pool ends with the one that started it, however that ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    configure_logging("scorer", settings.log_level)
    _worker.append(ChunkWorker(settings))


def _score(parcel: Parcel) -> Done:
    return _worker[0].score(parcel)
