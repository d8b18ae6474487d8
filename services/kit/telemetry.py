"""Logs as JSON lines with the story they belong to, and Prometheus metrics."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram

from .context import maybe_current

HTTP_REQUESTS = Counter("fairlead_http_requests_total", "HTTP requests answered", ["method", "route", "status"])
HTTP_SECONDS = Histogram("fairlead_http_seconds", "Time to answer an HTTP request", ["method", "route"])
EVENTS_HANDLED = Counter("fairlead_events_handled_total", "Control events handled", ["topic", "result"])
OUTBOX_AGE = Gauge("fairlead_outbox_age_seconds", "Age of the oldest event that is not yet in Kafka")
OUTBOX_PUBLISHED = Counter("fairlead_outbox_published_total", "Outbox rows written to Kafka")
STREAM_RECORDS = Counter("fairlead_stream_records_total", "Records handled from batch streams", ["topic"])
STREAM_LAG = Gauge("fairlead_stream_lag_records", "Records not yet handled", ["topic", "partition"])
COMPACTED_UNREAD = Gauge(
    "fairlead_compacted_unread_keys", "Keys whose newest state in a compacted topic is not understood here", ["topic"]
)
PARKED = Gauge("fairlead_parked_events", "Events that refer to something that has not arrived")


def _story(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if context := maybe_current():
        event["correlation_id"], event["actor"] = context.correlation_id, context.caller.actor
    return event


def configure_logging(service: str, level: str) -> None:
    """One JSON object a line on standard output; libraries speak through the same pipe."""
    logging.basicConfig(level=level, stream=sys.stdout, format="%(message)s", force=True)
    for noisy in ("aiokafka", "faststream", "httpx", "httpcore", "uvicorn.access", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _story,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.PrintLoggerFactory(),
    )
    structlog.contextvars.bind_contextvars(service=service)


def get_logger(name: str) -> Any:
    """A structured logger: `log.info("what happened", key=value)`."""
    return structlog.get_logger(module=name)
