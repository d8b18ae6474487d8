"""Ends the alarms of an endpoint with the governor's alerts of them."""

from services.kit.alerts import resolve_alert
from services.kit.db import Tx

from .. import store
from ..store import Dimension, Endpoint

_ALERTS: dict[Dimension, str] = {"data": "drift", "performance": "performance", "attributions": "attribution-drift"}
"""What the governor calls the alerts of these alarms."""


async def end_alarms(tx: Tx, endpoint: Endpoint, reason: str, dimension: Dimension | None = None) -> None:
    """Those that are open, or the one of a dimension."""
    for each in await store.close_alarms(tx.session, endpoint.endpoint, reason, dimension):
        resolve_alert(tx, _ALERTS[each], endpoint.endpoint, reason, unit=endpoint.unit)
