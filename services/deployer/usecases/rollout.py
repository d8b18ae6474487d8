"""The moves that rollouts are made of: each within a transaction that holds the endpoint."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from contracts import DeploymentChanged
from services.kit.db import Scalar, Tx
from services.kit.signing import Signer, canonical

from .. import domain, store
from ..domain import Deployment, Endpoint


@dataclass(frozen=True)
class Start:
    """A rollout about to start: the endpoint as it shall be, its deployment, and those that leave for it."""

    endpoint: Endpoint
    deployment: Deployment
    leaving: tuple[Deployment, ...]


class Rollout:
    """Starts, concludes and takes back rollouts; the caller has locked the endpoint."""

    def __init__(self, signer: Signer, clock: Callable[[], datetime]) -> None:
        self._signer = signer
        self._now = clock

    async def keep(self, tx: Tx, before: Deployment, after: Deployment) -> None:
        """Keep what became of a deployment, and say it the first time that it is decided."""
        await store.save(tx.session, after)
        if before.settled_at is None and after.settled_at is not None:
            detail: dict[str, Scalar] = {"deployment_id": str(after.id), "model": after.model, "version": after.version,
                      "state": after.state, "reason": after.reason}  # fmt: skip
            with tx.story(after.correlation_id):
                tx.emit(after.settled(), unit=after.unit, detail=detail)

    async def end(self, tx: Tx, deployment: Deployment, state: domain.State, reason: str | None) -> None:
        """A deployment serves, or is over."""
        await self.keep(tx, deployment, deployment.became(state, reason, self._now()))

    async def start(self, tx: Tx, start: Start) -> Endpoint:
        """Publish the endpoint with this deployment as champion, or beside it."""
        placed = {other.id: other for other in await store.placed(tx.session, start.endpoint.endpoint)}
        for other in start.leaving:
            await self.keep(tx, placed.pop(other.id), other)
        await store.save(tx.session, start.deployment)
        await self._move_on(tx, start.endpoint, [d for d in placed.values() if d.id != start.deployment.id])
        await self.publish(tx, start.endpoint)
        return start.endpoint

    async def restart(self, tx: Tx, deployment: Deployment) -> Endpoint:
        """Bring an earlier version back: a grant's expiry bounds its first start only."""
        assert deployment.grant is not None
        at = self._now()
        before = await store.lock_endpoint(tx.session, deployment.endpoint)
        registration, _ = await store.version(tx.session, deployment.model, deployment.version)
        endpoint = domain.next_endpoint(deployment, registration, deployment.grant, before, at)
        placed = await store.placed(tx.session, deployment.endpoint)
        back = deployment.brought_back(endpoint.revision, at)
        reason = f"version {back.version} was brought back"
        leaving = domain.ended_by(back, placed, reason, at, endpoint.deployments)
        return await self.start(tx, Start(endpoint, back, leaving))

    async def promote(self, tx: Tx, endpoint: Endpoint, name: str) -> Endpoint:
        """Make a version that stands beside the champion the champion, under the grant that it has. Raises Conflict."""
        at = self._now()
        after = domain.promoted(endpoint, name, at)
        up = (await store.lock(tx.session, after.deployment_id)).promoted(after.revision, at)
        placed = await store.placed(tx.session, endpoint.endpoint)
        reason = f"version {up.version} was promoted"
        return await self.start(tx, Start(after, up, domain.ended_by(up, placed, reason, at, after.deployments)))

    async def reshape(self, tx: Tx, after: Endpoint) -> Endpoint:
        """Publish an endpoint whose shares are others, or that has fewer versions beside its champion."""
        await self._move_on(tx, after, await store.placed(tx.session, after.endpoint))
        await self.publish(tx, after)
        return after

    async def _move_on(self, tx: Tx, endpoint: Endpoint, placed: Sequence[Deployment]) -> None:
        """Rollouts in flight are the new revision's from now on."""
        for deployment in placed:
            if deployment.state == "rolling_out":
                await store.save(tx.session, deployment.at_revision(endpoint.revision))

    async def conclude(
        self, tx: Tx, deployment: Deployment, endpoint: Endpoint, state: domain.Verdict, reason: str | None
    ) -> None:
        """What the replicas, or Kafka, made of a rollout: it serves, or the version before takes over; one that was to
        stand beside the champion is taken out again."""
        await self.end(tx, deployment, state, reason)
        if deployment.variant != domain.CHAMPION:
            if state == "failed":
                await self.reshape(tx, domain.taken_away(endpoint, [deployment.variant], self._now()))
            return
        if state == "failed":
            await self.fall_back(tx, endpoint, f"the rollout failed: {reason}")
            return
        at = self._now()
        for other in domain.replaced_by(deployment, await store.placed(tx.session, deployment.endpoint), at):
            await store.save(tx.session, other)
        await store.crown(tx.session, deployment, at)

    async def fall_back(self, tx: Tx, endpoint: Endpoint, reason: str) -> None:
        """The version before takes over; without one the endpoint is taken down."""
        before = await self.version_before(tx, endpoint)
        if before is None:
            await self.take_down(tx, endpoint, reason)
            return
        tx.record(
            "endpoint.rolled_back", endpoint.endpoint, unit=endpoint.unit, to_version=before.version, reason=reason
        )
        await self.restart(tx, before)

    async def version_before(self, tx: Tx, endpoint: Endpoint) -> Deployment | None:
        """The deployment that served last before this one and may serve again; None where there is none."""
        for id in await store.served(tx.session, endpoint.endpoint):
            deployment = await store.lock(tx.session, id)
            _, retired = await store.version(tx.session, deployment.model, deployment.version)
            if id != endpoint.deployment_id and deployment.comes_back and not retired:
                return deployment
        return None

    async def take_down(self, tx: Tx, endpoint: Endpoint, reason: str) -> Endpoint:
        """Nothing is behind the endpoint any more: neither what rolls out nor what still serves meanwhile."""
        gone = domain.removed(endpoint, self._now())
        for deployment in await store.placed(tx.session, endpoint.endpoint):
            await self.end(tx, deployment, "removed", reason)
        tx.record("endpoint.removed", endpoint.endpoint, unit=endpoint.unit, reason=reason)
        await self.publish(tx, gone)
        return gone

    async def stop(self, tx: Tx, endpoint: Endpoint) -> None:
        """An approval was taken back, and not the champion's: say so without waiting for any rollout, since a scorer
        may still serve under it. Rollouts in flight go on, as a further revision."""
        at = self._now()
        now_so = endpoint.stopping(at)
        after = endpoint.still_waiting(now_so.revision, at) if endpoint.waits else now_so
        await self._move_on(tx, after, await store.placed(tx.session, endpoint.endpoint))
        signed = await self._signed(tx, now_so)
        tx.emit(signed, unit=endpoint.unit, detail={"revision": now_so.revision, "state": now_so.state})
        await store.save_endpoint(tx.session, after, signed if after is now_so else await self._signed(tx, after))

    async def publish(self, tx: Tx, endpoint: Endpoint) -> None:
        """Keep the endpoint's desired state, signed, and say it: at once, or when its topics are there."""
        signed = await self._signed(tx, endpoint)
        await store.save_endpoint(tx.session, endpoint, signed)
        await store.keep_name(tx.session, endpoint)
        if endpoint.waits:
            tx.record("endpoint.topics_asked", endpoint.endpoint, unit=endpoint.unit, revision=endpoint.revision)
            return
        tx.emit(signed, unit=endpoint.unit, detail={"revision": endpoint.revision, "state": endpoint.state})

    async def _signed(self, tx: Tx, endpoint: Endpoint) -> DeploymentChanged:
        desired = endpoint.desired(await store.withdrawn(tx.session, endpoint.endpoint))
        signature = self._signer.sign(canonical(desired, without=frozenset({"signature"})))
        return desired.model_copy(update={"signature": signature})
