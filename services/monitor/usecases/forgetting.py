"""Decisions that were erased: what is kept by their ids goes, what is counted over many stays."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace

from contracts import DecisionsErased
from services.kit.db import Database, Tx

from .. import store
from ..domain.sample import place_of
from ..domain.windows import Part
from ..store import outcomes

_AT_ONCE = 50


class Forgetting:
    """Removes outcomes as they were counted, and rows that are to be explained when their window closes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def forget(self, event: DecisionsErased) -> None:
        """Those of these decisions. One that is counted later, out of the log, goes with its window."""
        places, last = frozenset(map(place_of, event.inference_ids)), 0
        async with self._db.transaction() as tx:  # a handler has one
            await outcomes.forget(tx.session, event.inference_ids)
            while last is not None:
                last = await _thin(tx, places, last)


async def _thin(tx: Tx, places: Collection[int], after: int) -> int | None:
    """A page of parts after this one; answers which was the last, None after all of them. A place may be that of
    another decision as well: one row less is explained then."""
    page = await store.open_parts(tx.session, after, _AT_ONCE)
    for number in await asyncio.to_thread(_holding, page, places):
        if part := await store.lock_part(tx.session, number):
            await store.replace_part(tx.session, number, replace(part, sample=part.sample.without(places)))
    return max(page, default=None)


def _holding(page: Mapping[int, bytes], places: Collection[int]) -> list[int]:
    return [number for number, data in page.items() if any(at in places for at in Part.from_bytes(data).sample.rows)]
