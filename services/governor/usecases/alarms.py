"""The alarm of a drifting endpoint: kept with the drift that raised it, and said like every other alert.

It ends with the version that drifts, with a retraining that finds nothing better, or when the monitor says that a
person accepted what is seen.
"""

from collections.abc import Sequence
from datetime import datetime

from contracts import AlertRaised, DriftDetected, InfluenceEvidence, PerformanceEvidence
from services.governor.domain import evidence
from services.governor.store import alerts as store
from services.governor.store.alerts import Alert
from services.kit.alerts import alert_id, raise_alert, resolve_alert
from services.kit.cloudevents import source
from services.kit.db import Tx
from services.kit.ids import now

_KIND, _WORSE, _GROUNDS = "drift", "performance", "attribution-drift"
_HERE = source("governor")


def is_ours(event: AlertRaised, said_by: str) -> bool:
    """Whether this alert came from here: it was kept when it was said, and hearing it again counts nothing."""
    return event.kind in (_KIND, _WORSE, _GROUNDS) and said_by == _HERE


async def raise_(tx: Tx, drift: DriftDetected, unit: str, at: datetime) -> Alert:
    """An endpoint drifts, became worse, or decides on other grounds: open its one alarm of that, or count it."""
    if drift.performance:
        return await store.raised(tx.session, _worse(tx, drift, drift.performance, unit), unit, _HERE, at)
    if drift.attributions is not None:
        return await store.raised(tx.session, _grounds(tx, drift, drift.attributions, unit), unit, _HERE, at)
    much = evidence.moved(drift.features) + "; " + evidence.seen(drift.window, drift.statistic, drift.budget_rows)
    alarm = raise_alert(
        tx, _KIND, drift.endpoint, "warning",
        f"{drift.model} version {drift.version} sees other data than it learned from"
        + (f" where {drift.segment}" if drift.segment else ""),
        f"since {drift.since:%Y-%m-%d %H:%M:%S} UTC, {much}",
        "Look at the drift chart; a retraining is asked for where the endpoint's settings say so.",
        unit=unit, since=drift.since, how_much=much, segment=drift.segment,
    )  # fmt: skip
    return await store.raised(tx.session, alarm, unit, _HERE, at)


async def end(tx: Tx, endpoint: str, unit: str, reason: str) -> None:
    """What the alarms told of is over; nothing where there is no open one."""
    for kind in (_KIND, _WORSE, _GROUNDS):
        alarm = await store.lock(tx.session, alert_id(kind, endpoint))
        if alarm and alarm.state != "resolved":
            await store.resolved(tx.session, alarm.id, reason, now())
            resolve_alert(tx, kind, endpoint, reason, unit=unit)


def _worse(tx: Tx, drift: DriftDetected, found: PerformanceEvidence, unit: str) -> AlertRaised:
    much = evidence.worse(found)
    return raise_alert(
        tx, _WORSE, drift.endpoint, "warning",
        f"{drift.model} version {drift.version} is wrong more than before",
        f"since {drift.since:%Y-%m-%d %H:%M:%S} UTC, {much}",
        "Look at the endpoint's performance; a retraining is asked for where the endpoint's settings say so.",
        unit=unit, since=drift.since, how_much=much, cost=evidence.cost(found),
    )  # fmt: skip


def _grounds(tx: Tx, drift: DriftDetected, found: Sequence[InfluenceEvidence], unit: str) -> AlertRaised:
    much = evidence.rests_on(found, drift.features)
    seen = evidence.seen(drift.window, drift.statistic, drift.budget_rows, "explained rows")
    return raise_alert(
        tx, _GROUNDS, drift.endpoint, "warning",
        f"{drift.model} version {drift.version} decides on other grounds than over its training rows",
        f"since {drift.since:%Y-%m-%d %H:%M:%S} UTC, {much}; {seen}",
        "Look at the influence of the columns in the console, and explain some decisions since then: were these columns"
        " loaded otherwise, or are other people asking? Accept it where it is right so.",
        unit=unit, since=drift.since, how_much=much,
    )  # fmt: skip
