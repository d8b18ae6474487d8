"""Routes of alerts: who is told of what, as people set it; each change is in the ledger."""

import orjson

from services.governor.domain.routing import EVERY_UNIT, Route
from services.governor.gateway import Channels
from services.governor.store import facts
from services.governor.store import routes as store
from services.governor.store.routes import Kept
from services.kit import inputs
from services.kit.auth import allow
from services.kit.context import Caller
from services.kit.db import Database, Tx
from services.kit.errors import Conflict, Invalid, NotFound
from services.kit.http import Page, page
from services.kit.ids import now


class Routes:
    """Keeps routes; nothing is told without one."""

    def __init__(self, db: Database, channels: Channels) -> None:
        self._db = db
        self._channels = channels

    async def put(self, caller: Caller, route: Route) -> tuple[Kept, bool]:
        """Make a route, or change it; answers also whether it is new.

        Raises Forbidden for another unit, Invalid naming an endpoint, use case or connection that is not there,
        Conflict where the name is another unit's or the route would move to another unit, Unavailable for a wrong
        connection.
        """
        allow(caller, "alert.configure", route.unit)
        for number, step in enumerate(route.steps):
            for place, channel in enumerate(step.channels):
                self._channels.check(channel, route.unit, f"steps.{number}.channels.{place}")
        async with self._db.transaction(unit=None if route.unit == EVERY_UNIT else route.unit) as tx:
            await _check_match(tx, route)
            await check_unit(tx, caller, route.unit)
            before = await store.get(tx.session, route.name)
            if not await store.save(tx.session, route, caller.actor, now()):
                raise Conflict(f"the name {route.name} is taken by a route of another unit")
            tx.record("alert.routed", route.name, unit=route.unit, route=route.model_dump_json())
            kept = await store.get(tx.session, route.name)
        assert kept
        return kept, before is None

    async def remove(self, caller: Caller, name: str) -> None:
        """Nobody is told over this route any more; of what is over, those are told who were told of it."""
        async with self._db.transaction() as tx:
            kept = await store.get(tx.session, name)
            if kept is None:
                raise NotFound(f"there is no route {name}")
            allow(caller, "alert.configure", kept.unit)
            await store.remove(tx.session, name)
            tx.record("alert.unrouted", name, unit=kept.unit, route=orjson.dumps(kept.document).decode())

    async def get(self, name: str) -> Kept:
        """One of the caller's units. Raises NotFound."""
        async with self._db.reading() as session:
            kept = await store.get(session, name)
        if kept is None:
            raise NotFound(f"there is no route {name}")
        return kept

    async def page(self, limit: int, cursor: str | None) -> Page[Kept]:
        """By name. Raises Invalid for a cursor that was not made here."""
        after = inputs.from_cursor(cursor, inputs.name)
        async with self._db.reading() as session:
            found = await store.page(session, limit + 1, after[0] if after else "")
        return page(found, limit, inputs.as_cursor(found[limit - 1].name) if found[limit:] else None)


async def _check_match(tx: Tx, route: Route) -> None:
    """A typo would be a route that tells nobody."""
    for place, endpoint in enumerate(route.match.endpoints):
        if await facts.revision(tx.session, endpoint) is None:
            raise Invalid(f"match.endpoints.{place}: there is no endpoint {endpoint}", f"match.endpoints.{place}")
    for place, use_case in enumerate(route.match.use_cases):
        if await facts.use_case(tx.session, use_case) is None:
            raise Invalid(f"match.use_cases.{place}: there is no use case {use_case}", f"match.use_cases.{place}")


async def check_unit(tx: Tx, caller: Caller, unit: str) -> None:
    """Raises Invalid for a unit that nobody knows: a typo would be a setting for nobody.

    A unit is known by the tokens that are of it and by what is registered in it; there is no list of units. Only who
    acts in all units can name one that is not there.
    """
    if unit == EVERY_UNIT or unit in caller.units or await facts.is_unit(tx.session, unit):
        return
    raise Invalid(
        f"unit: nothing is registered in a business unit {unit}; before anything is, one of its own people sets it",
        "unit",
    )


def unit_of(caller: Caller, given: str | None) -> str:
    """The unit that a setting is for: the one that is named, or the caller's only one. Raises Invalid."""
    if given is not None:
        return given
    if len(caller.units) != 1:
        raise Invalid(f"unit: name one of {', '.join(sorted(caller.units))}", "unit")
    return next(iter(caller.units))
