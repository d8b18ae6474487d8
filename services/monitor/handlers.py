"""Events in: to what the monitor reacts; the inference log and desired states are read otherwise (`jobs.py`)."""

from contracts import UsageReported
from services.kit.bus import Subscription, on

from .usecases.metering import Metering


def subscriptions(metering: Metering) -> list[Subscription]:
    """One row for each event that the monitor hears."""
    return [
        on(UsageReported, metering.note),
    ]
