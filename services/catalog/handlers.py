"""What the catalog hears."""

from contracts import ApprovalGranted, DeploymentChanged, RetrainingCompleted
from services.kit.bus import Subscription, on

from .usecases import Candidates, Catalog


def subscriptions(catalog: Catalog, candidates: Candidates) -> list[Subscription]:
    """The events that the catalog reacts to, and how."""
    return [
        on(RetrainingCompleted, candidates.take),
        on(DeploymentChanged, catalog.note_deployment),
        on(ApprovalGranted, catalog.note_grant),
    ]
