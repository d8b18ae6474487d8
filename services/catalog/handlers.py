"""What the catalog hears."""

from contracts import ApprovalGranted, DeploymentChanged, RetrainingCompleted
from services.kit.bus import Subscription, on

from .usecases import Catalog


def subscriptions(catalog: Catalog) -> list[Subscription]:
    return [
        on(RetrainingCompleted, catalog.register_candidate),
        on(DeploymentChanged, catalog.note_deployment),
        on(ApprovalGranted, catalog.note_grant),
    ]
