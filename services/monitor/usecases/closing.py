"""Closes windows: one owner per endpoint merges their parts in order, judges, and says what it found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from itertools import groupby
from typing import Any

from numpy.typing import NDArray

from contracts import InferenceLogged, MonitorReported, Window
from services.kit.context import Context, system, use
from services.kit.db import Database, Tx
from services.kit.ids import now

from .. import metrics, store
from ..domain.outcomes.decided import Decided
from ..domain.report import column_reports, traffic_report
from ..domain.rules import Rules
from ..domain.sample import Sample
from ..domain.windows import Part, coalesced, merged, moment, window_start
from ..settings import MonitorSettings
from ..store import WindowKey, estimates, traffic
from . import attributing, ruling
from .drifting import Drifting
from .owning import every, owned
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
        self._drifting = Drifting(settings)
        self._lateness = timedelta(seconds=settings.lateness_s)

    async def close_due(self) -> Closed:
        """Close every window that event time has passed, whatever becomes of one endpoint's."""
        with use(Context(system("monitor"))):
            async with self._db.reading() as session:
                reached = await store.watermark(session, InferenceLogged.topic.partitions, self._lateness)
                due = await store.windows_to_close(session, reached) if reached else []
                still_open = bool(due) or await store.anything_open(session)
        by_endpoint = [(*of, list(keys)) for of, keys in groupby(due, key=lambda key: (key.endpoint, key.unit))]
        return Closed(still_open, await every("windows", by_endpoint, self._close))

    async def _close(self, one: tuple[str, str, list[WindowKey]]) -> None:
        endpoint, unit, keys = one
        watched = {key.version: await self._versions.find(endpoint, key.version) for key in keys}
        async with owned(self._db, endpoint, unit) as tx:
            if tx is None:
                return
            for key in keys:
                await self._close_window(tx, key, watched[key.version])

    async def _close_window(self, tx: Tx, key: WindowKey, watched: Watched) -> None:
        parts = await store.take_parts(tx.session, key)
        if not parts:
            return
        fresh = merged([watched.fitting(part) for part in parts])
        await self._keep_decided(tx, key, fresh)
        before = await store.closed(tx.session, key)
        statistic, threshold = await self._drifting.observe(tx, key, watched, fresh) if before is None else (
            before[2].statistic, before[2].threshold)  # fmt: skip
        if before is None:
            await attributing.ask(tx, key, fresh)
        await ruling.observe(tx, key, fresh.rules)
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
        rules = whole.rules if whole else Rules.reported(last.rules if last else ()).merge(fresh.rules)
        came = traffic_report((whole or fresh).traffic, rows, earlier, last.traffic if last and not whole else None)
        return MonitorReported(
            endpoint=key.endpoint, model=watched.model or (last.model if last else "unknown"), version=key.version,
            window=Window(**{"from": key.start, "to": key.end}, rows=rows),
            revision=before[0] + 1 if before else 0, inferences=inferences, latency=latency, columns=columns,
            statistic=statistic, threshold=threshold, traffic=came, rules=rules.reports(),
        )  # fmt: skip

    async def _rows_before(self, tx: Tx, key: WindowKey) -> list[int]:
        """Rows of the version's latest windows of the same length, in the same part of the season that holds."""
        season, start_s = self._versions.season(key.endpoint), key.start.timestamp()
        slot_s = (season.period_s or 0.0) / season.slots
        return await traffic.rows_before(
            tx.session, key, _COMPARED, season.period_s, season.slot(start_s) * slot_s, slot_s
        )


def _revised(watched: Watched, before: Part | None, fresh: Part) -> Part | None:
    return watched.fitting(before).merge(fresh) if before else None


def _as_one(part: Part) -> Part:
    """As it is kept: one block, since a closed window is not watched again; what was decided is kept elsewhere."""
    blocks = tuple(coalesced(part.blocks, sum(b.rows for b in part.blocks)))
    return replace(part, blocks=blocks, decided=Decided(), sample=Sample())


def _tell(key: WindowKey, fresh: Part, report: MonitorReported, *, revised: bool) -> None:
    metrics.WINDOWS.labels(key.endpoint, "revised" if revised else "closed").inc()
    ruling.count(key.endpoint, fresh.rules)
    if revised:
        metrics.LATE.labels(key.endpoint).inc(fresh.rows)
        return
    metrics.CLOSING.observe(max(0.0, (now() - key.end).total_seconds()))
    metrics.STATISTIC.labels(key.endpoint).set(report.statistic)
    metrics.THRESHOLD.labels(key.endpoint).set(report.threshold)
    if report.latency:
        for quantile in ("p50", "p95", "p99"):
            metrics.LATENCY.labels(key.endpoint, quantile).set(getattr(report.latency, f"{quantile}_ms"))
