"""What the deployer does without being asked: follow the replicas."""

from contracts import ReplicaReported
from services.kit.compacted import CompactedTopic
from services.kit.context import Context, system, use

from .settings import DeployerSettings
from .usecases import Deployer


class FollowReplicas:
    """Reads `replica.reported` from its start: what each replica has is state, not news."""

    def __init__(self, settings: DeployerSettings, deployer: Deployer) -> None:
        self._settings = settings
        self._deployer = deployer

    async def run(self) -> None:
        async for change in CompactedTopic(self._settings, ReplicaReported).changes():
            if change.event is not None:
                with use(Context(system("deployer"))):
                    await self._deployer.note_replica(change.event)
