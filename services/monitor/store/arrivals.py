"""SQL of when rows came and how many, by endpoint, and of what was told of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ..domain.arrivals import History, Volume
from ..domain.service.slots import MINUTE_S
from ..domain.windows import moment


@dataclass(frozen=True)
class Arrival:
    """Where the look at an endpoint's rows stands. Only the endpoint's owner changes it."""

    endpoint: str
    unit: str
    first: datetime
    """The first minute with rows."""
    newest: datetime
    minutes: int
    quiet_at: datetime | None = None
    """Since the newest row: when it was first seen that they stay away too long."""
    silent: bool = False
    """That was told."""
    volume: Volume | None = None
    """What was told of how many there are."""
    suspect: Volume | None = None
    suspect_at: datetime | None = None
    counted_at: datetime | None = None
    """When it was last looked at how many there are."""


async def to_look(session: AsyncSession) -> list[tuple[str, str]]:
    """Endpoints, each with its unit: those that serve, and those of which something is known."""
    select = """
        SELECT endpoint, unit FROM endpoint WHERE serving UNION SELECT endpoint, unit FROM arrival ORDER BY endpoint
    """
    return [(row.endpoint, row.unit) for row in await session.execute(text(select))]


async def arrival(session: AsyncSession, name: str) -> Arrival | None:
    """None of an endpoint that was not looked at yet."""
    row = (await session.execute(text("SELECT * FROM arrival WHERE endpoint = :e"), {"e": name})).mappings().first()
    return Arrival(**row) if row else None


async def save(session: AsyncSession, found: Arrival) -> None:
    """In place of what was known."""
    insert = """
        INSERT INTO arrival (endpoint, unit, first, newest, minutes, quiet_at, silent, volume, suspect, suspect_at,
                             counted_at)
        VALUES (:endpoint, :unit, :first, :newest, :minutes, :quiet_at, :silent, :volume, :suspect, :suspect_at,
                :counted_at)
        ON CONFLICT (endpoint) DO UPDATE SET unit = excluded.unit, first = excluded.first, newest = excluded.newest,
            minutes = excluded.minutes, quiet_at = excluded.quiet_at, silent = excluded.silent,
            volume = excluded.volume, suspect = excluded.suspect, suspect_at = excluded.suspect_at,
            counted_at = excluded.counted_at
    """
    await session.execute(text(insert), vars(found))


async def forget(session: AsyncSession, name: str) -> None:
    """Of an endpoint that serves no longer."""
    for table in ("arrival", "lull"):
        await session.execute(text(f"DELETE FROM {table} WHERE endpoint = :e"), {"e": name})


async def minutes(session: AsyncSession, name: str, after: datetime | None, at: datetime) -> Sequence[datetime]:
    """Minutes with rows after one, up to now, in order; without one those that are not hours yet.

    What is an hour already counts as its first minute.
    """
    select = "SELECT DISTINCT start FROM slot WHERE endpoint = :e AND start <= :at"
    select += " AND start > :after" if after else " AND length_s = :minute"
    values = {"e": name, "at": at} | ({"after": after} if after else {"minute": MINUTE_S})
    return list(await session.scalars(text(select + " ORDER BY start"), values))


async def add_lulls(session: AsyncSession, name: str, unit: str, found: Mapping[float, float]) -> None:
    """The longest time without rows, by hour."""
    insert = """
        INSERT INTO lull AS known (endpoint, unit, hour, longest_s) VALUES (:e, :u, :hour, :longest)
        ON CONFLICT (endpoint, hour) DO UPDATE SET longest_s = greatest(known.longest_s, excluded.longest_s)
    """
    values = [{"e": name, "u": unit, "hour": moment(hour), "longest": longest} for hour, longest in found.items()]
    if values:
        await session.execute(text(insert), values)


async def add_outage(session: AsyncSession, name: str, unit: str, hours: Sequence[float]) -> None:
    """A silence that was told reached into these hours: how many rows they had is usual of none."""
    insert = """
        INSERT INTO lull (endpoint, unit, hour, longest_s, outage) VALUES (:e, :u, :hour, 0, true)
        ON CONFLICT (endpoint, hour) DO UPDATE SET outage = true
    """
    await session.execute(text(insert), [{"e": name, "u": unit, "hour": moment(hour)} for hour in hours])


async def outages(session: AsyncSession, name: str) -> set[float]:
    """The hours of `add_outage`, by their starts."""
    hours = await session.scalars(text("SELECT hour FROM lull WHERE endpoint = :e AND outage"), {"e": name})
    return {hour.timestamp() for hour in hours}


async def history(session: AsyncSession, found: Arrival) -> History:
    """What is known of when rows came."""
    select = "SELECT hour, longest_s FROM lull WHERE endpoint = :e AND longest_s > 0"
    rows = await session.execute(text(select), {"e": found.endpoint})
    longest = {row.hour.timestamp(): row.longest_s for row in rows}
    return History(found.first.timestamp(), found.newest.timestamp(), found.minutes, longest)


async def by_hour(session: AsyncSession, name: str, since: datetime) -> Mapping[float, int]:
    """Rows by hour (its start), batches left out."""
    select = """
        SELECT date_trunc('hour', start, 'UTC') AS hour, sum(rows) AS rows FROM slot
        WHERE endpoint = :e AND start >= :since AND mode <> 'batch' GROUP BY 1
    """
    rows = await session.execute(text(select), {"e": name, "since": since})
    return {row.hour.timestamp(): int(row.rows) for row in rows}


async def lately(session: AsyncSession, name: str, since: datetime, until: datetime) -> int:
    """Rows in a span of at most a few hours, batches left out."""
    select = """
        SELECT coalesce(sum(rows), 0) FROM slot
        WHERE endpoint = :e AND start >= :since AND start < :until AND mode <> 'batch'
    """
    return int(await session.scalar(text(select), {"e": name, "since": since, "until": until}) or 0)


async def tidy(session: AsyncSession, kept: timedelta) -> None:
    """Forget old hours."""
    old = "DELETE FROM lull WHERE hour < now() - CAST(:kept AS interval)"
    await session.execute(text(old), {"kept": kept})
