"""Routes of alerts, and how far an episode of an alert went along each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.governor.domain.routing import Route, Severity


@dataclass(frozen=True)
class Kept:
    """A route, and who changed it last."""

    name: str
    unit: str
    route: Route | None
    """None where this version cannot read it, for the reason in `problem`: it leads nowhere until it is set anew."""
    problem: str
    document: Any
    """As it is stored."""
    changed_by: str
    changed_at: datetime


@dataclass(frozen=True)
class Course:
    """One episode of an alert on its way along one route."""

    alert_id: UUID
    episode: int
    route: str
    step: int
    silenced: bool = False
    """This step was due before, in a silence."""
    worse: bool = False
    """It began again: the alert became more severe in its episode."""

    @property
    def key(self) -> str:
        return f"{self.alert_id} {self.episode} {self.route}"


async def save(session: AsyncSession, route: Route, actor: str, at: datetime) -> bool:
    """Keep a route; answers whether it was kept: not where its name is another unit's."""
    upsert = """
        INSERT INTO alert_route (name, unit, document, changed_by, changed_at)
        VALUES (:name, :unit, CAST(:document AS jsonb), :actor, :at) ON CONFLICT (name) DO NOTHING RETURNING 1
    """
    update = """
        UPDATE alert_route SET document = CAST(:document AS jsonb), changed_by = :actor, changed_at = :at
        WHERE name = :name AND unit = :unit RETURNING 1
    """
    row = {"name": route.name, "unit": route.unit, "document": route.model_dump_json(), "actor": actor, "at": at}
    for statement in (upsert, update):
        if (await session.execute(text(statement), row)).first() is not None:
            return True
    return False


async def remove(session: AsyncSession, name: str) -> None:
    """Forget a route and what is under way on it; what was told on it stays."""
    await session.execute(text("DELETE FROM alert_route WHERE name = :name"), {"name": name})


async def get(session: AsyncSession, name: str) -> Kept | None:
    """A route that the caller may see."""
    row = (await session.execute(text(f"{_KEPT} WHERE name = :name"), {"name": name})).first()
    return _kept(row) if row else None


async def page(session: AsyncSession, limit: int, after: str) -> list[Kept]:
    """By name, those after `after`."""
    select = f"{_KEPT} WHERE name > :after ORDER BY name LIMIT :limit"
    return [_kept(row) for row in await session.execute(text(select), {"after": after, "limit": limit})]


async def of_units(session: AsyncSession, units: Sequence[str]) -> list[Kept]:
    """All routes of some units."""
    found = await session.execute(text(f"{_KEPT} WHERE unit = ANY (:units) ORDER BY name"), {"units": units})
    return [_kept(row) for row in found]


async def unreadable(session: AsyncSession) -> list[str]:
    """The names of those that cannot be read."""
    found = await session.execute(text(f"{_KEPT} ORDER BY name"))
    return [kept.name for kept in map(_kept, found) if kept.route is None]


_KEPT = "SELECT name, unit, document, changed_by, changed_at FROM alert_route"


def _kept(row: Any) -> Kept:
    route, problem = None, ""
    try:
        route = Route.model_validate(row.document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        problem = f"this version cannot read it: {'.'.join(map(str, first['loc']))}: {first['msg']}"[:500]
    return Kept(row.name, row.unit, route, problem, row.document, row.changed_by, row.changed_at)


async def start(session: AsyncSession, course: Course, severity: str, due_at: datetime) -> None:
    """Begin an episode's course along a route; again for an alert that became worse. Else it goes on as it is."""
    insert = """
        INSERT INTO alert_course AS known (alert_id, episode, route, severity, due_at, worse)
        SELECT :alert, :episode, :route, CAST(:severity AS text), :at, EXISTS (
            SELECT FROM alert_told WHERE alert_id = :alert AND episode = :episode AND what = 'raised'
               AND array_position(CAST(:order AS text[]), severity)
                 < array_position(CAST(:order AS text[]), CAST(:severity AS text)))
        ON CONFLICT (alert_id, episode, route) DO UPDATE
        SET step = 0, due_at = excluded.due_at, severity = excluded.severity, worse = true, silenced = false
        WHERE array_position(CAST(:order AS text[]), known.severity)
            < array_position(CAST(:order AS text[]), excluded.severity)
    """
    row = {"alert": course.alert_id, "episode": course.episode, "route": course.route, "severity": severity}
    await session.execute(text(insert), row | {"at": due_at, "order": list(get_args(Severity))})


async def next_due(session: AsyncSession, at: datetime, aside: Sequence[str]) -> Course | None:
    """A course that is due and whose key is not among these, held until the transaction ends; those that others hold
    are theirs."""
    select = """
        SELECT alert_id, episode, route, step, silenced, worse FROM alert_course
        WHERE due_at <= :at AND concat_ws(' ', alert_id, episode, route) <> ALL (:aside)
        ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED
    """
    row = (await session.execute(text(select), {"at": at, "aside": aside})).mappings().first()
    return Course(**row) if row else None


async def move(
    session: AsyncSession, course: Course, step: int, due_at: datetime | None, *, silenced: bool = False
) -> None:
    """A course goes on with this step at that time; None: it is over."""
    update = """
        UPDATE alert_course SET step = :step, due_at = :at, silenced = :silenced
        WHERE alert_id = :alert AND episode = :episode AND route = :route
    """
    row = {"alert": course.alert_id, "episode": course.episode, "route": course.route, "step": step, "at": due_at}
    row |= {"silenced": silenced}
    await session.execute(text(update), row)
