"""Watches what decisions rest on: asks for the attributions of each window's sample, and shows them to a detector."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from math import log
from typing import Any

import numpy as np

from contracts import AttributionsMeasured, AttributionsRequested, DriftDetected, Window
from services.kit.db import Database, Tx
from services.kit.errors import NotFound
from services.kit.explaining import printable
from services.kit.ids import now, uuid7

from .. import metrics, store
from ..domain.budget import of_attributions
from ..domain.detectors.edetector import NAME
from ..domain.influence import LEAST_ROWS, Influence
from ..domain.watch import Finding, Watch
from ..domain.windows import Part, moment
from ..store import Endpoint, WindowKey, influences
from .ending import end_alarms

_AGAIN = timedelta(hours=1)
"""So long after it was said that a version cannot be explained it is asked again: what it lacked may have come."""
_TOO_FEW = (
    f"the reference has fewer than {LEAST_ROWS} rows that can be explained, or no column moves the model there: "
    "there is nothing to compare with"
)


async def ask(tx: Tx, key: WindowKey, part: Part) -> None:
    """Of a window that closes for the first time, if it is of the version that serves."""
    rows = part.sample.in_order()
    try:
        endpoint = await store.endpoint(tx.session, key.endpoint) if rows else None
    except NotFound:
        return
    if endpoint is None or endpoint.version != key.version or endpoint.settings.attributions == "off":
        return
    known = await influences.known(tx.session, key.endpoint, key.version)
    explaining = endpoint.settings.attributions
    if known and known.cannot and known.facts["explaining"] == explaining and now() - known.said_at < _AGAIN:
        tx.then.append(partial(_count, key.endpoint, "refused", len(rows)))
        return
    wanted = AttributionsRequested(
        endpoint=key.endpoint, model=endpoint.model, version=key.version, explaining=explaining, rows=rows,
        window=Window(**{"from": key.start, "to": key.end}, rows=len(rows)),
        reference=known is None or known.influence is None,
    )  # fmt: skip
    tx.emit(wanted, unit=endpoint.unit, audited=False)
    tx.then.append(partial(_count, key.endpoint, "asked", len(rows)))


class Attributing:
    """The handler of `attributions.measured`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def hear(self, event: AttributionsMeasured) -> None:
        """Keep and show what was measured of a window of the version that serves; of any other it is no news."""
        async with self._db.transaction() as tx:
            await store.lock(tx.session, event.endpoint)
            try:
                endpoint = await store.endpoint(tx.session, event.endpoint)
            except NotFound:
                return
            if not endpoint.serving or (endpoint.model, endpoint.version) != (event.model, event.version):
                return
            if endpoint.settings.attributions == "off":
                return
            influence = await _influence(tx, endpoint, event)
            if influence and event.rows:
                await _observe(tx, endpoint, event, influence)
            result = "explained" if influence else "incomparable"
            tx.then.append(partial(_count, event.endpoint, result, len(event.rows)))
            tx.then.append(partial(_count, event.endpoint, "unexplained", event.unexplained))


async def _influence(tx: Tx, endpoint: Endpoint, event: AttributionsMeasured) -> Influence | None:
    """The reference that these rows are compared with, kept from before or told now; None where there is none, with the
    reason kept, where one is told."""
    known = await influences.known(tx.session, endpoint.endpoint, endpoint.version)
    before, made = known.influence if known else None, _made(event)
    if event.cannot and event.reference is None:
        facts = known.facts if known and before else made
        await _keep(tx, endpoint, facts, before, printable(event.cannot))
        return None
    if known and before and before.columns == event.columns and made.items() <= known.facts.items():
        if known.cannot:
            await _keep(tx, endpoint, known.facts, before, None)
        return before
    if before and (event.rows or event.reference is not None):
        await _begin_anew(tx, endpoint)
    if event.reference is None:
        return None
    rows = np.array(event.reference, float).reshape(len(event.reference), len(event.columns))
    influence = await asyncio.to_thread(Influence.of, event.columns, rows)
    await _keep(tx, endpoint, made, influence, None if influence else _TOO_FEW)
    return influence


async def _begin_anew(tx: Tx, endpoint: Endpoint) -> None:
    """Rows are explained in another way: what was seen so far says nothing of them, and the next window asks for its
    reference."""
    await influences.forget(tx.session, endpoint.endpoint)
    await end_alarms(tx, endpoint, "decisions are explained in another way now", "attributions")


async def _keep(
    tx: Tx, endpoint: Endpoint, facts: Mapping[str, Any], influence: Influence | None, cannot: str | None
) -> None:
    facts = {**facts, "cannot": cannot, "explaining": endpoint.settings.attributions}
    await influences.save(tx.session, endpoint, facts, influence)


def _made(event: AttributionsMeasured) -> dict[str, str | None]:
    """How rows were explained: only what was made alike can be compared."""
    return {"method": event.method, "scale": event.scale, "output": printable(event.output) if event.output else None}


async def _observe(tx: Tx, endpoint: Endpoint, event: AttributionsMeasured, influence: Influence) -> None:
    name, settings, start_s = endpoint.endpoint, endpoint.settings, event.window.start.timestamp()
    block = influence.block(np.array(event.rows, float), start_s)
    if not await influences.add(tx.session, endpoint, event.window.start, event.window.end, block):
        return
    season, reference = endpoint.season, influence.reference
    known = await store.watch(tx.session, name, endpoint.version, "attribution_watch")
    known = known.suited(reference, season) if known else Watch.start(reference, season)
    budget = of_attributions(endpoint.budget_rows)
    seen = await asyncio.to_thread(known.observe, [block], start_s, budget)
    watch, finding = seen.judge(reference, settings.attribution_tolerance)
    await store.save_watch(tx.session, endpoint, watch, "attribution_watch")
    if finding:
        await _say(tx, endpoint, event, influence, seen, finding)
    tx.then.append(partial(_tell, name, watch.statistic, log(budget)))


async def _say(
    tx: Tx, endpoint: Endpoint, event: AttributionsMeasured, influence: Influence, watch: Watch, finding: Finding
) -> None:
    settings = endpoint.settings
    usual = watch.usual(influence.reference).counts
    drift = DriftDetected(
        endpoint=endpoint.endpoint, use_case=endpoint.use_case, model=endpoint.model, version=endpoint.version,
        window=event.window, since=moment(finding.since_s), detector=NAME, statistic=finding.statistic,
        budget_rows=settings.budget_rows, rows_watched=finding.rows,
        features=tuple(effect.evidence(settings.attribution_tolerance) for effect in finding.effects),
        attributions=influence.evidence(finding.effects, usual), retrain=settings.retrain_on_drift,
    )  # fmt: skip
    if finding.kind == "alarm":
        tx.emit(drift, detail={"since": drift.since.isoformat(), "feature": drift.features[0].name})
    await store.add_finding(tx.session, uuid7(), endpoint.unit, finding.kind, now(), drift, dimension="attributions")
    tx.then.append(metrics.FOUND.labels(endpoint.endpoint, f"attribution {finding.kind}").inc)


def _count(endpoint: str, result: str, rows: int) -> None:
    if rows:
        metrics.ATTRIBUTED.labels(endpoint, result).inc(rows)


def _tell(endpoint: str, statistic: float, threshold: float) -> None:
    metrics.ATTRIBUTION_STATISTIC.labels(endpoint).set(statistic)
    metrics.ATTRIBUTION_THRESHOLD.labels(endpoint).set(threshold)
