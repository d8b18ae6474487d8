"""Watches columns within the groups of segments: a second detector beside that of the wholes, one alarm of both."""

import asyncio

from services.kit.db import Tx

from .. import store
from ..domain.budget import of_segments, within_groups
from ..domain.grouped import Grouped
from ..domain.season import NONE
from ..domain.watch import Finding, Watch
from ..domain.windows import Block, Part
from ..store import Endpoint, WindowKey
from .remembering import remember


async def observe(tx: Tx, key: WindowKey, endpoint: Endpoint, grouped: Grouped, part: Part) -> Finding | None:
    """Show a window of the version that serves; answers what is to be told of groups. Of an endpoint with a season
    nothing is: its slots times its groups are too many."""
    block = grouped.block(part)
    if block is None or not within_groups(endpoint.season):
        return None
    known = await _known(tx, endpoint, grouped)
    seen = await asyncio.to_thread(known.observe, [block], key.start.timestamp(), of_segments(endpoint.budget_rows))
    if known.phase == "watching" and seen.phase == "doubting" and seen.since_s is not None:
        seen = await _with_earlier(tx, key, grouped, seen, seen.since_s)
    watch, finding = seen.judge(grouped.reference, endpoint.settings.tolerance)
    await store.save_watch(tx.session, endpoint, watch, "group_watch")
    return finding


async def follow(tx: Tx, key: WindowKey, endpoint: Endpoint, grouped: Grouped, part: Part, since_s: float) -> None:
    """The wholes are alarmed from this window on: groups are silent until what is seen is accepted, as their normal,
    too."""
    block = grouped.block(part)
    if block is None or not within_groups(endpoint.season):
        return
    known = await _known(tx, endpoint, grouped)
    if known.phase != "alarmed":
        seen = await _with_earlier(tx, key, grouped, known.silenced(since_s), since_s)
        await store.save_watch(tx.session, endpoint, seen.remember([block]), "group_watch")


async def _known(tx: Tx, endpoint: Endpoint, grouped: Grouped) -> Watch:
    known = await store.watch(tx.session, endpoint.endpoint, endpoint.version, "group_watch")
    return known.suited(grouped.reference, NONE) if known else Watch.start(grouped.reference)


async def _with_earlier(tx: Tx, key: WindowKey, grouped: Grouped, watch: Watch, since_s: float) -> Watch:
    def fitting(part: Part) -> list[Block]:
        return [block] if (block := grouped.block(part)) else []

    return await remember(tx, key, watch, since_s, fitting)
