"""Judges the values of closed windows: whether more than usual cannot be used, and what is told of it."""

from typing import Any

from numpy.typing import NDArray

from services.kit.alerts import raise_alert, resolve_alert
from services.kit.db import Tx

from .. import metrics, store
from ..domain.budget import of_quality
from ..domain.grouped import columns_of
from ..domain.quality import Departure, Quality, Unusable, counted, elsewhere
from ..domain.reference import Reference
from ..domain.windows import Part, moment
from ..store import Endpoint, quality

KIND = "data-quality"
_SHOWN = 5


async def observe(tx: Tx, endpoint: Endpoint, reference: Reference, part: Part, start_s: float) -> None:
    """Show a window of the version that serves. Its alarm of drift, if there is one, was said before."""
    name, settings = endpoint.endpoint, endpoint.settings
    counts = part.counts()
    if counts is None:
        return
    if not settings.quality_alerts:
        await drop(tx, name, endpoint.unit, "alerts of data quality are off")
        return
    before = await quality.watch(tx.session, name, endpoint.version) or Quality.start(reference)
    seen = before.observe(counted(reference.tracks, counts, part.traffic.ids), start_s, settings.quality_tolerance)
    drifting = await _drifting(tx, name, reference)
    after = seen.judge(of_quality(endpoint.budget_rows), drifting)
    await quality.save(tx.session, endpoint, after)
    if found := after.found(before, reference.tracks):
        _say(tx, endpoint, found)
    elif before.told.any() and not after.told.any():
        told = (before.told & drifting).any()
        resolve_alert(tx, KIND, name, "the alert of drift tells it" if told else "its values are as usual again",
                      unit=endpoint.unit)  # fmt: skip


async def drop(tx: Tx, name: str, unit: str, reason: str) -> None:
    """What is watched next is watched anew; an open alarm is over."""
    if await quality.drop(tx.session, name):
        resolve_alert(tx, KIND, name, reason, unit=unit)


async def accept(tx: Tx, endpoint: Endpoint, reason: str) -> None:
    """What is beyond its bound now is usual."""
    if found := await quality.watch(tx.session, endpoint.endpoint, endpoint.version):
        await quality.save(tx.session, endpoint, found.accepted(of_quality(endpoint.budget_rows)))
        if found.told.any():
            resolve_alert(tx, KIND, endpoint.endpoint, reason, unit=endpoint.unit)


async def _drifting(tx: Tx, name: str, reference: Reference) -> NDArray[Any]:
    alarm = await store.open_alarm(tx.session, name)
    return elsewhere(reference.tracks, columns_of(feature.name for feature in alarm.features) if alarm else ())


def _say(tx: Tx, endpoint: Endpoint, found: Unusable) -> None:
    told = [_told(each) for each in found.departures[:_SHOWN]]
    more = f", and {len(found.departures) - _SHOWN} more" if len(found.departures) > _SHOWN else ""
    much = "; ".join(told) + more
    raise_alert(
        tx, KIND, endpoint.endpoint, "warning",
        f"{endpoint.model} version {endpoint.version} gets more values that cannot be used", much,
        "Look what was changed where these columns come from; where it is right so, accept it as the new normal.",
        unit=endpoint.unit, since=moment(found.since_s), how_much=much,
    )  # fmt: skip
    tx.then.append(metrics.FOUND.labels(endpoint.endpoint, KIND).inc)


def _told(found: Departure) -> str:
    shares = f"{found.now:.3g} of {found.rows:,} rows instead of {found.before:.3g}"
    if found.what.column is None:
        return f"request ids that came before: {shares}"
    return f"{found.what.column} {found.what.how}: {shares}"
