"""Judges whether rows come as they use to: one owner per endpoint looks at the clock, since no window closes without
rows."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from contracts import InferenceLogged
from services.kit.alerts import raise_alert, resolve_alert
from services.kit.context import Context, system, use
from services.kit.db import Database, Tx
from services.kit.errors import NotFound
from services.kit.ids import now

from .. import metrics, store
from ..domain.arrivals import (
    CONFIRM_S,
    KEPT_S,
    LEAST_SILENT_S,
    VOLUME_CONFIRM_S,
    ReadUpTo,
    Usual,
    hours_of,
    lulls,
    usual,
)
from ..store import Endpoint, arrivals
from ..store.arrivals import Arrival
from .owning import every, owned

SILENT, VOLUME = "no-traffic", "traffic-volume"
"""The alerts about an endpoint's rows."""
_HOUR, _COUNT_EVERY = timedelta(hours=1), timedelta(minutes=5)


class Arrivals:
    """The owner's work: each endpoint that serves, in one transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def judge(self, at: datetime | None = None) -> dict[str, str]:
        """All of them, as of now unless another moment is given; answers by endpoint why it failed, where it did. The
        next round tries again."""
        at = at or now()
        with use(Context(system("monitor"))):
            async with self._db.reading() as session:
                waiting = await arrivals.to_look(session)
                reached, seen = await store.reached(session), await store.seen(session)
        read = ReadUpTo.of(reached, seen, InferenceLogged.topic.partitions)
        metrics.UNREAD.set(len(read.behind))
        read = replace(read, at=min(at, read.at) if read.at else None)
        failed = await every("arrivals", [(name, unit, at, read) for name, unit in waiting], self._judge)
        behind = {
            f"partition {number} of {InferenceLogged.topic.name}": f"stands still, {_read(since)}"
            for number, since in read.behind.items()
        }
        return failed | behind

    async def _judge(self, one: tuple[str, str, datetime, ReadUpTo]) -> None:
        """As of the moment up to which the log is read: what was not read is not missing. None judges nothing yet."""
        name, unit, at, upto = one
        async with owned(self._db, name, unit) as tx:
            if tx is None:
                return
            try:
                endpoint = await store.endpoint(tx.session, name)
            except NotFound:
                return
            known = await arrivals.arrival(tx.session, name)
            if endpoint.serving:
                await self._look(tx, endpoint, known, await _learn(tx, endpoint, known, at), upto)
            elif known:
                _end(tx, endpoint, known, "the endpoint is removed")
                await arrivals.forget(tx.session, name)

    async def _look(
        self, tx: Tx, endpoint: Endpoint, known: Arrival | None, found: Arrival | None, upto: ReadUpTo
    ) -> None:
        if found is None:
            return
        if not endpoint.settings.quality_alerts:
            _end(tx, endpoint, found, "alerts of data quality are off")
            found = replace(found, quiet_at=None, silent=False, volume=None, suspect=None, suspect_at=None)
        elif upto.at:
            found = await _silence(tx, endpoint, found, upto.at, upto.behind)
            # With a part of the log unread fewer rows are counted than came.
            is_due = found.counted_at is None or upto.at - found.counted_at >= _COUNT_EVERY
            if is_due and not found.silent and not upto.behind:
                found = await _volume(tx, endpoint, found, upto.at)
        if found != known:
            await arrivals.save(tx.session, found)


async def _learn(tx: Tx, endpoint: Endpoint, known: Arrival | None, at: datetime) -> Arrival | None:
    """With the minutes that had rows since the last look; a silence that was told is over, and is no history."""
    name, unit = endpoint.endpoint, endpoint.unit
    came = await arrivals.minutes(tx.session, name, known.newest if known else None, at)
    if not came:
        return known
    usual_from = [known.newest] if known and not known.silent else []
    found = lulls([minute.timestamp() for minute in (*usual_from, *came)])
    await arrivals.add_lulls(tx.session, name, unit, found)
    if known is None:
        return Arrival(name, unit, came[0], came[-1], len(came))
    if known.silent:
        resolve_alert(tx, SILENT, name, f"rows came at {came[0]:%Y-%m-%d %H:%M} UTC", unit=unit)
        silent = hours_of(known.newest.timestamp(), came[0].timestamp())
        await arrivals.add_outage(tx.session, name, unit, silent)
        # An hour that the silence reaches into says nothing of how many rows come now.
        known = replace(known, counted_at=came[0] + _HOUR)
    return replace(known, unit=unit, newest=came[-1], minutes=known.minutes + len(came), quiet_at=None, silent=False)


async def _silence(
    tx: Tx, endpoint: Endpoint, found: Arrival, at: datetime, behind: Mapping[int, datetime | None]
) -> Arrival:
    away_s = (at - found.newest).total_seconds()
    set_s = endpoint.settings.silent_after_s or None
    if found.silent or away_s < (set_s or LEAST_SILENT_S):
        return found
    usual_s = set_s or (await arrivals.history(tx.session, found)).silent_after_s(at.timestamp())
    if usual_s is None or away_s < usual_s:
        return replace(found, quiet_at=None)
    if found.quiet_at is None:
        return replace(found, quiet_at=at)
    if (at - found.quiet_at).total_seconds() < CONFIRM_S:
        return found
    name = endpoint.endpoint
    because = "is set" if set_s else "its history explains at this time"
    much = f"no row for {_length(away_s)}; {_length(usual_s)} {because}"
    raise_alert(
        tx, SILENT, name, "warning", f"{name} gets no more rows",
        f"the newest row came at {found.newest:%Y-%m-%d %H:%M} UTC: {much}{_unread(behind)}",
        "Look whether its callers run and reach the platform, and whether the inference log flows (fairlead service "
        f"{name}); where it is asked no more on purpose, remove the endpoint or switch quality_alerts off.",
        unit=endpoint.unit, since=found.newest, how_much=much,
    )  # fmt: skip
    tx.then.append(metrics.FOUND.labels(name, SILENT).inc)
    if found.volume:
        resolve_alert(tx, VOLUME, name, "there are no rows at all", unit=endpoint.unit)
    return replace(found, silent=True, volume=None, suspect=None, suspect_at=None)


def _read(since: datetime | None) -> str:
    return f"read up to {since:%Y-%m-%d %H:%M} UTC" if since else "nothing of it was read yet"


def _unread(behind: Mapping[int, datetime | None]) -> str:
    """What the alarm says of partitions that it does not wait for."""
    told = ", ".join(f"partition {number} ({_read(since)})" for number, since in behind.items())
    return f"; rows may lie unread in the inference log: {told}" if told else ""


async def _volume(tx: Tx, endpoint: Endpoint, found: Arrival, at: datetime) -> Arrival:
    until = at.replace(second=0, microsecond=0)
    hours = await arrivals.by_hour(tx.session, endpoint.endpoint, at - timedelta(seconds=KEPT_S))
    outages = await arrivals.outages(tx.session, endpoint.endpoint)
    like = usual(hours, found.first.timestamp(), at.timestamp(), outages)
    found = replace(found, counted_at=at)
    if like is None:
        return found
    rows = await arrivals.lately(tx.session, endpoint.endpoint, until - _HOUR, until)
    departs = like.departs(rows, found.volume)
    if departs == "fewer" and (at - found.newest).total_seconds() > LEAST_SILENT_S:
        return found  # none at all is a silence, or not one yet
    if found.volume:
        if departs is None:
            resolve_alert(tx, VOLUME, endpoint.endpoint, f"{rows:,} rows in the last hour", unit=endpoint.unit)
        return replace(found, volume=departs, suspect=None, suspect_at=None)
    if departs is None or departs != found.suspect or found.suspect_at is None:
        return replace(found, suspect=departs, suspect_at=at if departs else None)
    if (at - found.suspect_at).total_seconds() < VOLUME_CONFIRM_S:
        return found
    _say_volume(tx, endpoint, like, rows, more=departs == "more", until=until)
    return replace(found, volume=departs, suspect=None, suspect_at=None)


def _say_volume(tx: Tx, endpoint: Endpoint, like: Usual, rows: int, *, more: bool, until: datetime) -> None:
    name = endpoint.endpoint
    much = f"{rows:,} rows in the last hour; {like.low:,.0f} to {like.high:,.0f} were usual in hours like it"
    raise_alert(
        tx, VOLUME, name, "warning", f"{name} gets {'many more' if more else 'far fewer'} rows than usual", much,
        "Look whether a caller repeats its requests or runs twice." if more else
        "Look whether a caller is missing, filters its requests or is refused (fairlead service "
        f"{name}).",
        unit=endpoint.unit, since=until - _HOUR, how_much=much,
    )  # fmt: skip
    tx.then.append(metrics.FOUND.labels(name, VOLUME).inc)


def _end(tx: Tx, endpoint: Endpoint, found: Arrival, reason: str) -> None:
    for kind, told in ((SILENT, found.silent), (VOLUME, found.volume)):
        if told:
            resolve_alert(tx, kind, endpoint.endpoint, reason, unit=endpoint.unit)


def _length(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes / 60:.3g} h" if minutes < 48 * 60 else f"{minutes / 1440:.3g} d"
