"""Which streams run in this process: one for each endpoint that streams, as the desired state says."""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any

from contracts import InferenceCompleted
from services.kit.again import again
from services.kit.health import Progress
from services.kit.kafka import Connection, KafkaError
from services.kit.objects import Objects
from services.kit.telemetry import get_logger
from services.kit.transactional import TransactionalStream

from ..dataplane import DataPlane
from ..endpoints import Endpoint
from ..files import Watched
from ..follower import Follower
from ..health import tell_progress
from ..process import fatal
from ..settings import ScorerSettings
from ..shadows import Shadows
from ..spool import Spool
from .history import History
from .work import EndpointWork, group_of

log = get_logger(__name__)

_FOLLOW_S = 1.0


class _Streaming(Watched):
    """The desired state of the endpoints that stream: others are not loaded here."""

    def changed(self) -> Any | None:
        state = super().changed()
        if state is None:
            return None
        return state | {"endpoints": {name: e for name, e in state["endpoints"].items() if e["streaming"]}}


class StreamFollower(Follower):
    """Loads the endpoints that stream, and no others: a sandboxed model costs a process."""

    def __init__(self, plane: DataPlane, settings: ScorerSettings) -> None:
        super().__init__(plane, settings, "streams")
        self._desired = _Streaming(settings.desired_path)


@dataclass
class Running:
    """One endpoint's stream at work."""

    task: "asyncio.Task[None]"
    part: str


class Streams:
    """Implements `work.Endpoints`; starts and stops streams as endpoints come and go."""

    def __init__(self, settings: ScorerSettings, plane: DataPlane, follower: Follower) -> None:
        self._settings = settings
        self._plane = plane
        self._follower = follower
        self._objects = Objects(settings)
        self._running: dict[str, Running] = {}
        self._news = asyncio.Condition()
        self._progress = Progress()
        self._shadows: Shadows | None = None
        self._turning: asyncio.Task[None] | None = None

    def shadows(self) -> Shadows:
        """With a slot of the spool, which is there once it is needed: answers are logged in their transactions."""
        if self._shadows is None:
            settings, half = self._settings, self._settings.spool_bytes // 2
            spool = Spool(settings.spool_folder / "streams", limit=settings.spool_bytes,
                          segment_bytes=settings.spool_segment_bytes, fsync="none")  # fmt: skip
            self._shadows = Shadows(spool, lambda: spool.used < half)
            self._turning = asyncio.create_task(spool.keep_turned(settings.spool_turns_s))
            self._turning.add_done_callback(fatal)
        return self._shadows

    def find(self, name: str) -> Endpoint | None:
        return self._plane.endpoints.get(name)

    async def wait(self, name: str) -> Endpoint:
        async with self._news:
            await self._news.wait_for(lambda: name in self._plane.endpoints)
        return self._plane.endpoints[name]

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop; then each lane finishes its transaction."""
        work = [asyncio.create_task(one()) for one in (self._follower.run, self._follow, self._tell)]
        ended = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([*work, ended], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {ended}:
                task.result()
        finally:
            if self._turning:
                self._turning.cancel()
            for task in [*work, ended, *(running.task for running in self._running.values())]:
                task.cancel()
            await asyncio.wait([*work, *(running.task for running in self._running.values())], timeout=8)

    async def _follow(self) -> None:
        while True:
            await self._follower.changed.wait()
            self._follower.changed.clear()
            async with self._news:
                self._news.notify_all()
            for name in self._running.keys() - self._plane.endpoints.keys():
                await self._stop(name)
            for name in self._plane.endpoints.keys() - self._running.keys():
                self._start(name)

    def _start(self, name: str) -> None:
        part = f"stream {name}"
        task = asyncio.create_task(again(part, partial(self._stream, name), self._progress), name=part)
        self._running[name] = Running(task, part)
        log.info("a stream begins", endpoint=name)

    async def _stop(self, name: str) -> None:
        running = self._running.pop(name)
        running.task.cancel()
        await asyncio.wait([running.task], timeout=8)
        self._progress.parts.pop(running.part, None)
        log.info("a stream ended", endpoint=name)

    async def _stream(self, name: str) -> None:
        connection = Connection.read(self._settings.kafka_properties)
        history = History(connection, InferenceCompleted.topic.of(name))
        work = EndpointWork(name, self, history, self._objects)
        stream = TransactionalStream(
            connection, work.topics.requested, group_of(name), work, work.topics.outputs, self._progress
        )  # fmt: skip
        self._progress.expect(stream.part, grace_s=30)
        others = f"{stream.part}, answers of other hosts"
        following = asyncio.create_task(again(others, partial(_follow_others, history, stream), self._progress))
        try:
            await stream.run()
        finally:
            following.cancel()
            for part in (stream.part, others):
                self._progress.parts.pop(part, None)
            await history.close()

    async def _tell(self) -> None:
        await tell_progress(self._settings.run_folder, "streams", self._progress)


async def _follow_others(history: History, stream: TransactionalStream) -> None:
    """Partitions that other hosts work on answer too: their answers are repeats here."""
    while True:
        await asyncio.sleep(_FOLLOW_S)
        others = set(range(stream.partitions.get(stream.topic, 0))) - stream.owned
        for partition in others if stream.owned else ():
            try:
                await history.catch_up(partition)
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("answers of other hosts are delayed", error=repr(error)[:200])
