"""Events in: to what the retrainer reacts."""

from contracts import ModelRegistered, RetrainingRequested
from services.kit.bus import Subscription, on

from .usecases import Retrainer


def subscriptions(retrainer: Retrainer) -> list[Subscription]:
    """Which event starts which use case."""
    return [
        on(ModelRegistered, retrainer.learn_version),
        on(RetrainingRequested, retrainer.take_request),
    ]
