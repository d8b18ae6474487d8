"""A dry run: which alarms a setting would have raised over what is recorded, beside those of the present one."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from services.kit.db import Database
from services.kit.errors import Conflict

from .. import store
from ..domain import season
from ..domain.outcomes.loss import BLOCK_ROWS, blocks_of, loss_of
from ..domain.trial import Raised, Setting, Trial, TrialOfLabels
from ..store import Endpoint, recorded
from ..store.recorded import Recorded, RecordedLabel
from .versions import Versions

_AT_ONCE = 100
_LABELS_AT_ONCE = 100 * BLOCK_ROWS
_LABELS_AT_MOST = 100_000
"""The newest so many of a version are looked at: what more would take is not told to who waits."""


@dataclass(frozen=True)
class Side:
    """One setting over what is recorded."""

    data: Trial
    labels: TrialOfLabels

    @property
    def setting(self) -> Setting:
        """What is tried."""
        return self.data.setting

    @property
    def raised(self) -> Sequence[Raised]:
        """In the order of time."""
        return sorted([*self.data.raised, *self.labels.raised], key=lambda raised: raised.at)


@dataclass(frozen=True)
class Tried:
    """Two settings over the same windows and labels."""

    version: int
    first: datetime | None
    last: datetime | None
    labels_from: datetime | None
    """When the first of the labels was observed."""
    present: Side
    proposed: Side


class Trying:
    """Reads, and changes nothing."""

    def __init__(self, db: Database, versions: Versions) -> None:
        self._db, self._versions = db, versions
        self._one = asyncio.Lock()

    async def dry_run(self, name: str, changes: Mapping[str, Any]) -> Tried:
        """Over the windows of the serving version whose counts are kept, and its labels.

        `changes`: members of a `Setting`; what is left out or None stays as it is set, but an accepted share of errors
        that is None is none. Raises NotFound, Invalid for a season of a few windows, Conflict where the version has no
        baseline.
        """
        async with self._db.reading() as session:
            endpoint = await store.endpoint(session, name)
        watched = await self._versions.find(name, endpoint.version)
        present = _setting(endpoint, segmented=watched.segmented)
        given = {each: value for each, value in changes.items() if value is not None or each == "expected_error"}
        proposed = replace(present, **given)
        season.check(proposed.season_s, endpoint.settings.window_s)
        reference = watched.reference
        if reference is None:
            raise Conflict(f"version {endpoint.version} has no baseline: nothing of it is watched for drift")
        task = watched.meaning.task
        sides = [
            Side(Trial(reference, setting, watched.grouped), TrialOfLabels(task, setting))
            for setting in (present, proposed)
        ]
        async with self._one:  # each takes a core for seconds
            first, last = await self._show(name, endpoint.version, [side.data for side in sides])
            labels_from = await self._show_labels(name, endpoint.version, [side.labels for side in sides])
        return Tried(endpoint.version, first, last, labels_from, *sides)

    async def _show(self, name: str, version: int, trials: Sequence[Trial]) -> tuple[datetime | None, datetime | None]:
        first: datetime | None = None
        last: Recorded | None = None
        while True:
            async with self._db.reading() as session:
                found = await recorded.windows(session, name, version, last.start if last else None, _AT_ONCE)
            if not found:
                return first, last.end if last else None
            first, last = first or found[0].start, found[-1]
            await asyncio.to_thread(_see, trials, found)

    async def _show_labels(self, name: str, version: int, trials: Sequence[TrialOfLabels]) -> datetime | None:
        async with self._db.reading() as session:
            since = await recorded.labels_from(session, name, version, _LABELS_AT_MOST)
        first: datetime | None = None
        last: RecordedLabel | None = None
        while True:
            async with self._db.reading() as session:
                found = await recorded.labels(session, name, version, since, last, _LABELS_AT_ONCE)
            if not found:
                return first
            first, last = first or found[0].observed_at, found[-1]
            await asyncio.to_thread(_see_labels, trials, found)


def _setting(endpoint: Endpoint, *, segmented: bool) -> Setting:
    now = endpoint.settings
    return Setting(
        now.budget_rows, now.tolerance, endpoint.season.period_s, segmented, now.detectors, now.quality_alerts,
        now.quality_tolerance, now.expected_error,
    )  # fmt: skip


def _see(trials: Sequence[Trial], found: Sequence[Recorded]) -> None:
    for window in found:
        for trial in trials:
            trial.see(window.start.timestamp(), window.end, window.part.blocks, window.part)


def _see_labels(trials: Sequence[TrialOfLabels], found: Sequence[RecordedLabel]) -> None:
    known = [(each, loss) for each in found if (loss := loss_of(each.row)) is not None]
    for first in range(0, len(known), BLOCK_ROWS):
        some = known[first : first + BLOCK_ROWS]
        (block,) = blocks_of([(each.start.timestamp(), loss) for each, loss in some])
        for trial in trials:
            trial.see(block, some[-1][0].observed_at)
