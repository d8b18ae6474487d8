"""The life cycle: what is heard of use cases, versions and deployments moves the processes."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from contracts import (
    DeploymentChanged,
    DeploymentRequested,
    DeploymentSettled,
    ModelRegistered,
    ModelRetired,
    ReplicaReported,
    UseCaseRegistered,
)
from services.governor.domain import retraining
from services.governor.store import facts, processes
from services.governor.store.processes import Process
from services.kit.again import each
from services.kit.alerts import raise_alert
from services.kit.bus import current_envelope
from services.kit.context import EVERY_UNIT, Context, current, system, use
from services.kit.db import Database, Tx
from services.kit.errors import NotYet
from services.kit.ids import now, uuid7

from . import alarms
from .runner import STUCK, Runner

_TIMER_S = 15.0
_STUCK_PAUSE = timedelta(minutes=5)


class LifeCycle:
    """One process for each request to put a version behind an endpoint."""

    def __init__(self, db: Database, runner: Runner) -> None:
        self._db = db
        self._runner = runner
        self._due = asyncio.Event()
        """Some process waits for its turn, not for its timer."""

    async def know_use_case(self, event: UseCaseRegistered) -> None:
        """A use case may be deployed for from now on."""
        async with self._db.transaction() as tx:
            await facts.save_use_case(tx.session, event, current_envelope().time)

    async def know_model(self, event: ModelRegistered) -> None:
        """A version may be judged from now on."""
        async with self._db.transaction() as tx:
            await facts.save_model(tx.session, event, current_envelope().time)

    async def start(self, event: DeploymentRequested) -> None:
        """Judge a request for a deployment, then ask a person or refuse it."""
        async with self._db.transaction() as tx:
            if await processes.of_deployment(tx.session, event.deployment_id):
                return
            known = await self._facts(tx, event)
            process = Process(
                id=uuid7(), unit=event.unit, template="standard", endpoint=event.endpoint, use_case=event.use_case,
                model=event.model, version=event.version, requested_by=event.requested_by,
                correlation_id=current().correlation_id, started_at=now(), deployment_id=event.deployment_id,
                retraining_id=event.retraining_id, facts=known,
            )  # fmt: skip
            await facts.keep_policy(tx.session, self._runner.policies.version, self._runner.policies.document())
            await self._runner.start(tx, process)
            await self._tell_retraining(tx, event)

    async def end_version(self, event: ModelRetired) -> None:
        """What still waits for a decision about this version is refused."""
        async with self._db.transaction() as tx:
            if not await facts.retire(tx.session, event.model, event.version, current_envelope().time):
                raise NotYet(f"{event.model} version {event.version} is not known here yet")
            for process_id in await processes.about(tx.session, event.model, event.version):
                await self._runner.leave(tx, process_id, "model.retired", event.model_dump(mode="json"))
            tx.then.append(self._due.set)

    async def follow(self, event: DeploymentChanged) -> None:
        """What an endpoint shall serve changed: processes that wait for their rollout go on."""
        async with self._db.transaction() as tx:
            before = await facts.live(tx.session, event.endpoint)
            if not await facts.save_endpoint(tx.session, event, current_envelope().time):
                return
            after = await facts.live(tx.session, event.endpoint)
            if before and (over := retraining.drift_is_over(before, after)):
                await alarms.end(tx, event.endpoint, before.unit, over)
            for variant in event.variants:
                process = await processes.of_deployment(tx.session, variant.grant.statement.deployment_id)
                if process:
                    payload = {"revision": event.revision, "state": event.state}
                    await self._runner.post(tx, process.id, "deployment.changed", payload)

    async def settle(self, event: DeploymentSettled) -> None:
        """It is decided what became of a rollout: its process ends."""
        async with self._db.transaction() as tx:
            process = await processes.of_deployment(tx.session, event.deployment_id)
            if process is None:
                raise NotYet(f"deployment {event.deployment_id} is not known here yet")
            payload = event.model_dump(mode="json", include={"state", "reason"})
            await self._runner.post(tx, process.id, "deployment.settled", payload)

    async def note_serving(self, event: ReplicaReported) -> None:
        """A replica serves: from ready to in business it took until now."""
        async with self._db.transaction() as tx:
            if event.state == "ready" and event.loaded:
                if (await facts.revision(tx.session, event.endpoint) or 0) < event.revision:
                    raise NotYet(f"revision {event.revision} of {event.endpoint} is not known here yet")
                await facts.now_serving(tx.session, event.endpoint, event.loaded, event.reported_at)

    async def wake_due(self) -> None:
        """Fire the timers of processes, now and then and when told, for as long as the service runs."""
        with use(Context(system("governor"))):
            while True:
                self._due.clear()
                await self.wake_all()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_TIMER_S):
                        await self._due.wait()

    async def wake_all(self) -> None:
        """Move on every process that is due. One that cannot be moved on stops no other: it is told and tried later."""
        async with self._db.reading() as session:
            due = await processes.due(session)
        for process_id, error in await each("timers", due, self._wake):
            await self._tell_stuck(process_id, error)

    async def _wake(self, process_id: UUID) -> None:
        async with self._db.transaction() as tx:
            await self._runner.wake(tx, process_id)

    async def _tell_stuck(self, process_id: UUID, error: Exception) -> None:
        async with self._db.transaction() as tx:
            process = await processes.postpone(tx.session, process_id, now() + _STUCK_PAUSE)
            if process and process.state == "running":
                detail = f"version {process.version} of {process.model} for {process.endpoint}: {type(error).__name__}"
                raise_alert(
                    tx, STUCK, str(process_id), "critical", f"a life cycle of {process.endpoint} cannot go on", detail,
                    "Look at the governor's log; the process is tried again every few minutes.", unit=EVERY_UNIT,
                )  # fmt: skip

    async def _facts(self, tx: Tx, event: DeploymentRequested) -> dict[str, Any]:
        use_case = await facts.use_case(tx.session, event.use_case)
        model = await facts.model(tx.session, event.model, event.version)
        if use_case is None:
            raise NotYet(f"use case {event.use_case} is not known here yet")
        if model is None:
            raise NotYet(f"{event.model} version {event.version} is not known here yet")
        return {
            "use_case": use_case, "model": model, "deployment": event.model_dump(mode="json"),
            "policy_version": self._runner.policies.version, "also_asked_by": await self._people_behind(tx, event),
        }  # fmt: skip

    async def _people_behind(self, tx: Tx, event: DeploymentRequested) -> list[str]:
        """A template asks in the name of a person, where a person asked for the retraining."""
        if event.retraining_id is None:
            return []
        behind = await processes.of_retraining(tx.session, event.retraining_id)
        asked_by = behind.requested_by if behind else ""
        return [asked_by] if asked_by and not asked_by.startswith("service:") else []

    async def _tell_retraining(self, tx: Tx, event: DeploymentRequested) -> None:
        if event.retraining_id is None:
            return
        if behind := await processes.of_retraining(tx.session, event.retraining_id):
            payload = {"deployment_id": str(event.deployment_id), "version": event.version}
            await self._runner.post(tx, behind.id, "deployment.requested", payload)
