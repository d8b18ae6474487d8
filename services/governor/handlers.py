"""What the governor reacts to. The audit rows of all services come in batches: see `jobs.py`."""

from contracts import (
    AlertRaised,
    AlertResolved,
    CandidateRefused,
    DeploymentChanged,
    DeploymentRequested,
    DeploymentSettled,
    DriftDetected,
    ModelRegistered,
    ModelRetired,
    ReplicaReported,
    RetrainingCompleted,
    UseCaseRegistered,
)
from services.kit.bus import Subscription, on

from .usecases import Governor


def subscriptions(governor: Governor) -> list[Subscription]:
    """Which event starts which use case."""
    return [
        on(UseCaseRegistered, governor.life_cycle.know_use_case),
        on(ModelRegistered, governor.life_cycle.know_model),
        on(ModelRetired, governor.life_cycle.end_version),
        on(DeploymentRequested, governor.life_cycle.start),
        on(DeploymentChanged, governor.life_cycle.follow),
        on(DeploymentSettled, governor.life_cycle.settle),
        on(ReplicaReported, governor.life_cycle.note_serving),
        on(DriftDetected, governor.retrainings.hear_drift),
        on(RetrainingCompleted, governor.retrainings.complete),
        on(CandidateRefused, governor.retrainings.refuse),
        on(AlertRaised, governor.alerts.raise_),
        on(AlertResolved, governor.alerts.resolve),
    ]
