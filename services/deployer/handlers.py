"""Events in: to what the deployer reacts."""

from contracts import (
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalRevoked,
    ModelRegistered,
    ModelRetired,
    RetrainingCompleted,
    UseCaseRegistered,
)
from services.kit.bus import Subscription, on

from .usecases import Deployer


def subscriptions(deployer: Deployer) -> list[Subscription]:
    """One row for each event that the deployer hears."""
    return [
        on(UseCaseRegistered, deployer.learn_use_case),
        on(ModelRegistered, deployer.learn_version),
        on(ModelRetired, deployer.forget_version),
        on(ApprovalRequested, deployer.note_review),
        on(ApprovalGranted, deployer.roll_out),
        on(ApprovalRejected, deployer.refuse),
        on(ApprovalRevoked, deployer.revoke),
        on(RetrainingCompleted, deployer.request_promotion),
    ]
