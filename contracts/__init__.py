"""What services say to each other: data only, one file per speaker."""

from .base import SERVICES, Digest, Envelope, Event, Name, Service, Topic, Value, Version, by_type
from .catalog import CandidateRefused, ModelRegistered, ModelRetired, ServiceLevel, UseCaseRegistered
from .cells import MISSING_CELLS, number_in
from .deployer import (
    COHORTS,
    Cohorts,
    DeploymentChanged,
    DeploymentRequested,
    DeploymentSettled,
    Role,
    Routing,
    Strategy,
    Variant,
)
from .every import AlertRaised, AlertResolved, AuditRecorded
from .governor import (
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalRevoked,
    AuditSealed,
    Gate,
    Grant,
    RetrainingRequested,
    Signature,
    Statement,
)
from .model import NUMPY_OF, Column, Datatype, Format, ModelSchema, ParamSpec, ParamType, Scan, TensorSpec, Training
from .monitor import (
    AttributionsRequested,
    ColumnReport,
    DriftDetected,
    EffectUnit,
    Explaining,
    FeatureEvidence,
    InfluenceEvidence,
    Latency,
    MonitorReported,
    Moved,
    PerformanceEvidence,
    RuleExample,
    RuleReport,
    Told,
    TrafficReport,
    Window,
)
from .monitoring import KPI_FACTS, Budget, GivenSettings, MonitorSettings, Rule, Season, Tolerance, ValueMatrix
from .profile import AxisProfile, CategoricalProfile, ColumnProfile, NumericProfile, Profile, Rotation
from .recorder import Decided, DecisionsErased, OutcomeObserved, OutcomeReported
from .retrainer import RetrainingCompleted
from .scorer import (
    Answered,
    AttributionsMeasured,
    InferenceCompleted,
    InferenceImported,
    InferenceLogged,
    InferenceRequested,
    Mode,
    PayloadReference,
    ReplicaReported,
    UsageReported,
)
from .topology import EVENTS, HEARS, SAYS, event_of

__all__ = [
    "Budget", "GivenSettings", "KPI_FACTS", "Rule", "RuleExample", "RuleReport", "Season", "Tolerance",
    "COHORTS", "EVENTS", "HEARS", "MISSING_CELLS", "NUMPY_OF", "SAYS", "SERVICES",
    "AxisProfile", "CategoricalProfile", "ColumnProfile", "NumericProfile", "Profile", "Rotation",
    "AlertRaised", "AlertResolved", "ApprovalGranted", "ApprovalRejected", "ApprovalRequested", "ApprovalRevoked",
    "Answered", "AttributionsMeasured", "AttributionsRequested", "AuditRecorded", "AuditSealed", "CandidateRefused",
    "Cohorts",
    "Column", "ColumnReport", "Datatype", "Decided", "DecisionsErased", "DeploymentChanged", "DeploymentRequested",
    "DeploymentSettled", "Digest", "DriftDetected", "Envelope", "Event", "Explaining",
    "FeatureEvidence", "Format", "Gate", "Grant", "InferenceCompleted", "InferenceImported", "InferenceLogged",
    "InferenceRequested", "InfluenceEvidence", "Latency", "Mode", "ModelRegistered", "ModelRetired", "ModelSchema",
    "MonitorReported", "MonitorSettings", "Moved", "Name", "OutcomeObserved", "OutcomeReported", "ParamSpec",
    "ParamType", "PayloadReference",
    "EffectUnit", "PerformanceEvidence", "ReplicaReported",
    "RetrainingCompleted", "RetrainingRequested", "Role", "Routing", "Scan", "Service", "ServiceLevel", "Signature",
    "Statement", "Strategy", "TensorSpec", "Told", "Topic", "TrafficReport", "Training", "UsageReported",
    "UseCaseRegistered", "Value", "ValueMatrix", "Variant", "Version", "Window", "by_type", "event_of", "number_in",
]  # fmt: skip
