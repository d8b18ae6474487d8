"""Watches columns within the groups of segments: a second detector beside that of the wholes, one alarm of both."""

import asyncio

from services.kit.db import Tx

from .. import store
from ..domain.budget import of_segments, within_groups
from ..domain.grouped import Grouped, following
from ..domain.season import NONE
from ..domain.watch import Finding, Watch
from ..domain.windows import Block, Part, moment
from ..store import Endpoint, WindowKey


async def observe(tx: Tx, key: WindowKey, endpoint: Endpoint, grouped: Grouped, part: Part) -> Finding | None:
    """Show a window of the version that serves; answers what is to be told of groups. Of an endpoint with a season
    nothing is: its slots times its groups are too many."""
    block = grouped.block(part)
    if block is None or not within_groups(endpoint.season):
        return None
    known = await _known(tx, endpoint, grouped)
    seen = await asyncio.to_thread(
        known.observe, [block], key.start.timestamp(), of_segments(endpoint.settings.budget_rows)
    )
    if known.phase == "watching" and seen.phase == "doubting" and seen.since_s is not None:
        seen = seen.remember(await _earlier(tx, key, grouped, seen.since_s))
    watch, finding = seen.judge(grouped.reference, endpoint.settings.tolerance)
    await store.save_watch(tx.session, endpoint, watch, "group_watch")
    return finding


async def follow(tx: Tx, key: WindowKey, endpoint: Endpoint, grouped: Grouped, part: Part, since_s: float) -> None:
    """The wholes are alarmed from this window on: groups are silent until what is seen is accepted."""
    block = grouped.block(part)
    if block is None or not within_groups(endpoint.season):
        return
    known = await _known(tx, endpoint, grouped)
    blocks = [*await _earlier(tx, key, grouped, since_s), block]
    await store.save_watch(tx.session, endpoint, following(known, since_s, blocks), "group_watch")


async def _known(tx: Tx, endpoint: Endpoint, grouped: Grouped) -> Watch:
    known = await store.watch(tx.session, endpoint.endpoint, endpoint.version, "group_watch")
    return known.suited(grouped.reference, NONE) if known else Watch.start(grouped.reference)


async def _earlier(tx: Tx, key: WindowKey, grouped: Grouped, since_s: float) -> list[Block]:
    parts = await store.parts_since(tx.session, key, moment(since_s))
    return [block for part in parts if (block := grouped.block(part))]
