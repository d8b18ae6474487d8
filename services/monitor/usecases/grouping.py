"""Watches columns within the groups of segments: a second detector beside that of the wholes, one alarm of both."""

import asyncio
from dataclasses import replace

from services.kit.db import Tx

from .. import store
from ..domain.budget import of_segments
from ..domain.grouped import Grouped
from ..domain.watch import Finding, Watch
from ..domain.windows import Block, Part, window_start
from ..store import Endpoint, WindowKey
from .remembering import remember


async def observe(tx: Tx, key: WindowKey, endpoint: Endpoint, grouped: Grouped, part: Part) -> Finding | None:
    """Show a window of the version that serves; answers what is to be told of groups."""
    known, some = await _known(tx, endpoint, grouped)
    block = some.block(part, known.season)
    if block is None:
        return None
    seen = await asyncio.to_thread(known.observe, [block], key.start.timestamp(), of_segments(endpoint.budget_rows))
    if known.phase == "watching" and seen.phase == "doubting" and seen.since_s is not None:
        began_s = window_start(seen.since_s, endpoint.settings.window_s)
        seen = await _with_earlier(tx, key, some, replace(seen, since_s=began_s), began_s)
    watch, finding = await asyncio.to_thread(seen.judge, some.reference, endpoint.settings.tolerance)
    await store.save_watch(tx.session, endpoint, watch, "group_watch")
    return finding


async def follow(tx: Tx, key: WindowKey, endpoint: Endpoint, grouped: Grouped, part: Part, since_s: float) -> None:
    """The wholes are alarmed from this window on: groups are silent until what is seen is accepted, as their normal,
    too."""
    known, some = await _known(tx, endpoint, grouped)
    block = some.block(part, known.season)
    if block is not None and known.phase != "alarmed":
        seen = await _with_earlier(tx, key, some, known.silenced(since_s), since_s)
        await store.save_watch(tx.session, endpoint, seen.remember([block]), "group_watch")


async def _known(tx: Tx, endpoint: Endpoint, grouped: Grouped) -> tuple[Watch, Grouped]:
    """Where watching stands, and what is watched: under the season that holds, or the one of an alarm that is open."""
    known = await store.watch(tx.session, endpoint.endpoint, endpoint.version, "group_watch")
    season = known.season if known and known.phase == "alarmed" else endpoint.season
    some = grouped.under(season)
    return known.suited(some.reference, season) if known else Watch.start(some.reference, season), some


async def _with_earlier(tx: Tx, key: WindowKey, grouped: Grouped, watch: Watch, since_s: float) -> Watch:
    def fitting(part: Part) -> list[Block]:
        return [block] if (block := grouped.block(part, watch.season)) else []

    return await remember(tx, key, watch, since_s, fitting)
