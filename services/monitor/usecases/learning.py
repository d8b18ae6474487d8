"""Learns seasons that nobody declared: while an alarm is open it asks whether one explains what past hours counted."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby

from services.kit.context import Context, system, use
from services.kit.db import Database, Tx
from services.kit.errors import NotFound
from services.kit.telemetry import get_logger

from .. import store
from ..domain.grouped import Grouped
from ..domain.outcomes.decided import Decided
from ..domain.rhythm import KEPT_S, PERIODS, candidates, learned
from ..domain.traffic import Traffic
from ..domain.trial import Setting
from ..domain.watch import Watch
from ..domain.windows import HOUR_S, Block, Part, coalesced, merged, moment, window_start
from ..store import Endpoint, recorded, seasons
from ..store.recorded import Recorded
from .ending import end_alarms
from .owning import every
from .versions import Versions, Watched

log = get_logger(__name__)

_AT_ONCE, _PAGE = 200, 500


class Learning:
    """The owner's work: endpoints without a season that is set, one after the other."""

    def __init__(self, db: Database, versions: Versions) -> None:
        self._db, self._versions = db, versions

    async def look(self) -> dict[str, str]:
        """At all of them; answers by endpoint why it failed, where it did. The next round tries again."""
        found: list[tuple[str, str]] = []
        after = ""
        with use(Context(system("monitor"))):
            while True:
                async with self._db.reading() as session:
                    page = await store.endpoints(session, after, _PAGE)
                if not page:
                    break
                found += [(one.endpoint, one.unit) for one in page if one.serving and one.settings.season_s is None]
                after = page[-1].endpoint
        return await every("seasons", found, self._look)

    async def _look(self, one: tuple[str, str]) -> None:
        name, unit = one
        with use(Context(system("monitor", unit))):
            async with self._db.reading() as session:
                endpoint = await store.endpoint(session, name)
                watch = await store.watch(session, name, endpoint.version)
            if not _alarmed(watch):
                await self._forget(endpoint)
                return
            watched = await self._versions.find(name, endpoint.version)
            if watched.reference is None or not candidates(endpoint.settings.window_s, endpoint.learned_season_s):
                return
            while some := await self._fold(name, endpoint.version, watched):
                pass
            if some is not None:
                await self._explain(endpoint, watched)

    async def _forget(self, endpoint: Endpoint) -> None:
        """What was counted for an alarm that is over: with a gap in it, hours of the next one would prove too much."""
        async with self._db.transaction() as tx:
            await seasons.forget(tx.session, endpoint.endpoint)

    async def _fold(self, name: str, version: int, watched: Watched) -> bool | None:
        """Put the windows into their hours that closed since the last look, so many at once; whether there were any.
        None where another worker owns the endpoint, or it is no longer to be looked at."""
        async with self._db.transaction() as tx:
            endpoint = await _still(tx, name, version) if await store.own(tx.session, name) else None
            if endpoint is None:
                return None
            upto = await seasons.upto(tx.session, endpoint)
            found = await recorded.windows(tx.session, name, version, upto, _AT_ONCE)
            for start, some in groupby(found, lambda each: moment(window_start(each.start.timestamp(), HOUR_S))):
                await _add(tx, endpoint, start, [*some], watched)
            if found:
                await seasons.forget_hours(tx.session, endpoint, found[-1].start - timedelta(seconds=KEPT_S))
            return bool(found)

    async def _explain(self, endpoint: Endpoint, watched: Watched) -> None:
        """One worker asks, once of the same hours: it takes a core for seconds, and no transaction waits for it."""
        async with self._db.transaction() as tx:
            watch = await store.watch(tx.session, endpoint.endpoint, endpoint.version)
            upto = await seasons.ask(tx.session, endpoint) if _alarmed(watch) else None
            if upto is None:
                return
            found = await seasons.hours(tx.session, endpoint, upto - timedelta(seconds=KEPT_S))
        hours = _blocks(found, upto, watched)
        for period_s in candidates(endpoint.settings.window_s, endpoint.learned_season_s):
            assert watched.reference is not None
            settings = endpoint.settings
            setting = Setting(settings.budget_rows, settings.tolerance, period_s, watched.segmented, settings.detectors)
            watch = await asyncio.to_thread(learned, watched.reference, hours, setting)
            if watch:
                groups = await asyncio.to_thread(_groups, found, upto, watched.grouped, setting)
                await self._adopt(endpoint, period_s, watch, groups)
                return

    async def _adopt(self, endpoint: Endpoint, period_s: float, watch: Watch, groups: Watch | None) -> None:
        name, called = endpoint.endpoint, PERIODS[period_s]
        reason = f"a {called} season was learned, which explains it"
        async with self._db.transaction() as tx:
            await store.lock(tx.session, name)
            still = await _still(tx, name, endpoint.version)
            before = await store.watch(tx.session, name, endpoint.version)
            if still is None or before is None or not _alarmed(before):
                return
            last_s = max(watch.last_s, before.last_s)
            await seasons.learn(tx.session, name, period_s)
            await store.save_watch(tx.session, still, replace(watch, last_s=last_s))
            if groups:
                await store.save_watch(tx.session, still, replace(groups, last_s=last_s), "group_watch")
            await end_alarms(tx, still, reason, "data")
            tx.record("monitor.season-learned", name, unit=still.unit, season_s=period_s)
            tx.then.append(self._versions.outdate)
        log.info("a season was learned", endpoint=name, season_s=period_s)


async def _still(tx: Tx, name: str, version: int) -> Endpoint | None:
    """The endpoint, which is owned, if it is still to be looked at."""
    try:
        endpoint = await store.endpoint(tx.session, name)
    except NotFound:
        return None
    is_same = endpoint.serving and endpoint.version == version and endpoint.settings.season_s is None
    return endpoint if is_same else None


def _alarmed(watch: Watch | None) -> bool:
    """Whether the columns as wholes departed, and nobody accepted it."""
    return watch is not None and watch.phase == "alarmed"


async def _add(tx: Tx, endpoint: Endpoint, start: datetime, windows: Sequence[Recorded], watched: Watched) -> None:
    known = [part for at, part in await seasons.hours(tx.session, endpoint, start) if at == start]
    whole = merged([*known, *(_counts(watched, window.part) for window in windows)])
    blocks = tuple(coalesced(whole.blocks, sum(block.rows for block in whole.blocks)))
    await seasons.save_hour(tx.session, endpoint, start, windows[-1].start, replace(whole, blocks=blocks))


def _counts(watched: Watched, part: Part) -> Part:
    """What the detectors need of a window."""
    return replace(watched.fitting(part), decided=Decided(), traffic=Traffic())


def _blocks(found: Sequence[tuple[datetime, Part]], upto: datetime, watched: Watched) -> list[Block]:
    """Whole hours, each at its middle: there its own slot of the season says all of it."""
    assert watched.reference is not None
    return [
        replace(block, start_s=middle_s)
        for middle_s, part in _whole(found, upto)
        for block in part.blocks
        if block.counts.shape == watched.reference.counts.shape
    ]


def _groups(
    found: Sequence[tuple[datetime, Part]], upto: datetime, grouped: Grouped | None, setting: Setting
) -> Watch | None:
    """Where the watch of groups stands after the same hours; None where they tell nothing of groups."""
    if grouped is None:
        return None
    some, hours = grouped.under(setting.season), _whole(found, upto)
    blocks = [
        replace(block, start_s=middle_s) for middle_s, part in hours if (block := some.block(part, setting.season))
    ]
    return some.replayed(blocks, setting.season, setting.budget_of_groups) if blocks else None


def _whole(found: Sequence[tuple[datetime, Part]], upto: datetime) -> list[tuple[float, Part]]:
    """Hours that are over, by their middles."""
    ends = upto - timedelta(seconds=HOUR_S)
    return [(start.timestamp() + HOUR_S / 2, part) for start, part in found if start <= ends]
