"""What callers can do with schedules."""

from collections.abc import Awaitable, Callable
from typing import Literal
from uuid import UUID

from services.kit.connections.files import plain_path
from services.kit.context import Caller
from services.kit.db import Database
from services.kit.ids import now, uuid7

from ...endpoints import Endpoint
from ..places import Place, Places
from ..usecases import named
from . import store
from .domain import Order, Run, Schedule

_RUNS = 20
Find = Callable[[str, Caller], Awaitable[Endpoint]]


class Schedules:
    """Rows in PostgreSQL; `Keeper` follows them."""

    def __init__(self, db: Database, find: Find, places: Places) -> None:
        self._db = db
        self._find = find
        self._places = places

    async def add(self, caller: Caller, order: Order) -> Schedule:
        """A standing order. Raises Invalid naming what is wrong, or NotFound."""
        found = await self._find(order.endpoint, caller)
        at = now()
        order.check(at)
        named(found, order.version)
        self._check(order, found.unit)
        schedule = Schedule(
            id=uuid7(), unit=found.unit, endpoint=order.endpoint, application=caller.actor,
            said=order.model_dump_json(), state="active", next_at=order.next_at(at),
            missed=0, reason=None, created_at=at,
        )  # fmt: skip
        async with self._db.transaction(unit=found.unit) as tx:
            await store.add(tx.session, schedule)
            tx.record("batch.scheduled", f"{order.endpoint}/{schedule.id}", order=schedule.said)
        return schedule

    def _check(self, order: Order, unit: str) -> None:
        if order.output:
            self._places.check(order.output, unit, "output")
        if order.input:
            self._places.check(order.input_at(now()), unit, "input")
        if order.arrives:
            plain_path(order.arrives.prefix.rstrip("/"), "arrives.prefix")
            folder = Place(connection=order.arrives.connection, path="file")
            self._places.check(folder, unit, "arrives")

    async def latest(self, limit: int, before: UUID | None) -> list[Schedule]:
        """The caller's, newest first."""
        async with self._db.reading() as session:
            return await store.latest(session, limit, before)

    async def show(self, id: UUID) -> tuple[Schedule, list[Run]]:
        """One of the caller's units, and its latest runs. Raises NotFound."""
        async with self._db.reading() as session:
            return await store.get(session, id), await store.runs(session, id, _RUNS)

    async def turn(self, id: UUID, state: Literal["active", "paused"]) -> Schedule:
        """Pause, or go on: with the next time, not with those that have passed."""
        found, _ = await self.show(id)
        goes_on = state == "active" and found.state == "paused"
        next_at = found.order.next_at(now()) if goes_on else found.next_at
        async with self._db.transaction(unit=found.unit) as tx:
            await store.change(tx.session, id, state=state, next_at=next_at, reason=None)
            tx.record(f"batch.schedule.{state}", f"{found.endpoint}/{id}")
        return (await self.show(id))[0]

    async def delete(self, id: UUID) -> None:
        """Its batches stay. Raises NotFound."""
        found, _ = await self.show(id)
        async with self._db.transaction(unit=found.unit) as tx:
            await store.delete(tx.session, id)
            tx.record("batch.unscheduled", f"{found.endpoint}/{id}")
