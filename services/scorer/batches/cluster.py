"""Chunks scored on a Ray cluster: the same code as in the pool of processes, on other machines' cores.

A node runs this code out of its own installation and its own home: the one that `FAIRLEAD_HOME` named where the node
was started, else one of the scorer's path. There it has the keys that grants are verified with; packages are fetched
from the object store (`FAIRLEAD_OBJECTS`) and libraries installed when they are first needed.
"""

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from services.kit.errors import Unavailable

from ..endpoints import Endpoint
from ..settings import ScorerSettings
from .chunks import Done, Task
from .executors import ChunkWorker, Here, Parcel

_RAY_S = 60.0
"""How long the cluster may take to start what scores."""


class _Actor:
    """One core of the cluster."""

    def __init__(self, home: str, objects: str) -> None:
        home = os.environ.get("FAIRLEAD_HOME", home)
        self._worker = ChunkWorker(ScorerSettings(home=Path(home), objects=objects))

    def node(self) -> str:
        """Where it is."""
        return ray.get_runtime_context().get_node_id()

    def score(self, parcel: Parcel) -> Done:
        return self._worker.score(parcel)


class Actors:
    """Those of one connection to the cluster. Used from one event loop."""

    def __init__(self, actors: list[Any]) -> None:
        self.all = actors
        self._idle = list(actors)
        self._free = asyncio.Semaphore(len(actors))
        self._asked: set[asyncio.Future[Done]] = set()
        self._ended = False

    async def score(self, parcel: Parcel) -> Done:
        """By the next that is idle. Whoever stops waiting leaves it at work: it is idle again once that is done.

        Raises Unavailable where they end meanwhile.
        """
        await self._free.acquire()
        if self._ended:
            self._free.release()  # to the next that waits for one
            raise Unavailable("the actors on Ray were ended")
        actor, answer = self._idle.pop(), asyncio.get_running_loop().create_future()
        try:
            call = asyncio.wrap_future(actor.score.remote(parcel).future())
        except BaseException:
            self._give_back(actor)
            raise
        self._asked.add(answer)
        call.add_done_callback(partial(self._answered, actor, answer))
        return await answer

    def end(self) -> None:
        """Nobody waits for an actor of a cluster that was left: its answers never come."""
        self._ended = True
        self._free.release()
        for answer in self._asked:
            if not answer.done():
                answer.set_exception(Unavailable("the actors on Ray were ended"))

    def _answered(self, actor: Any, answer: asyncio.Future[Done], call: asyncio.Future[Done]) -> None:
        self._asked.discard(answer)
        self._give_back(actor)
        error = asyncio.CancelledError() if call.cancelled() else call.exception()
        if answer.done():
            return
        if error is None:
            answer.set_result(call.result())
        else:
            answer.set_exception(error)

    def _give_back(self, actor: Any) -> None:
        self._idle.append(actor)
        self._free.release()


class OnRay:
    """An actor for each core that the cluster has; they end when nothing waits."""

    def __init__(self, settings: ScorerSettings) -> None:
        self._settings = settings
        self._here = Here()
        self._actors: Actors | None = None
        self._starting = asyncio.Lock()

    @property
    def width(self) -> int:
        """As many as there are cores, once that is known."""
        return len(self._actors.all) if self._actors else 1

    async def score(self, task: Task, endpoint: Endpoint) -> Done:
        """As `score_chunk`; rows with sensitive columns stay on this host. Raises Unavailable while Ray is away."""
        if not task.job.input_digest:
            return await self._here.score(task, endpoint)
        parcel = await asyncio.to_thread(Parcel.of, task, endpoint)
        try:
            return await (await self._started()).score(parcel)
        except RayTaskError as error:  # of the chunk: what scores is there
            raise error.cause if isinstance(error.cause, Exception) else error from None
        except (RayError, ConnectionError, TimeoutError) as error:
            self.rest()
            raise Unavailable(f"Ray at {self._settings.ray} does not answer: {str(error)[:200]}") from error

    async def _started(self) -> Actors:
        async with self._starting:
            if self._actors is None:
                self._actors = Actors(await asyncio.wait_for(asyncio.to_thread(self._start), _RAY_S))
            return self._actors

    def _start(self) -> list[Any]:
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
        return actors

    async def nodes(self) -> set[str]:
        """The nodes that its actors are on."""
        actors = self._actors.all if self._actors else []
        asked = [asyncio.wrap_future(actor.node.remote().future()) for actor in actors]
        return set(await asyncio.gather(*asked))

    def rest(self) -> None:
        """End the actors and leave the cluster; who waits for one is told."""
        actors, self._actors = self._actors, None
        if actors:
            actors.end()
        if ray.is_initialized():
            ray.shutdown()
