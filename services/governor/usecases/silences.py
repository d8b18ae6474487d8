"""Silences as people make and end them; each is in the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from services.governor.domain.silence import Silence, check
from services.governor.store import facts
from services.governor.store import silences as store
from services.kit.auth import allow
from services.kit.context import Caller
from services.kit.db import Database, Tx
from services.kit.errors import Invalid, NotFound
from services.kit.http import Page, page
from services.kit.ids import now, uuid7

from .places import moment_and_id, place
from .routes import check_unit, unit_of


@dataclass(frozen=True)
class Ask:
    """What somebody wants to be silent, from when (None: now) to when."""

    unit: str | None
    endpoint: str | None
    kind: str | None
    starts_at: datetime | None
    ends_at: datetime
    comment: str


class Silences:
    """Maintenance windows. What is raised meanwhile is kept, and told at their end where it is still open."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def make(self, caller: Caller, ask: Ask) -> Silence:
        """Raises Invalid naming what is wrong, an endpoint that is not there included, and Forbidden."""
        made_at = now()
        async with self._db.transaction() as tx:
            silence = Silence(
                id=uuid7(), unit=await _unit(tx, caller, ask), endpoint=ask.endpoint, kind=ask.kind,
                starts_at=ask.starts_at or made_at, ends_at=ask.ends_at, comment=ask.comment, author=caller.actor,
                made_at=made_at,
            )  # fmt: skip
            allow(caller, "alert.configure", silence.unit)
            check(silence)
            await check_unit(tx, caller, silence.unit)
            await store.add(tx.session, silence)
            _record(tx, "alert.silenced", silence)
        return silence

    async def end(self, caller: Caller, id: UUID) -> Silence:
        """End one before its time. Raises NotFound, Forbidden, Conflict where it is over."""
        async with self._db.transaction() as tx:
            silence = await store.get(tx.session, id, lock=True)
            if silence is None:
                raise NotFound(f"there is no silence {id}")
            allow(caller, "alert.configure", silence.unit)
            ended = replace(silence, ends_at=silence.ended(now()), ended_by=caller.actor)
            await store.end(tx.session, id, ended.ends_at, caller.actor)
            _record(tx, "alert.unsilenced", ended)
        return ended

    async def get(self, id: UUID) -> Silence:
        """One of the caller's units. Raises NotFound."""
        async with self._db.reading() as session:
            silence = await store.get(session, id)
        if silence is None:
            raise NotFound(f"there is no silence {id}")
        return silence

    async def page(self, states: Sequence[str], limit: int, cursor: str | None) -> Page[Silence]:
        """The last made first. Raises Invalid for a cursor that was not made here."""
        before = moment_and_id(cursor)
        async with self._db.reading() as session:
            found = await store.page(session, states=states, at=now(), limit=limit + 1, before=before)
        return page(found, limit, place(found[limit - 1].made_at, found[limit - 1].id) if found[limit:] else None)


async def _unit(tx: Tx, caller: Caller, ask: Ask) -> str:
    """An endpoint's own unit, else the one that is named, or the caller's."""
    if ask.endpoint is None:
        return unit_of(caller, ask.unit)
    unit = await facts.unit_of_endpoint(tx.session, ask.endpoint)
    if unit is None:
        raise Invalid(f"endpoint: there is no endpoint {ask.endpoint}", "endpoint")
    if ask.unit not in (None, unit):
        raise Invalid(f"unit: {ask.endpoint} is of unit {unit}", "unit")
    return unit


def _record(tx: Tx, action: str, silence: Silence) -> None:
    tx.record(
        action, silence.endpoint or silence.kind or "", unit=silence.unit, silence_id=str(silence.id),
        endpoint=silence.endpoint, kind=silence.kind, starts_at=silence.starts_at.isoformat(),
        ends_at=silence.ends_at.isoformat(), comment=silence.comment,
    )  # fmt: skip
