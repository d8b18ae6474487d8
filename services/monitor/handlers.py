"""Events in: to what the monitor reacts; the inference log and desired states are read otherwise (`jobs.py`)."""

from contracts import UsageReported, UseCaseRegistered
from services.kit.bus import Subscription, on

from .usecases.metering import Metering
from .usecases.serving import Serving


def subscriptions(metering: Metering, serving: Serving) -> list[Subscription]:
    """One row for each event that the monitor hears."""
    return [
        on(UsageReported, metering.note),
        on(UseCaseRegistered, serving.learn_promise),
    ]
