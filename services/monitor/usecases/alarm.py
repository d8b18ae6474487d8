"""An alarm as the alert that people see: one for an endpoint, raised when it is found and resolved when it is closed."""

from contracts import DriftDetected
from services.kit.alerts import raise_alert, resolve_alert
from services.kit.db import Tx

from .. import store

KIND = "drift"
_NAMED = 5
"""So many columns stand in the alert's text; the event has them all."""


def begin(tx: Tx, event: DriftDetected, unit: str) -> None:
    """Say that an endpoint departed from its baseline, for programs and for people."""
    tx.emit(event, unit=unit, detail={"since": event.since.isoformat(), "feature": event.features[0].name})
    told = ", ".join(f"{f.name} by {f.effect:+.2f} {f.unit}" for f in event.features[:_NAMED])
    raise_alert(
        tx, KIND, event.endpoint, "warning", f"{event.model} version {event.version} sees other data than it learned from",
        f"since {event.since:%Y-%m-%d %H:%M:%S} UTC, {told} (window of {event.window.rows} rows)",
        "Look at the drift chart: retrain the model, deploy another, or accept what is seen as the new normal.",
        unit=unit,
    )  # fmt: skip


async def end(tx: Tx, endpoint: str, unit: str, reason: str) -> None:
    """Close an endpoint's open alarm, if there is one, and say that its alert is over."""
    if await store.close_alarm(tx.session, endpoint, reason):
        resolve_alert(tx, KIND, endpoint, reason, unit=unit)
