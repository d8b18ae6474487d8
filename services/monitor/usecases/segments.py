"""How far columns moved within the groups of segments, over the newest windows of the serving version."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.kit.db import Database
from services.kit.errors import Conflict

from .. import store
from ..domain.segments import Group, by_group
from ..store import recorded
from .versions import Versions, Watched


@dataclass(frozen=True)
class Drifted:
    """Of the windows that were looked at."""

    version: int
    tolerance: float
    windows: int
    start: datetime | None
    end: datetime | None
    rows: int
    groups: Sequence[Group]


class Segments:
    """Reads under the caller's units."""

    def __init__(self, db: Database, versions: Versions) -> None:
        self._db, self._versions = db, versions

    async def drift(self, name: str, windows: int) -> Drifted:
        """Over at most so many newest windows whose counts are kept.

        Raises NotFound, and Conflict where the serving version's baseline has no segments.
        """
        async with self._db.reading() as session:
            endpoint = await store.endpoint(session, name)
        watched = await self._versions.find(name, endpoint.version)
        if watched.segmenter is None:
            told = "name them in fairlead.yaml, with training rows beside it"
            raise Conflict(f"version {endpoint.version} has no baseline with segments: {told}")
        async with self._db.reading() as session:
            found = await recorded.newest(session, name, endpoint.version, windows)
        parts = [watched.fitting(each.part) for each in found]
        live = np.sum([p.segments for p in parts if p.segments is not None], axis=0) + np.zeros(
            watched.segmenter.shape, np.int64
        )
        groups = await asyncio.to_thread(_groups, watched, live)
        start, end = (found[-1].start, found[0].end) if found else (None, None)
        return Drifted(
            endpoint.version, endpoint.settings.tolerance, len(found), start, end, sum(p.rows for p in parts), groups
        )


def _groups(watched: Watched, live: NDArray[Any]) -> list[Group]:
    assert watched.segmenter is not None and watched.binner is not None
    return by_group(watched.segmenter.groups, watched.binner.names, watched.segmenter.reference, live)
