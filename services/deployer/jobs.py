"""What the deployer does without being asked: follow the replicas, look after the endpoints' topics."""

import asyncio
from contextlib import suppress

from contracts import ReplicaReported
from services.kit.again import each
from services.kit.compacted import CompactedTopic
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.health import Progress

from .settings import DeployerSettings
from .usecases import Deployer, EndpointTopics

_LOOK_S = 5.0


class FollowReplicas:
    """Reads `replica.reported` from its start: what each replica has is state, not news."""

    def __init__(self, settings: DeployerSettings, deployer: Deployer, progress: Progress) -> None:
        self._topic = CompactedTopic(settings, ReplicaReported, progress)
        self._deployer = deployer

    async def run(self) -> None:
        """Until cancelled."""
        async for change in self._topic.changes():
            if change.event is not None:
                with use(Context(system("deployer"))):
                    await self._deployer.note_replica(change.event)


class EndRollouts:
    """Ends rollouts that take too long: their time is in their rows, so a restart forgets none."""

    def __init__(self, deployer: Deployer) -> None:
        self._deployer = deployer

    async def run(self) -> None:
        """Until cancelled."""
        with use(Context(system("deployer"))):
            while True:
                await self.once()
                await asyncio.sleep(_LOOK_S)

    async def once(self) -> None:
        """Look at every rollout that may be overdue."""
        await each("end a rollout", await self._deployer.overdue(), self._deployer.give_up)


class TendTopics:
    """Topics and rights of endpoints: made and taken away soon, however often Kafka is away meanwhile."""

    def __init__(self, db: Database, topics: EndpointTopics) -> None:
        self._topics = topics
        self._wake = asyncio.Event()
        db.committed.append(self._wake.set)

    async def run(self) -> None:
        """Until cancelled; awake after each commit, since it may have asked for topics."""
        with use(Context(system("deployer"))):
            # The principals may have been set anew since the topics were made.
            await each("let in", await self._topics.streaming(), self._topics.let_in)
            while True:
                self._wake.clear()
                await self.once()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), _LOOK_S)

    async def once(self) -> None:
        """Look after every endpoint that needs it now."""
        await each("tend topics", await self._topics.untidy(), self._topics.tidy)
