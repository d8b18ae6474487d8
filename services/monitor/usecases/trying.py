"""A dry run: which alarms a setting would have raised over what is recorded, beside those of the present one."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.kit.db import Database
from services.kit.errors import Conflict

from .. import store
from ..domain import season
from ..domain.trial import Setting, Trial
from ..store import recorded
from ..store.recorded import Recorded
from .versions import Versions

_AT_ONCE = 100


@dataclass(frozen=True)
class Tried:
    """Two settings over the same windows."""

    version: int
    first: datetime | None
    last: datetime | None
    present: Trial
    proposed: Trial


class Trying:
    """Reads, and changes nothing."""

    def __init__(self, db: Database, versions: Versions) -> None:
        self._db, self._versions = db, versions
        self._one = asyncio.Lock()

    async def dry_run(
        self, name: str, budget_rows: int | None, tolerance: float | None, season_s: float | None
    ) -> Tried:
        """Over the windows of the serving version whose counts are kept; what is None stays as it is set.

        Raises NotFound, Invalid for a season of a few windows, Conflict where the version has no baseline.
        """
        async with self._db.reading() as session:
            endpoint = await store.endpoint(session, name)
        now = endpoint.settings
        watched = await self._versions.find(name, endpoint.version)
        present = Setting(
            now.budget_rows, now.tolerance, endpoint.season.period_s, watched.segmented, now.detectors
        )  # fmt: skip
        proposed = Setting(
            budget_rows or present.budget_rows, tolerance or present.tolerance,
            present.season_s if season_s is None else season_s, watched.segmented, now.detectors,
        )  # fmt: skip
        season.check(proposed.season_s, now.window_s)
        reference = watched.reference
        if reference is None:
            raise Conflict(f"version {endpoint.version} has no baseline: nothing of it is watched for drift")
        trials = Trial(reference, present, watched.grouped), Trial(reference, proposed, watched.grouped)
        async with self._one:  # each takes a core for seconds
            first, last = await self._show(name, endpoint.version, trials)
        return Tried(endpoint.version, first, last, *trials)

    async def _show(
        self, name: str, version: int, trials: tuple[Trial, Trial]
    ) -> tuple[datetime | None, datetime | None]:
        first: datetime | None = None
        last: Recorded | None = None
        while True:
            async with self._db.reading() as session:
                found = await recorded.windows(session, name, version, last.start if last else None, _AT_ONCE)
            if not found:
                return first, last.end if last else None
            first, last = first or found[0].start, found[-1]
            await asyncio.to_thread(_see, trials, found)


def _see(trials: Sequence[Trial], found: Sequence[Recorded]) -> None:
    for window in found:
        for trial in trials:
            trial.see(window.start.timestamp(), window.end, window.part.blocks, window.part)
