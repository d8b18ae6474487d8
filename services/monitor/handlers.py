"""Events in: to what the monitor reacts; the inference log and desired states are read otherwise (`jobs.py`)."""

from contracts import AttributionsMeasured, DecisionsErased, UsageReported, UseCaseRegistered
from services.kit.bus import Subscription, on

from .usecases.attributing import Attributing
from .usecases.forgetting import Forgetting
from .usecases.metering import Metering
from .usecases.serving import Serving


def subscriptions(
    metering: Metering, serving: Serving, forgetting: Forgetting, attributing: Attributing
) -> list[Subscription]:
    """One row for each event that the monitor hears."""
    return [
        on(UsageReported, metering.note),
        on(UseCaseRegistered, serving.learn_promise),
        on(DecisionsErased, forgetting.forget),
        on(AttributionsMeasured, attributing.hear),
    ]
