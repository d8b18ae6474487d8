"""What the deployer does without being asked: follow the replicas, clear away what removed endpoints leave behind."""

import asyncio

from contracts import ReplicaReported
from services.kit.again import each
from services.kit.compacted import CompactedTopic
from services.kit.context import Context, system, use
from services.kit.health import Progress

from .settings import DeployerSettings
from .usecases import Deployer

_LOOK_S = 5.0


class FollowReplicas:
    """Reads `replica.reported` from its start: what each replica has is state, not news."""

    def __init__(self, settings: DeployerSettings, deployer: Deployer, progress: Progress) -> None:
        self._topic = CompactedTopic(settings, ReplicaReported, progress)
        self._deployer = deployer

    async def run(self) -> None:
        async for change in self._topic.changes():
            if change.event is not None:
                with use(Context(system("deployer"))):
                    await self._deployer.note_replica(change.event)


class ClearAway:
    """Rights and state of endpoints that are no more: taken away soon, however often Kafka is away meanwhile."""

    def __init__(self, deployer: Deployer) -> None:
        self._deployer = deployer

    async def run(self) -> None:
        with use(Context(system("deployer"))):
            while True:
                await self.once()
                await asyncio.sleep(_LOOK_S)

    async def once(self) -> None:
        await each("clear away", await self._deployer.left_behind(), self._deployer.clear_away)
