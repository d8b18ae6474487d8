"""Who says and who hears what: the source of topics, access rights and AsyncAPI documents."""

from .base import SERVICES, Event, Service, by_type
from .catalog import CandidateRefused, ModelRegistered, ModelRetired, UseCaseRegistered
from .deployer import DeploymentChanged, DeploymentRequested, DeploymentSettled
from .every import AlertRaised, AlertResolved, AuditRecorded
from .governor import (
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalRevoked,
    AuditSealed,
    RetrainingRequested,
)
from .monitor import AttributionsRequested, DriftDetected, MonitorReported
from .recorder import DecisionsErased, OutcomeObserved, OutcomeReported
from .retrainer import RetrainingCompleted
from .scorer import (
    AttributionsMeasured,
    InferenceCompleted,
    InferenceImported,
    InferenceLogged,
    InferenceRequested,
    ReplicaReported,
    UsageReported,
)

EVENTS: tuple[type[Event], ...] = (
    UseCaseRegistered, ModelRegistered, CandidateRefused, ModelRetired,
    DeploymentRequested, DeploymentChanged, DeploymentSettled,
    ApprovalRequested, ApprovalGranted, ApprovalRejected, ApprovalRevoked, RetrainingRequested, AuditSealed,
    ReplicaReported, InferenceRequested, InferenceCompleted, InferenceImported, InferenceLogged, UsageReported,
    AttributionsMeasured,
    DriftDetected, MonitorReported, AttributionsRequested,
    RetrainingCompleted,
    OutcomeReported, OutcomeObserved, DecisionsErased,
    AuditRecorded, AlertRaised, AlertResolved,
)  # fmt: skip

SAYS: dict[Service, tuple[type[Event], ...]] = {
    service: tuple(e for e in EVENTS if not e.topic.open and e.topic.speaker in (service, "every"))
    for service in SERVICES
}

# What a service reads, no more: it becomes its right to read, and its AsyncAPI document.
HEARS: dict[Service, tuple[type[Event], ...]] = {
    "catalog": (RetrainingCompleted, ApprovalGranted, DeploymentChanged),
    "deployer": (
        UseCaseRegistered, ModelRegistered, ModelRetired, ApprovalRequested, ApprovalGranted, ApprovalRejected,
        ApprovalRevoked, RetrainingCompleted, ReplicaReported,
    ),
    "scorer": (
        DeploymentChanged, InferenceRequested, InferenceCompleted, InferenceImported, OutcomeObserved, DecisionsErased,
        AttributionsRequested,
    ),
    "monitor": (
        UseCaseRegistered, DeploymentChanged, InferenceLogged, OutcomeObserved, UsageReported, DecisionsErased,
        AttributionsMeasured,
    ),
    "governor": (
        UseCaseRegistered, ModelRegistered, ModelRetired, DeploymentRequested, DeploymentChanged, DeploymentSettled,
        ReplicaReported, DriftDetected, RetrainingCompleted, CandidateRefused, AlertRaised, AlertResolved,
        AuditRecorded,
    ),
    "retrainer": (ModelRegistered, RetrainingRequested),
    "recorder": (DeploymentChanged, InferenceLogged, OutcomeReported, OutcomeObserved),
    "console": EVENTS,
}  # fmt: skip

_BY_TYPE = by_type(EVENTS)


def event_of(type_: str) -> type[Event] | None:
    """The event of a CloudEvents type, or None for a type that nobody here declared."""
    return _BY_TYPE.get(type_)
