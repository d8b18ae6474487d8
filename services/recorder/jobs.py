"""What runs by itself: the follower of deployments and the two streams."""

from contracts import DeploymentChanged, InferenceLogged, OutcomeReported
from services.kit.compacted import CompactedTopic
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.stream import BatchConsumer

from .settings import RecorderSettings
from .usecases import Recording, Schemas


class Following:
    """Follows `deployment.changed` from its start; the streams begin once it has caught up."""

    def __init__(self, settings: RecorderSettings, schemas: Schemas) -> None:
        self.topic = CompactedTopic(settings, DeploymentChanged)
        self._schemas = schemas

    async def run(self) -> None:
        async for change in self.topic.changes():
            if change.event is not None:
                await self._schemas.learn(change.event)


class Streams:
    """Inferences and outcomes, each with offsets that commit with what was kept."""

    def __init__(
        self, settings: RecorderSettings, db: Database, recording: Recording, following: Following, progress: Progress
    ) -> None:
        self._recording = recording
        self._caught_up = following.topic.caught_up
        self._inferences = BatchConsumer(
            settings, db, [InferenceLogged.topic.name], "recorder", recording.record, progress=progress,
            pause_ms=settings.record_every_ms,
        )  # fmt: skip
        self._outcomes = BatchConsumer(
            settings, db, [OutcomeReported.topic.name], "recorder.outcomes", recording.hear_outcomes, progress=progress
        )

    async def inferences(self) -> None:
        await self._caught_up.wait()
        try:
            await self._inferences.run()
        finally:
            await self._recording.close()

    async def outcomes(self) -> None:
        await self._caught_up.wait()
        await self._outcomes.run()
