"""What retrainings bring: a winning candidate is inspected outside of every transaction and becomes a version once."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from contracts import CandidateRefused, RetrainingCompleted
from services.kit.alerts import raise_alert, resolve_alert
from services.kit.away import is_away
from services.kit.context import Context, current, system, use
from services.kit.db import Database
from services.kit.errors import Invalid, NotFound, Refusal
from services.kit.ids import now, uuid7
from services.kit.telemetry import get_logger

from .. import store
from ..domain import Arrival, Candidate, Retraining
from ..intake import Intake
from . import numbering

log = get_logger(__name__)

_REFUSED = "candidate-refused"


class Candidates:
    """Durable inspections: a winning candidate is a row, and the row ends as a version or as a refusal, once."""

    def __init__(self, db: Database, intake: Intake, *, clock: Callable[[], datetime] = now) -> None:
        self._db = db
        self._intake = intake
        self._now = clock
        self._holder = str(uuid7())
        """This process: what is inspected under another name, and is locked by nobody, was left by a dead one."""
        self.asked: Callable[[], None] = lambda: None
        """Called when there may be something to inspect."""

    async def take(self, event: RetrainingCompleted) -> None:
        """A retraining ended: a candidate that won waits for its inspection, another outcome is remembered.

        Raises Invalid for a candidate without a package, NotFound for one of a version that is not there.
        """
        unit, story = numbering.unit_of_event(), current()
        async with self._db.transaction(unit=unit) as tx:
            if event.outcome != "candidate_won":
                await store.note_retraining(tx.session, event.model, unit, Retraining.of(event, event.outcome))
                return
            arrival = Arrival(event, unit, story.correlation_id, story.traceparent)
            arrival.package()
            if await store.version_of(tx.session, event.model, event.champion_version) is None:
                raise NotFound(f"there is no version {event.champion_version} of model {event.model}")
            await store.add_arrival(tx.session, arrival, self._now())
            tx.then.append(self.asked)

    async def due(self) -> list[str]:
        """The retrainings whose candidates are to be inspected now, the longest due first, at most 20."""
        with use(Context(system("catalog"))):
            async with self._db.reading() as session:
                return await store.due_arrivals(session, self._now())

    async def waiting(self) -> bool:
        """Whether a candidate has not come to its end, due or not."""
        with use(Context(system("catalog"))):
            async with self._db.reading() as session:
                return await store.are_waiting(session)

    async def inspect(self, retraining_id: str) -> None:
        """Bring a candidate to its end, unless another process does so now.

        What is away, and what nobody foresaw, is raised after the candidate was put back for a later try.
        """
        async with store.alone(self._db, retraining_id) as mine:
            if not mine:
                return
            with use(Context(system("catalog"))):
                async with self._db.transaction() as tx:
                    arrival = await store.claim(tx.session, retraining_id, self._holder, self._now())
            if arrival:
                with use(Context(system("catalog", arrival.unit), arrival.correlation_id, arrival.traceparent)):
                    await self._settle(arrival)

    async def _settle(self, arrival: Arrival) -> None:
        try:
            if arrival.harms:
                await self._refuse(arrival, arrival.harm())
            else:
                await self._register(arrival, await self._inspected(arrival))
        except asyncio.CancelledError:
            # A restart of the service says nothing against the candidate.
            await self._put_back(arrival, "the service was stopped", timedelta())
            raise
        except Exception as error:
            if isinstance(error, Refusal) and not is_away(error):
                await self._refuse(arrival, error.message)
                return
            reason = error.message if isinstance(error, Refusal) else f"{type(error).__name__}: {error}"
            await self._put_back(arrival, reason, arrival.pause(), failed=not is_away(error))
            raise

    async def _inspected(self, arrival: Arrival) -> Candidate:
        event = arrival.event
        async with self._intake.folder() as work:
            pack = await self._intake.fetch(arrival.package(), work)
            if pack.manifest.name != event.model:
                raise Invalid(f"the candidate of {event.model} calls itself {pack.manifest.name}", "package_digest")
            return await self._intake.candidate(pack, arrival.training(), arrival.unit)

    async def _register(self, arrival: Arrival, candidate: Candidate) -> None:
        """One version for each retraining, even where it made bytes that are there: others wait for its number."""
        event, unit = arrival.event, arrival.unit
        async with self._db.transaction() as tx:
            if not await store.end_arrival(tx.session, arrival, "registered", None, self._now()):
                return
            await numbering.hold_model(tx, event.model, unit)
            made = await numbering.number(tx, candidate, unit, event.requested_by)
            await store.note_retraining(
                tx.session, event.model, unit, Retraining.of(event, event.outcome, made.version)
            )
            if await store.supersede(tx.session, event.model):
                resolve_alert(tx, _REFUSED, event.model, f"version {made.version} was registered", unit=unit)
        log.info("a candidate is registered", model=event.model, version=made.version, attempt=arrival.attempt)

    async def _refuse(self, arrival: Arrival, reason: str) -> None:
        """The candidate becomes no version, and a person hears why."""
        event, unit, reason = arrival.event, arrival.unit, reason[:1000]
        async with self._db.transaction() as tx:
            if not await store.end_arrival(tx.session, arrival, "refused", reason, self._now()):
                return
            told = Retraining.of(event, "candidate_refused")
            await store.note_retraining(tx.session, event.model, unit, told)
            refused = CandidateRefused(
                model=event.model, retraining_id=event.retraining_id, package_digest=arrival.package(), reason=reason
            )
            tx.emit(
                refused, unit=unit,
                detail={"retraining_id": told.retraining_id, "digest": event.package_digest, "reason": reason},
            )  # fmt: skip
            raise_alert(
                tx, _REFUSED, event.model, "warning", f"the retrained candidate of {event.model} was refused", reason,
                "What serves goes on serving. Mend what the reason names and ask for another retraining; the next "
                "candidate that is registered ends this alert, or a person closes it.",
                unit=unit,
            )  # fmt: skip
        log.warning("a candidate is refused", model=event.model, retraining=told.retraining_id, reason=reason)

    async def _put_back(self, arrival: Arrival, reason: str, pause: timedelta, *, failed: bool = False) -> None:
        async with self._db.transaction() as tx:
            await store.put_back(tx.session, arrival, f"waits: {reason}"[:1000], self._now() + pause, failed=failed)
