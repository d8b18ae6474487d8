"""What Prometheus reads of the governor."""

from typing import get_args

from prometheus_client import Counter

from .domain.routing import Kind

MESSAGES = Counter(
    "fairlead_alert_messages_total", "Messages about alerts: sent, tried again later, or failed", ["kind", "result"]
)
for kind in get_args(Kind):
    MESSAGES.labels(kind, "failed")  # at 0 from the start: a rule sees the first one, too
