"""After a drift, or when a person asks: one retraining at a time for an endpoint."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts import CandidateRefused, DriftDetected, RetrainingCompleted, RetrainingRequested
from services.governor.domain import retraining
from services.governor.domain.retraining import Live
from services.governor.store import alerts as store
from services.governor.store import facts, processes
from services.governor.store.processes import Process
from services.kit.auth import allow
from services.kit.bus import current_envelope
from services.kit.context import Caller, current
from services.kit.db import Database, Tx
from services.kit.errors import NotFound, NotYet
from services.kit.ids import now, uuid7

from . import alarms
from .runner import Runner


class Retrainings:
    """Decides whether a drift leads to a retraining, and follows it to its end."""

    def __init__(self, db: Database, runner: Runner) -> None:
        self._db = db
        self._runner = runner

    async def hear_drift(self, event: DriftDetected) -> None:
        """A drift is an alert; the first of an open alarm also asks for a retraining, unless one is under way."""
        about = current_envelope()
        async with self._db.transaction() as tx:
            await processes.hold_endpoint(tx.session, event.endpoint)
            live = await facts.live(tx.session, event.endpoint)
            if over := await self._no_longer(tx, event, live, about.time):
                tx.record("retraining.withheld", event.endpoint, unit=about.unit, model=event.model, reason=over)
                return
            assert live
            alarm = await alarms.raise_(tx, event, live.unit, about.time)
            reason = await self._against(tx, event, live, alarm.retraining_id)
            if reason:
                tx.record("retraining.withheld", event.endpoint, unit=live.unit, model=live.model, reason=reason)
                return
            asked = retraining.asked_by_drift(live, uuid7(), about.id, event.since)
            await self._start(tx, live, asked)
            await store.bind(tx.session, alarm.id, asked.retraining_id)

    async def ask(self, caller: Caller, endpoint: str, reason: str, since: datetime | None) -> RetrainingRequested:
        """A person asks. Raises NotFound, Conflict where one is under way or the model has no recipe."""
        async with self._db.transaction() as tx:
            await processes.hold_endpoint(tx.session, endpoint)
            live = await facts.live(tx.session, endpoint)
            if live is None:
                raise NotFound(f"there is no endpoint {endpoint} that serves")
            allow(caller, "retraining.request", live.unit)
            under_way = await processes.under_way(tx.session, endpoint)
            asked = retraining.asked_by_person(live, under_way, uuid7(), caller.actor, since)
            await self._start(tx, live, asked, reason)
            return asked

    async def request(self, tx: Tx, process: Process, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """The task `request` of the template: say it."""
        event = RetrainingRequested.model_validate(process.facts["request"])
        detail = {"endpoint": event.endpoint, "version": event.version, "cause": event.cause,
                  "retraining_id": str(event.retraining_id), "reason": process.facts.get("reason")}  # fmt: skip
        tx.emit(event, unit=process.unit, detail=detail)
        return {}

    async def complete(self, event: RetrainingCompleted) -> None:
        """A retraining ended: its process goes on, and its alarm ends where the champion is still right."""
        async with self._db.transaction() as tx:
            process = await processes.of_retraining(tx.session, event.retraining_id)
            if process is None:
                raise NotYet(f"retraining {event.retraining_id} is not known here")
            payload = event.model_dump(
                mode="json", include={"outcome", "reason", "champion_metrics", "candidate_metrics"}
            )
            await self._runner.post(tx, process.id, "retraining.completed", payload)
            if event.outcome == "champion_kept":
                reason = f"a retraining found nothing better: {event.reason}"
                await alarms.end(tx, event.endpoint, process.unit, reason)

    async def refuse(self, event: CandidateRefused) -> None:
        """What a retraining brought cannot become a version: its process ends, with the reason."""
        async with self._db.transaction() as tx:
            process = await processes.of_retraining(tx.session, event.retraining_id)
            if process is None:
                raise NotYet(f"retraining {event.retraining_id} is not known here")
            await self._runner.post(tx, process.id, "candidate.refused", {"reason": event.reason})

    async def free_alarm(self, tx: Tx, process: Process) -> None:
        """A retraining or its promotion ended and nothing is better: the next drift may ask for another."""
        if process.retraining_id and retraining.brought_nothing(process.template, process.outcome):
            await store.release(tx.session, process.retraining_id)

    async def _no_longer(self, tx: Tx, event: DriftDetected, live: Live | None, said_at: datetime) -> str | None:
        """Why a drift is nobody's concern any more: an alarm about what does not serve would never end.

        Raises NotYet for what may not have been heard yet.
        """
        if live is None:
            if await facts.revision(tx.session, event.endpoint) is None:
                raise NotYet(f"endpoint {event.endpoint} is not known here yet")
            return "the endpoint was removed"
        if (event.model, event.version) == (live.model, live.version):
            return None
        if retraining.may_be_early(said_at, now()):
            raise NotYet(f"version {event.version} of {event.endpoint} is not known to serve here")
        return f"version {event.version} no longer serves"

    async def _against(self, tx: Tx, event: DriftDetected, live: Live, bound: UUID | None) -> str | None:
        if not event.retrain:
            return "the endpoint's settings do not ask for it"
        if bound:
            return f"this alarm led to retraining {bound} already"
        return retraining.why_not(live, await processes.under_way(tx.session, event.endpoint))

    async def _start(self, tx: Tx, live: Live, asked: RetrainingRequested, reason: str | None = None) -> None:
        process = Process(
            id=uuid7(), unit=live.unit, template="retraining", endpoint=live.endpoint, use_case=live.use_case,
            model=live.model, version=live.version, requested_by=asked.requested_by,
            correlation_id=current().correlation_id, started_at=now(), retraining_id=asked.retraining_id,
            facts={"request": asked.model_dump(mode="json"), "reason": reason},
        )  # fmt: skip
        await self._runner.start(tx, process)
