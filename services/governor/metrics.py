"""What Prometheus reads of the governor."""

from typing import get_args

from prometheus_client import Counter, Gauge

from .domain.routing import Kind

MESSAGES = Counter(
    "fairlead_alert_messages_total", "Messages about alerts: sent, tried again later, or failed", ["kind", "result"]
)
ASIDE = Gauge("fairlead_alerts_aside", "What could not be told and lies aside until it is tried again")
UNREADABLE = Gauge("fairlead_alert_routes_unreadable", "Routes that this version cannot read: they tell nobody")
for kind in get_args(Kind):
    MESSAGES.labels(kind, "failed")  # at 0 from the start: a rule sees the first one, too
