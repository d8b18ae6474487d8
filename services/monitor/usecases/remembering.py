"""What earlier windows counted since a change began, for whoever doubts or is alarmed."""

import asyncio
from collections.abc import Callable, Sequence

from services.kit.db import Tx

from .. import store
from ..domain.watch import Watch
from ..domain.windows import Block, Part, moment
from ..store import WindowKey
from ..store.windows import Kept

_AT_ONCE = 200

Blocks = Callable[[Part], Sequence[Block]]
"""What a watch sees of a window."""


async def remember(tx: Tx, key: WindowKey, watch: Watch, since_s: float, blocks: Blocks) -> Watch:
    """The watch with it. Page by page, and beside the event loop: all windows that are kept may be gigabytes."""
    last: Kept | None = None
    while page := await store.parts_since(tx.session, key, moment(since_s), last, _AT_ONCE):
        watch, last = await asyncio.to_thread(_with, watch, page, blocks), page[-1]
    return watch


def _with(watch: Watch, page: Sequence[Kept], blocks: Blocks) -> Watch:
    for kept in page:
        watch = watch.remember(blocks(Part.from_bytes(kept.data)))
    return watch
