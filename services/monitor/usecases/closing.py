"""Closes windows: one owner per endpoint merges their parts in order, judges, and says what it found."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from itertools import groupby
from math import log
from typing import Any

from numpy.typing import NDArray

from contracts import DriftDetected, InferenceLogged, MonitorReported, Window
from services.kit.again import each
from services.kit.context import Context, system, use
from services.kit.db import Database, Tx
from services.kit.errors import NotFound
from services.kit.ids import now, uuid7

from .. import metrics, store
from ..domain.budget import of_data
from ..domain.detectors.edetector import NAME
from ..domain.outcomes.decided import Decided
from ..domain.report import column_reports, traffic_report
from ..domain.season import Season
from ..domain.watch import Finding, Watch
from ..domain.windows import Block, Part, coalesced, merged, moment, window_start
from ..settings import MonitorSettings
from ..store import Endpoint, WindowKey, estimates, traffic
from . import usability
from .versions import Versions, Watched

Array = NDArray[Any]


_COMPARED = 60
"""So many earlier windows say how many rows are expected of one."""


@dataclass(frozen=True)
class Closed:
    """How a round ended."""

    still_open: bool
    """Whether rows lie in windows that are not closed."""
    failed: Mapping[str, str]
    """By endpoint, why its windows could not be closed; the next round tries again."""


class Closing:
    """The owner's work: each endpoint's due windows in one transaction."""

    def __init__(self, settings: MonitorSettings, db: Database, versions: Versions) -> None:
        self._settings = settings
        self._db = db
        self._versions = versions
        self._lateness = timedelta(seconds=settings.lateness_s)

    async def close_due(self) -> Closed:
        """Close every window that event time has passed, whatever becomes of one endpoint's."""
        with use(Context(system("monitor"))):
            async with self._db.reading() as session:
                reached = await store.watermark(session, InferenceLogged.topic.partitions, self._lateness)
                due = await store.windows_to_close(session, reached) if reached else []
                still_open = bool(due) or await store.anything_open(session)
        by_endpoint = [(of, list(keys)) for of, keys in groupby(due, key=lambda key: (key.endpoint, key.unit))]
        failed = await each("windows", by_endpoint, self._close)
        return Closed(still_open, {of[0]: f"{type(error).__name__}: {error}" for (of, _), error in failed})

    async def _close(self, one: tuple[tuple[str, str], list[WindowKey]]) -> None:
        (endpoint, unit), keys = one
        watched = {key.version: await self._versions.find(endpoint, key.version) for key in keys}
        with use(Context(system("monitor", unit))):
            async with self._db.transaction() as tx:
                if await store.own(tx.session, endpoint):
                    for key in keys:
                        await self._close_window(tx, key, watched[key.version])

    async def _close_window(self, tx: Tx, key: WindowKey, watched: Watched) -> None:
        parts = await store.take_parts(tx.session, key)
        if not parts:
            return
        fresh = merged([watched.fitting(part) for part in parts])
        await self._keep_decided(tx, key, fresh)
        before = await store.closed(tx.session, key)
        statistic, threshold = await self._watch(tx, key, watched, fresh) if before is None else (
            before[2].statistic, before[2].threshold)  # fmt: skip
        whole = fresh if before is None else _revised(watched, before[1], fresh)
        earlier = await self._rows_before(tx, key)
        report = self._report(key, watched, whole, fresh, before, statistic, threshold, earlier)
        await store.save_closed(tx.session, key, _as_one(whole) if whole else None, report)
        tx.emit(report)
        tx.then.append(partial(_tell, key, fresh, report, revised=before is not None))

    async def _keep_decided(self, tx: Tx, key: WindowKey, fresh: Part) -> None:
        """In the window of outcomes: what is expected of decisions stands beside what their labels show."""
        length = self._versions.settings(key.endpoint).outcome_window_s
        start = window_start(key.start.timestamp(), length)
        await estimates.add_decided(
            tx.session, key.endpoint, key.version, key.unit, moment(start), moment(start + length), fresh.decided
        )

    def _report(
        self, key: WindowKey, watched: Watched, whole: Part | None, fresh: Part,
        before: tuple[int, Part | None, MonitorReported] | None, statistic: float, threshold: float,
        earlier: Sequence[int],
    ) -> MonitorReported:  # fmt: skip
        """Of the whole window; where its old counts are gone, the old report with the new rows counted."""
        last = before[2] if before else None
        rows = whole.rows if whole else fresh.rows + (last.window.rows if last else 0)
        inferences = whole.inferences if whole else fresh.inferences + (last.inferences if last else 0)
        columns = last.columns if last else ()
        if whole and watched.reference:
            columns = column_reports(watched.reference, watched.numeric, watched.centres, whole)
        latency = whole.latency.report() if whole else (last.latency if last else None)
        came = traffic_report((whole or fresh).traffic, rows, earlier, last.traffic if last and not whole else None)
        return MonitorReported(
            endpoint=key.endpoint, model=watched.model or (last.model if last else "unknown"), version=key.version,
            window=Window(**{"from": key.start, "to": key.end}, rows=rows),
            revision=before[0] + 1 if before else 0, inferences=inferences, latency=latency, columns=columns,
            statistic=statistic, threshold=threshold, traffic=came,
        )  # fmt: skip

    async def _rows_before(self, tx: Tx, key: WindowKey) -> list[int]:
        """Rows of the version's latest windows of the same length, in the same part of a declared season."""
        season, start_s = Season(self._versions.settings(key.endpoint).season_s or None), key.start.timestamp()
        slot_s = (season.period_s or 0.0) / season.slots
        return await traffic.rows_before(
            tx.session, key, _COMPARED, season.period_s, season.slot(start_s) * slot_s, slot_s
        )

    async def _watch(self, tx: Tx, key: WindowKey, watched: Watched, part: Part) -> tuple[float, float]:
        """Let the detector see the window if it is of the version that serves; answers statistic and threshold."""
        try:
            endpoint = await store.endpoint(tx.session, key.endpoint)
        except NotFound:
            return 0.0, 0.0
        budget = of_data(endpoint.settings.budget_rows)
        threshold = log(budget)
        if endpoint.version != key.version or watched.reference is None or not part.blocks:
            return 0.0, threshold
        season = endpoint.season
        known = await store.watch(tx.session, key.endpoint, key.version) or Watch.start(watched.reference, season)
        known = known.suited(watched.reference, season)
        blocks = coalesced(part.blocks, self._settings.block_rows)
        seen = await asyncio.to_thread(known.observe, blocks, key.start.timestamp(), budget)
        if known.phase == "watching" and seen.phase == "doubting":
            seen = seen.remember(await self._earlier(tx, key, seen))
        watch, finding = seen.judge(watched.reference, endpoint.settings.tolerance)
        if finding:
            await self._say(tx, key, endpoint, part, finding)
        await store.save_watch(tx.session, endpoint, watch)
        await usability.observe(tx, endpoint, watched.reference, part, key.start.timestamp())
        return seen.statistic, threshold

    async def _earlier(self, tx: Tx, key: WindowKey, watch: Watch) -> list[Block]:
        """What earlier windows counted since the change began."""
        assert watch.since_s is not None and watch.recent is not None
        parts = await store.parts_since(tx.session, key, moment(watch.since_s))
        shape = watch.recent.counts.shape
        return [block for part in parts for block in part.blocks if block.counts.shape == shape]

    async def _say(self, tx: Tx, key: WindowKey, endpoint: Endpoint, part: Part, finding: Finding) -> None:
        event = _drift(key, endpoint, part, finding)
        if finding.kind == "alarm":
            tx.emit(event, detail={"since": event.since.isoformat(), "feature": event.features[0].name})
        await store.add_finding(tx.session, uuid7(), endpoint.unit, finding.kind, now(), event)
        tx.then.append(metrics.FOUND.labels(key.endpoint, finding.kind).inc)


def _drift(key: WindowKey, endpoint: Endpoint, part: Part, finding: Finding) -> DriftDetected:
    settings = endpoint.settings
    return DriftDetected(
        endpoint=key.endpoint, use_case=endpoint.use_case, model=endpoint.model, version=key.version,
        window=Window(**{"from": key.start, "to": key.end}, rows=part.rows), since=moment(finding.since_s),
        detector=NAME, statistic=finding.statistic, budget_rows=settings.budget_rows, rows_watched=finding.rows,
        features=tuple(effect.evidence(settings.tolerance) for effect in finding.effects),
        retrain=settings.retrain_on_drift,
    )  # fmt: skip


def _revised(watched: Watched, before: Part | None, fresh: Part) -> Part | None:
    return watched.fitting(before).merge(fresh) if before else None


def _as_one(part: Part) -> Part:
    """As it is kept: one block, since a closed window is not watched again; what was decided is kept elsewhere."""
    blocks = tuple(coalesced(part.blocks, sum(b.rows for b in part.blocks)))
    return replace(part, blocks=blocks, decided=Decided())


def _tell(key: WindowKey, fresh: Part, report: MonitorReported, *, revised: bool) -> None:
    metrics.WINDOWS.labels(key.endpoint, "revised" if revised else "closed").inc()
    if revised:
        metrics.LATE.labels(key.endpoint).inc(fresh.rows)
        return
    metrics.CLOSING.observe(max(0.0, (now() - key.end).total_seconds()))
    metrics.STATISTIC.labels(key.endpoint).set(report.statistic)
    metrics.THRESHOLD.labels(key.endpoint).set(report.threshold)
    if report.latency:
        for quantile in ("p50", "p95", "p99"):
            metrics.LATENCY.labels(key.endpoint, quantile).set(getattr(report.latency, f"{quantile}_ms"))
