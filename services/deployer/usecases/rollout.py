"""The moves that rollouts are made of: each within a transaction that holds the endpoint."""

from collections.abc import Callable
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
        """Publish the endpoint with this deployment as champion."""
        placed = {other.id: other for other in await store.placed(tx.session, start.endpoint.endpoint)}
        for other in start.leaving:
            await self.keep(tx, placed[other.id], other)
        await store.save(tx.session, start.deployment)
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
        return await self.start(tx, Start(endpoint, back, domain.interrupted(back, placed, at)))

    async def conclude(
        self, tx: Tx, deployment: Deployment, endpoint: Endpoint, state: domain.Verdict, reason: str | None
    ) -> None:
        """What the replicas, or Kafka, made of a rollout: it serves, or the version before takes over."""
        await self.end(tx, deployment, state, reason)
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
        """An approval was taken back while another version rolls out or serves: say so without waiting for that one,
        since a scorer may still serve under it. The rollout goes on, as a further revision."""
        at = self._now()
        deployment = await store.lock(tx.session, endpoint.deployment_id)
        now_so = endpoint.stopping(at)
        after = endpoint.still_waiting(now_so.revision, at) if endpoint.waits else now_so
        await store.save(tx.session, deployment.at_revision(after.revision))
        signed = await self._signed(tx, now_so)
        tx.emit(signed, unit=endpoint.unit, detail={"revision": now_so.revision, "state": now_so.state})
        await store.save_endpoint(tx.session, after, signed if after is now_so else await self._signed(tx, after))

    async def change(self, tx: Tx, after: Endpoint) -> None:
        """Say a further revision of what an endpoint serves, or shall: a rollout that goes on does so as that one."""
        deployment = await store.lock(tx.session, after.deployment_id)
        await store.save(tx.session, deployment.at_revision(after.revision))
        await self.publish(tx, after)

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
