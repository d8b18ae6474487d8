"""Makes and closes the topics of streaming endpoints, outside of every transaction: Kafka may be slow or away."""

from collections.abc import Callable
from datetime import datetime, timedelta

from contracts import DeploymentChanged
from services.kit.alerts import raise_alert, resolve_alert
from services.kit.db import Database
from services.kit.ids import now
from services.kit.provision import ProvisionRefused
from services.kit.signing import Signer

from .. import domain, store
from ..domain import Endpoint
from ..gateway import Streams
from .rollout import Rollout

_STAY = "streams-stay-open"


class EndpointTopics:
    """What Kafka must have or must not have for each endpoint; every step can be repeated."""

    def __init__(
        self,
        db: Database,
        signer: Signer,
        streams: Streams,
        *,
        removed_kept: timedelta = timedelta(days=1),
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._db = db
        self._streams = streams
        self._removed_kept = removed_kept
        self._now = clock
        self._rollout = Rollout(signer, clock)

    async def untidy(self) -> list[str]:
        """Endpoints whose topics are not as they should be, or whose removed state was long enough in the topic."""
        at = self._now()
        async with self._db.reading() as session:
            return await store.untidy(session, at - self._removed_kept, at)

    async def streaming(self) -> list[str]:
        """The endpoints whose topics are open, as they should be."""
        async with self._db.reading() as session:
            return await store.streaming(session)

    async def let_in(self, name: str) -> None:
        """Give the rights of an endpoint that streams as they are set now. Raises ProvisionError."""
        async with store.alone(self._db, name) as mine:
            endpoint = await self._look(name)
            if mine and endpoint and domain.streams(endpoint):
                await self._streams.open(name, endpoint.unit)

    async def tidy(self, name: str) -> None:
        """Make an endpoint's topics or close them, then say what waited for it. Raises ProvisionAway."""
        async with store.alone(self._db, name) as mine:
            endpoint = await self._look(name)
            if not mine or endpoint is None:
                return
            if endpoint.waits:
                await self._open(endpoint)
            elif not endpoint.wants_topics and endpoint.topics != "closed":
                await self._close(endpoint)
        await self._forget(name)

    async def _look(self, name: str) -> Endpoint | None:
        async with self._db.reading() as session:
            return await store.endpoint(session, name)

    async def _open(self, endpoint: Endpoint) -> None:
        try:
            await self._streams.open(endpoint.endpoint, endpoint.unit)
        except ProvisionRefused as refusal:
            await self._refused(endpoint.endpoint, refusal.message)
            return
        async with self._db.transaction() as tx:
            seen = await store.lock_endpoint(tx.session, endpoint.endpoint)
            if seen is None or not seen.waits:
                return  # gone meanwhile: what was made is closed by the next look
            deployment = await store.lock(tx.session, seen.deployment_id)
            with tx.story(deployment.correlation_id):
                await self._rollout.publish(tx, seen.with_open_topics(self._now()))

    async def _refused(self, name: str, reason: str) -> None:
        """A rollout whose topics Kafka will not have fails; what served before goes on as it did."""
        async with self._db.transaction() as tx:
            endpoint = await store.lock_endpoint(tx.session, name)
            if endpoint is None or not endpoint.waits:
                return
            deployment = await store.lock(tx.session, endpoint.deployment_id)
            with tx.story(deployment.correlation_id):
                await self._rollout.conclude(tx, deployment, endpoint, "failed", reason)

    async def _close(self, endpoint: Endpoint) -> None:
        name = endpoint.endpoint
        try:
            await self._streams.close(name)
        except ProvisionRefused as refusal:
            await self._stay(endpoint, refusal.message)
            return
        async with self._db.transaction() as tx:
            seen = await store.lock_endpoint(tx.session, name)
            deployment = await store.lock(tx.session, (seen or endpoint).deployment_id)
            with tx.story(deployment.correlation_id):
                came_back = seen is not None and seen.wants_topics  # then what was closed is made again
                if await store.topics_are(tx.session, name, "asked" if came_back else "closed"):
                    resolve_alert(tx, _STAY, name, "its rights were taken back", unit=endpoint.unit)
                tx.record("endpoint.streams_closed", name, unit=endpoint.unit)

    async def _stay(self, endpoint: Endpoint, reason: str) -> None:
        """Applications may still use what is removed: somebody must know, as often as Kafka says no."""
        async with self._db.transaction() as tx:
            await store.topics_stay(tx.session, endpoint.endpoint, self._now())
            raise_alert(
                tx, _STAY, endpoint.endpoint, "critical", f"the streams of {endpoint.endpoint} stay open", reason,
                "Let the deployer's principal alter the cluster's access rights; it tries again every few minutes.",
                unit=endpoint.unit,
            )  # fmt: skip

    async def _forget(self, name: str) -> None:
        """A removed endpoint's state leaves the compacted topic, once everybody had time to hear of it."""
        async with self._db.transaction() as tx:
            endpoint = await store.lock_endpoint(tx.session, name)
            if endpoint is None or endpoint.state != "removed":
                return
            # Who was away for a while must still hear of the removal: compaction leaves the tombstone alone.
            if endpoint.changed_at > self._now() - self._removed_kept or not await store.forget(tx.session, name):
                return
            deployment = await store.lock(tx.session, endpoint.deployment_id)
            with tx.story(deployment.correlation_id):
                tx.tombstone(DeploymentChanged, name, unit=endpoint.unit)
                tx.record("endpoint.forgotten", name, unit=endpoint.unit, revision=endpoint.revision)
