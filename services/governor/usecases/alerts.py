"""Alerts of all services: their state and their owner."""

from collections.abc import Sequence
from uuid import UUID

from contracts import AlertRaised, AlertResolved
from services.governor.domain.alert import check_closing
from services.governor.store import alerts as store
from services.governor.store import messages
from services.governor.store.alerts import Alert
from services.governor.store.messages import Shown
from services.kit.auth import allow
from services.kit.bus import current_envelope
from services.kit.context import Caller
from services.kit.db import Database
from services.kit.errors import Conflict, NotFound, NotYet
from services.kit.http import Page, page
from services.kit.ids import now
from services.kit.inputs import as_cursor, from_cursor, position

from . import alarms
from .places import moment_and_id, place


class Alerts:
    """Hears alerts, keeps who takes care of them."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def raise_(self, event: AlertRaised) -> None:
        """Keep an alert, or count it."""
        about = current_envelope()
        async with self._db.transaction() as tx:
            if alarms.is_ours(event, about.source):
                return
            await store.raised(tx.session, event, about.unit, about.source, about.time)

    async def resolve(self, event: AlertResolved) -> None:
        """What an alert told of is over. Raises NotYet for one that has not arrived."""
        async with self._db.transaction() as tx:
            if not await store.resolved(tx.session, event.alert_id, event.reason, current_envelope().time):
                raise NotYet(f"alert {event.alert_id} is not known here yet")

    async def acknowledge(self, id: UUID, caller: Caller, comment: str | None) -> Alert:
        """Take care of an alert. Raises Conflict when somebody else does, or it is over."""
        async with self._db.transaction() as tx:
            alert = await store.lock(tx.session, id)
            if alert is None:
                raise NotFound(f"there is no alert {id}")
            if alert.state == "resolved":
                raise Conflict(f"this alert is over: {alert.resolution}")
            if alert.owner not in (None, caller.actor):
                raise Conflict(f"{alert.owner} takes care of this alert already")
            await store.acknowledge(tx.session, id, caller.actor, comment, now())
            tx.record("alert.acknowledged", alert.subject, unit=alert.unit, alert_id=str(id), comment=comment)
            acknowledged = await store.get(tx.session, id)
        assert acknowledged
        return acknowledged

    async def close(self, id: UUID, caller: Caller, reason: str) -> Alert:
        """End an alert that nothing but a person can end. Raises NotFound, Conflict, Forbidden."""
        async with self._db.transaction() as tx:
            known = await store.lock(tx.session, id)
            if known is None:
                raise NotFound(f"there is no alert {id}")
            allow(caller, "alert.close", known.unit)
            check_closing(known.kind, known.state, known.resolution)
            await store.resolved(tx.session, id, f"{caller.actor}: {reason}", now())
            over = AlertResolved(alert_id=id, subject=known.subject, reason=f"{caller.actor}: {reason}")
            tx.emit(over, unit=known.unit, detail={"kind": known.kind, "reason": reason})
            closed = await store.get(tx.session, id)
        assert closed
        return closed

    async def page(self, states: Sequence[str], subject: str | None, limit: int, cursor: str | None) -> Page[Alert]:
        """Alerts, the last raised first. Raises Invalid for a cursor that was not made here."""
        before = moment_and_id(cursor)
        async with self._db.reading() as session:
            found = await store.page(session, states=states, subject=subject, limit=limit + 1, before=before)
        return page(found, limit, place(found[limit - 1].last_at, found[limit - 1].id) if found[limit:] else None)

    async def messages(self, states: Sequence[str], alert: UUID | None, limit: int, cursor: str | None) -> Page[Shown]:
        """What was told of alerts, to whom, and what became of it; newest first. Raises Invalid as `page`."""
        before = from_cursor(cursor, position)
        async with self._db.reading() as session:
            found = await messages.page(
                session, states=states, alert=alert, limit=limit + 1, before=before[0] if before else None
            )
        return page(found, limit, as_cursor(found[limit - 1].number) if found[limit:] else None)
