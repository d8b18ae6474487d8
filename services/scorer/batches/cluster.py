"""Chunks scored on a Ray cluster: the same code as in the pool of processes, on other machines' cores.

A node runs this code out of its own installation, and reads packages from the object store (`FAIRLEAD_OBJECTS`) and the
keys that grants are verified with from the home of the same path.
"""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from services.kit.errors import Unavailable

from ..dataplane import Endpoint
from ..settings import ScorerSettings
from .chunks import Done, Task
from .executors import ChunkWorker, Here, Parcel

_RAY_S = 60.0
"""How long the cluster may take to start what scores."""


class _Actor:
    """One core of the cluster."""

    def __init__(self, home: str, objects: str) -> None:
        self._worker = ChunkWorker(ScorerSettings(home=Path(home), objects=objects))

    def node(self) -> str:
        """Where it is."""
        return ray.get_runtime_context().get_node_id()

    def score(self, parcel: Parcel) -> Done:
        return self._worker.score(parcel)


class OnRay:
    """An actor for each core that the cluster has; they end when nothing waits."""

    def __init__(self, settings: ScorerSettings) -> None:
        self._settings = settings
        self._here = Here()
        self._actors: list[Any] = []
        self._idle: asyncio.Queue[Any] = asyncio.Queue()
        self._starting = asyncio.Lock()

    @property
    def width(self) -> int:
        """As many as there are cores, once that is known."""
        return max(1, len(self._actors))

    async def score(self, task: Task, endpoint: Endpoint) -> Done:
        """As `score_chunk`; rows with sensitive columns stay on this host. Raises Unavailable while Ray is away."""
        if not task.job.input_digest:
            return await self._here.score(task, endpoint)
        parcel = await asyncio.to_thread(Parcel.of, task, endpoint)
        try:
            async with self._starting:
                if not self._actors:
                    await asyncio.wait_for(asyncio.to_thread(self._start), _RAY_S)
            actor = await self._idle.get()
            done = await asyncio.wrap_future(actor.score.remote(parcel).future())
            self._idle.put_nowait(actor)
            return done
        except RayTaskError as error:
            self.rest()
            raise error.cause if isinstance(error.cause, Exception) else error from None
        except (RayError, ConnectionError, TimeoutError) as error:
            self.rest()
            raise Unavailable(f"Ray at {self._settings.ray} does not answer: {str(error)[:200]}") from error

    def _start(self) -> None:
        """Blocking. Raises ConnectionError."""
        if not ray.is_initialized():
            ray.init(self._settings.ray, namespace="fairlead", log_to_driver=False, configure_logging=False)
        cores = int(ray.cluster_resources().get("CPU", 0))
        if not cores:
            raise ConnectionError("it has no cores")
        make = partial(
            ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(_Actor).remote,
            str(self._settings.home.absolute()), self._settings.objects_url,
        )  # fmt: skip
        actors: list[Any] = [make() for _ in range(cores)]
        ready, _ = ray.wait([actor.node.remote() for actor in actors], num_returns=len(actors), timeout=_RAY_S / 2)
        if not ready:
            raise ConnectionError("it starts nothing")
        self._actors, self._idle = actors, asyncio.Queue()
        for actor in actors:
            self._idle.put_nowait(actor)

    async def nodes(self) -> set[str]:
        """The nodes that its actors are on."""
        actors: list[Any] = self._actors
        asked = [asyncio.wrap_future(actor.node.remote().future()) for actor in actors]
        return set(await asyncio.gather(*asked))

    def rest(self) -> None:
        """End the actors and leave the cluster."""
        self._actors = []
        if ray.is_initialized():
            ray.shutdown()
