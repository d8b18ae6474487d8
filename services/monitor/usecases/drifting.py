"""Shows closed windows to the detectors of the serving version, and says what they find: one alarm of the data."""

import asyncio
from math import log

from contracts import DriftDetected, Window
from services.kit.db import Tx
from services.kit.errors import NotFound
from services.kit.ids import now, uuid7

from .. import metrics, store
from ..domain.budget import of_data
from ..domain.detectors.edetector import NAME
from ..domain.reference import Reference
from ..domain.watch import Finding, Watch
from ..domain.windows import Block, Part, block_size, coalesced, moment
from ..settings import MonitorSettings
from ..store import Endpoint, WindowKey
from . import choosing, grouping, usability
from .remembering import remember
from .versions import Watched


class Drifting:
    """The owner's work on a window that closes for the first time."""

    def __init__(self, settings: MonitorSettings) -> None:
        self._settings = settings

    async def observe(self, tx: Tx, key: WindowKey, watched: Watched, part: Part) -> tuple[float, float]:
        """Let the detectors see the window if it is of the version that serves; answers statistic and threshold."""
        try:
            endpoint = await store.endpoint(tx.session, key.endpoint)
        except NotFound:
            return 0.0, 0.0
        budget = of_data(endpoint.budget_rows, segmented=watched.segmented)
        if endpoint.version != key.version or watched.reference is None or not part.blocks:
            return 0.0, log(budget)
        grouped = watched.grouped
        within = await grouping.observe(tx, key, endpoint, grouped, part) if grouped else None
        watch, finding, statistic = await self._wholes(tx, key, endpoint, budget, watched.reference, part)
        chosen = await choosing.observe(tx, key, endpoint, watched.reference, part)
        before = await store.open_alarm(tx.session, key.endpoint) if finding or within or chosen else None
        if finding:
            alarm = finding.kind == "alarm"
            await self._say(tx, key, endpoint, part, finding, _segment(watched, within, before) if alarm else None)
            if alarm and grouped:
                await grouping.follow(tx, key, endpoint, grouped, part, finding.since_s)
        # A chosen detector's alarm tells of no group, and whoever watches the groups says its own only once.
        own = before is not None and before.detector == NAME
        if within and grouped and (within.kind == "note" or not (own or watch.phase == "alarmed")):
            await self._say(tx, key, endpoint, part, within, grouped.where(within.effects))
        if chosen and not (before or _alarms(finding, within) or watch.phase == "alarmed"):
            found, heard = chosen
            await self._say(tx, key, endpoint, part, found, None, heard.name)
        await store.save_watch(tx.session, endpoint, watch)
        await usability.observe(tx, endpoint, watched.reference, part, key.start.timestamp())
        return statistic, log(budget)

    async def _wholes(
        self, tx: Tx, key: WindowKey, endpoint: Endpoint, budget: int, reference: Reference, part: Part
    ) -> tuple[Watch, Finding | None, float]:
        season = endpoint.season
        known = await store.watch(tx.session, key.endpoint, key.version) or Watch.start(reference, season)
        known = known.suited(reference, season)
        size = block_size(part.rows, self._settings.block_rows, self._settings.looks_per_window)
        blocks = coalesced(part.blocks, size)
        seen = await asyncio.to_thread(known.observe, blocks, key.start.timestamp(), budget)
        if known.phase == "watching" and seen.phase == "doubting":
            seen = await _with_earlier(tx, key, seen)
        return *seen.judge(reference, endpoint.settings.tolerance), seen.statistic

    async def _say(
        self, tx: Tx, key: WindowKey, endpoint: Endpoint, part: Part, finding: Finding, segment: str | None,
        detector: str = NAME,
    ) -> None:  # fmt: skip
        event = _drift(key, endpoint, part, finding, segment, detector)
        if finding.kind == "alarm":
            await store.close_alarms(tx.session, key.endpoint, "newer evidence tells it", "data")
            tx.emit(event, detail={"since": event.since.isoformat(), "feature": event.features[0].name})
        await store.add_finding(tx.session, uuid7(), endpoint.unit, finding.kind, now(), event)
        tx.then.append(metrics.FOUND.labels(key.endpoint, finding.kind).inc)


def _alarms(*found: Finding | None) -> bool:
    return any(each is not None and each.kind == "alarm" for each in found)


async def _with_earlier(tx: Tx, key: WindowKey, watch: Watch) -> Watch:
    assert watch.since_s is not None and watch.recent is not None
    shape = watch.recent.counts.shape

    def fitting(part: Part) -> list[Block]:
        return [block for block in part.blocks if block.counts.shape == shape]

    return await remember(tx, key, watch, watch.since_s, fitting)


def _segment(watched: Watched, within: Finding | None, before: DriftDetected | None) -> str | None:
    """In which groups the wholes moved, where an alarm of groups says so, now or before."""
    if within and within.kind == "alarm" and watched.grouped:
        return watched.grouped.where(within.effects)
    return before.segment if before else None


def _drift(
    key: WindowKey, endpoint: Endpoint, part: Part, finding: Finding, segment: str | None, detector: str
) -> DriftDetected:
    settings = endpoint.settings
    return DriftDetected(
        endpoint=key.endpoint, use_case=endpoint.use_case, model=endpoint.model, version=key.version,
        window=Window(**{"from": key.start, "to": key.end}, rows=part.rows), since=moment(finding.since_s),
        detector=detector, statistic=finding.statistic, budget_rows=settings.budget_rows, rows_watched=finding.rows,
        features=tuple(effect.evidence(settings.tolerance) for effect in finding.effects),
        retrain=settings.retrain_on_drift, segment=segment,
    )  # fmt: skip
