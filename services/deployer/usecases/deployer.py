"""What the deployer can do: ask for deployments, roll them out under a grant, follow the replicas, roll back."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from contracts import (
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalRevoked,
    Grant,
    ModelRegistered,
    ModelRetired,
    ReplicaReported,
    RetrainingCompleted,
    Strategy,
    UseCaseRegistered,
)
from services.kit.auth import allow
from services.kit.context import Caller, current
from services.kit.db import Database, Tx
from services.kit.errors import Conflict, Forbidden, Invalid, NotFound, NotYet
from services.kit.ids import now, uuid7
from services.kit.signing import KeyRing, Signer, canonical

from .. import domain, store
from ..domain import Deployment, Endpoint
from .rollout import Rollout, Start

T = TypeVar("T")

_BREATH_S = 2.0


@dataclass(frozen=True)
class Ask:
    """What a caller wants to run where."""

    endpoint: str
    use_case: str
    model: str
    version: int
    strategy: Strategy
    streaming: bool
    variant: str | None = None
    weight: float | None = None


class Deployer:
    """Turns approved requests into desired state, and follows what the replicas make of it."""

    def __init__(
        self,
        db: Database,
        signer: Signer,
        keys: KeyRing,
        *,
        replicas_needed: int = 1,
        rollout_patience: timedelta = timedelta(minutes=15),
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._db = db
        self._keys = keys
        self._replicas_needed = replicas_needed
        self._rollout_patience = rollout_patience
        self._now = clock
        self._rollout = Rollout(signer, clock)

    # What exists, as the catalog says it

    async def learn_use_case(self, event: UseCaseRegistered) -> None:
        """A use case can be asked for from now on."""
        async with self._db.transaction() as tx:
            await store.save_use_case(tx.session, event)

    async def learn_version(self, event: ModelRegistered) -> None:
        """A version can be asked for from now on."""
        async with self._db.transaction() as tx:
            await store.save_version(tx.session, event)

    async def forget_version(self, event: ModelRetired) -> None:
        """A retired version must not serve: where it does, or is about to, the version before takes over."""
        async with self._db.transaction() as tx:
            if not await store.retire(tx.session, event.model, event.version):
                raise NotYet(f"{event.model} version {event.version} is not known here yet")
            reason = f"{event.model} version {event.version} is retired: {event.reason}"
            for name in await store.endpoints_of_version(tx.session, event.model, event.version):
                await self._withdraw(tx, name, event, reason)

    async def _withdraw(self, tx: Tx, name: str, event: ModelRetired, reason: str) -> None:
        """End every deployment of a version at one endpoint."""
        endpoint = await store.lock_endpoint(tx.session, name)
        leaving = await store.of_version(tx.session, name, event.model, event.version)
        for deployment in leaving:
            await self._rollout.end(tx, deployment, "failed" if deployment.open else "removed", reason)
        if endpoint is None or endpoint.state != "serving":
            return
        await self._stop_serving(tx, endpoint, [d.id for d in leaving], reason)

    async def _stop_serving(self, tx: Tx, endpoint: Endpoint, gone: Sequence[UUID], reason: str) -> None:
        """Deployments that ended for good leave their endpoint: the champion's place is taken by the version before;
        what stands beside the champion is taken out; where a scorer may still serve what was handed out before, it is
        told."""
        if endpoint.deployment_id in gone:
            await self._rollout.fall_back(tx, endpoint, reason)
            return
        names = [name for id in gone if (name := endpoint.name_of(id))]
        if names or await store.withdrawn(tx.session, endpoint.endpoint) != endpoint.withdrawn:
            await self._rollout.stop(tx, domain.without(endpoint, names))

    # Asking

    async def request(self, caller: Caller, ask: Ask) -> Deployment:
        """Ask for a version behind an endpoint; the governor answers. Raises NotFound, Invalid, Conflict, Forbidden."""
        await self._heard_of(ask)
        async with self._db.transaction() as tx:
            unit = await store.unit_of_use_case(tx.session, ask.use_case)
            allow(caller, "deployment.request", unit)
            return await self._ask(tx, ask, unit, caller.actor, None)

    async def _heard_of(self, ask: Ask) -> None:
        """Who registers and deploys in one breath is ahead of the events that tell of it: wait for them a moment."""
        until = time.monotonic() + _BREATH_S
        while time.monotonic() < until:
            async with self._db.reading() as session:
                with suppress(NotFound):
                    await store.unit_of_use_case(session, ask.use_case)
                    await store.version(session, ask.model, ask.version)
                    return
            await asyncio.sleep(0.1)

    async def request_promotion(self, event: RetrainingCompleted) -> None:
        """A candidate that beat the champion is asked for in the template's name, once it is in the catalog."""
        if event.outcome != "candidate_won":
            return
        async with self._db.transaction() as tx:
            version = await store.version_of_retraining(tx.session, event.retraining_id)
            if version is None:
                raise NotYet(f"the candidate of retraining {event.retraining_id} is not registered yet")
            if await store.of_retraining(tx.session, event.retraining_id):
                return
            unit = await _or_not_yet(store.unit_of_use_case(tx.session, event.use_case))
            ask = Ask(event.endpoint, event.use_case, version.model, version.version, "direct", streaming=False)
            await self._ask(tx, ask, unit, current().caller.actor, event.retraining_id)

    async def _ask(self, tx: Tx, ask: Ask, unit: str, actor: str, retraining_id: UUID | None) -> Deployment:
        domain.check_strategy(ask.strategy, ask.variant, ask.weight)
        registration, retired = await store.version(tx.session, ask.model, ask.version)
        before = await store.lock_endpoint(tx.session, ask.endpoint)
        domain.check_request(registration, retired, unit, before, ask.use_case)
        domain.check_name(ask.endpoint, unit, await store.owner(tx.session, ask.endpoint))
        at, name = self._now(), domain.name_of(ask.strategy, ask.variant, ask.version)
        deployment = Deployment(
            id=uuid7(), endpoint=ask.endpoint, use_case=ask.use_case, unit=unit, model=ask.model,
            version=ask.version, digest=registration.digest, strategy=ask.strategy,
            streaming=ask.streaming or domain.streams(before), requested_by=actor, requested_at=at, changed_at=at,
            retraining_id=retraining_id, correlation_id=current().correlation_id, variant=name, weight=ask.weight,
        )  # fmt: skip
        if ask.strategy != "direct":
            _beside(deployment, registration, before)
        await store.save(tx.session, deployment)
        tx.emit(deployment.asked(), unit=unit, detail={"model": ask.model, "version": ask.version})
        return deployment

    # What the governor decides

    async def note_review(self, event: ApprovalRequested) -> None:
        """The gates passed, a person is asked. Raises NotYet."""
        async with self._db.transaction() as tx:
            deployment = await self._known(tx, event.deployment_id)
            await store.save(tx.session, deployment.under_review(event.approval_id, self._now()))

    async def refuse(self, event: ApprovalRejected) -> None:
        """A gate or a person said no: the deployment is over. Raises NotYet."""
        async with self._db.transaction() as tx:
            deployment = await self._known(tx, event.deployment_id)
            refused = deployment.refused(f"{event.rejected_by}: {event.reason}", self._now())
            await self._rollout.keep(tx, deployment, refused)

    async def roll_out(self, event: ApprovalGranted) -> None:
        """Start a granted rollout. The grant is verified here, whoever wrote to the topic.

        A grant that does not hold ends its deployment, with the reason; a deployment that is over stays as it is.
        """
        async with self._db.transaction() as tx:
            deployment, before = await self._hold(tx, event.deployment_id)
            with tx.story(deployment.correlation_id):
                if not deployment.open:
                    tx.record("grant.ignored", deployment.endpoint, unit=deployment.unit,
                              deployment_id=str(deployment.id),
                              reason=f"the deployment is {deployment.state}")  # fmt: skip
                    return
                try:
                    start = await self._admit(tx, deployment, event.grant, before)
                except (Forbidden, Conflict, Invalid, NotFound) as refusal:
                    reason = f"the grant does not hold: {refusal.message}"
                    await self._rollout.end(tx, deployment, "failed", reason)
                    return
                await self._rollout.start(tx, start)

    async def _admit(self, tx: Tx, deployment: Deployment, grant: Grant, before: Endpoint | None) -> Start:
        """All that must hold before a rollout starts. Raises Forbidden, Conflict, Invalid or NotFound."""
        self._keys.verify(canonical(grant.statement), grant.signature, owner="governor")
        domain.check_grant(deployment, grant, self._now())
        registration, retired = await store.version(tx.session, deployment.model, deployment.version)
        domain.check_request(registration, retired, deployment.unit, before, deployment.use_case)
        domain.check_name(deployment.endpoint, deployment.unit, await store.owner(tx.session, deployment.endpoint))
        at, leaving = self._now(), ()
        if deployment.strategy == "direct":
            placed = await store.placed(tx.session, deployment.endpoint)
            endpoint = domain.next_endpoint(deployment, registration, grant, before, at)
            leaving = domain.take_over(deployment, placed, at, endpoint.deployments)
        else:
            endpoint = domain.joined(_beside(deployment, registration, before), deployment, registration, grant, at)
        return Start(endpoint, deployment.started(grant, endpoint.revision, at), leaving)

    async def revoke(self, event: ApprovalRevoked) -> None:
        """What serves under a revoked grant stops at once; the version before it takes over where there is one, and
        one that already rolls out goes on."""
        async with self._db.transaction() as tx:
            deployment, endpoint = await self._hold(tx, event.deployment_id)
            with tx.story(deployment.correlation_id):
                await self._rollout.keep(tx, deployment, deployment.revoked(event.reason, self._now()))
                if endpoint is None or endpoint.state != "serving":
                    return
                await self._stop_serving(tx, endpoint, [deployment.id], f"the approval was revoked: {event.reason}")

    # What the replicas make of it

    async def note_replica(self, report: ReplicaReported) -> None:
        """Close the loop of a rollout: serving when enough replicas say so, rolled back when one cannot."""
        async with self._db.transaction() as tx:
            endpoint = await store.lock_endpoint(tx.session, report.endpoint)
            if endpoint is None:
                return
            await store.save_report(tx.session, report, endpoint.unit)
            flying = await store.flying(tx.session, endpoint.endpoint)
            reports = await store.reports(tx.session, endpoint.endpoint) if flying else []
            if found := domain.verdict(endpoint.revision, reports, self._replicas_needed):
                for deployment in domain.to_conclude(flying, found[0]):
                    with tx.story(deployment.correlation_id):
                        await self._rollout.conclude(tx, deployment, endpoint, *found)

    async def overdue(self) -> list[str]:
        """Endpoints whose rollout may have taken too long."""
        async with self._db.reading() as session:
            return await store.rolling_since(session, self._now() - self._rollout_patience)

    async def give_up(self, name: str) -> None:
        """End a rollout that took too long; what served before goes on, and it may be asked for again."""
        async with self._db.transaction() as tx:
            endpoint = await store.lock_endpoint(tx.session, name)
            if endpoint is None:
                return
            reports = await store.reports(tx.session, name)
            for deployment in domain.to_conclude(await store.flying(tx.session, name), "failed"):
                if reason := domain.overdue(deployment, endpoint, reports, self._rollout_patience, self._now()):
                    with tx.story(deployment.correlation_id):
                        await self._rollout.conclude(tx, deployment, endpoint, "failed", reason)

    # People

    async def promote(self, caller: Caller, name: str, variant: str | None = None) -> Endpoint:
        """Make a version that stands beside the champion the champion. Raises NotFound, Conflict, Invalid."""
        async with self._db.transaction() as tx:
            endpoint = await self._serving(tx, caller, name)
            chosen = endpoint.named(domain.to_promote(endpoint, variant))
            tx.record("endpoint.promoted", name, unit=endpoint.unit, variant=chosen.name, to_version=chosen.version)
            return await self._rollout.promote(tx, endpoint, chosen.name)

    async def weigh(self, caller: Caller, name: str, variant: str | None, weight: float) -> Endpoint:
        """Give a live version another share of the requests. Raises NotFound, Conflict, Invalid."""
        async with self._db.transaction() as tx:
            endpoint = await self._serving(tx, caller, name)
            chosen = domain.to_promote(endpoint, variant)
            after = domain.weighted(endpoint, chosen, weight, self._now())
            tx.record("endpoint.weighed", name, unit=endpoint.unit, variant=chosen, weight=weight)
            return await self._rollout.reshape(tx, after)

    async def roll_back(self, caller: Caller, name: str, variant: str | None = None) -> Endpoint:
        """Take away what was named, or a running experiment; where there is none, serve the version before this one
        again, under its own earlier grant. Raises NotFound, Conflict."""
        async with self._db.transaction() as tx:
            endpoint = await self._serving(tx, caller, name)
            if names := domain.to_take_away(endpoint, variant):
                return await self._take_away(tx, caller, endpoint, names)
            deployment = await store.lock(tx.session, endpoint.deployment_id)
            before = await self._rollout.version_before(tx, endpoint)
            if before is None:
                raise Conflict(f"{name} has no earlier version to go back to")
            await self._rollout.end(tx, deployment, "rolled_back", f"by {caller.actor}")
            tx.record("endpoint.rolled_back", name, unit=endpoint.unit, to_version=before.version)
            return await self._rollout.restart(tx, before)

    async def sample(self, caller: Caller, name: str, payload_sample: float) -> Endpoint:
        """Log the payloads of this share of an endpoint's inferences from now on. Raises NotFound."""
        async with self._db.transaction() as tx:
            endpoint = await self._serving(tx, caller, name, "endpoint.configure")
            after = endpoint.logging(payload_sample, self._now())
            tx.record("endpoint.sampled", name, unit=endpoint.unit, payload_sample=payload_sample)
            return await self._rollout.reshape(tx, after)

    async def _take_away(self, tx: Tx, caller: Caller, endpoint: Endpoint, names: Sequence[str]) -> Endpoint:
        for variant in (endpoint.named(name) for name in names):
            deployment = await store.lock(tx.session, variant.grant.statement.deployment_id)
            await self._rollout.end(tx, deployment, "rolled_back", f"by {caller.actor}")
            tx.record("endpoint.rolled_back", endpoint.endpoint, unit=endpoint.unit, variant=variant.name,
                      from_version=variant.version, to_version=endpoint.variant.version)  # fmt: skip
        return await self._rollout.reshape(tx, domain.taken_away(endpoint, names, self._now()))

    async def remove(self, caller: Caller, name: str) -> Endpoint:
        """Take an endpoint down; its decisions and history stay. Raises NotFound."""
        async with self._db.transaction() as tx:
            endpoint = await self._serving(tx, caller, name)
            return await self._rollout.take_down(tx, endpoint, f"removed by {caller.actor}")

    async def deployment(self, id: UUID) -> Deployment:
        """Raises NotFound."""
        async with self._db.reading() as session:
            return await store.get(session, id)

    async def deployments(
        self, endpoint: str | None, before: tuple[datetime, UUID] | None, limit: int
    ) -> list[Deployment]:
        """Newest first; `before` is the place of the last one seen."""
        async with self._db.reading() as session:
            return await store.deployments(session, endpoint, before, limit)

    async def endpoint(self, name: str) -> tuple[Endpoint, list[ReplicaReported]]:
        """An endpoint's desired state and what each replica made of it. Raises NotFound."""
        async with self._db.reading() as session:
            endpoint = await store.endpoint(session, name)
            if endpoint is None:
                raise NotFound(f"there is no endpoint {name}")
            return endpoint, await store.reports(session, name)

    async def endpoints(self, after: str, limit: int) -> list[Endpoint]:
        """By name; `after` is the last one seen."""
        async with self._db.reading() as session:
            return await store.endpoints(session, after, limit)

    # Moves that several of them make

    async def _known(self, tx: Tx, id: UUID) -> Deployment:
        return await _or_not_yet(store.lock(tx.session, id))

    async def _hold(self, tx: Tx, id: UUID) -> tuple[Deployment, Endpoint | None]:
        """A deployment and its endpoint, both locked: the endpoint first, as everybody does. Raises NotYet."""
        seen = await _or_not_yet(store.get(tx.session, id))
        endpoint = await store.lock_endpoint(tx.session, seen.endpoint)
        return await store.lock(tx.session, id), endpoint

    async def _serving(self, tx: Tx, caller: Caller, name: str, right: str = "endpoint.rollback") -> Endpoint:
        endpoint = await store.lock_endpoint(tx.session, name)
        if endpoint is None or endpoint.state != "serving":
            raise NotFound(f"there is no serving endpoint {name}")
        allow(caller, right, endpoint.unit)
        return endpoint


def _beside(deployment: Deployment, registration: ModelRegistered, endpoint: Endpoint | None) -> Endpoint:
    """The endpoint that it may join beside the champion. Raises Conflict, Invalid."""
    found = domain.check_beside(
        endpoint, deployment.strategy, deployment.variant, deployment.version, registration.model_schema,
        streaming=deployment.streaming,
    )  # fmt: skip
    if deployment.weight is not None:
        domain.check_weight(found, deployment.weight)
    return found


async def _or_not_yet(found: Awaitable[T]) -> T:
    """Events of one story come from several topics: an answer may arrive before its question."""
    try:
        return await found
    except NotFound as error:
        raise NotYet(error.message) from None
