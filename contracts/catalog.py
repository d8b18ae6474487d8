"""What the catalog says: which use cases the business wants and which models exist."""

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from .base import Digest, Event, Name, Topic, Value, Version, absent
from .model import Format, ModelSchema, Scan, Training
from .monitoring import MonitorSettings


class ServiceLevel(Value):
    """What a use case promises its callers."""

    latency_p99_ms: float = 50.0
    availability: float = 0.999


class UseCaseRegistered(Event):
    """The business named something that it wants decided by a model, and who answers for it."""

    topic: ClassVar[Topic] = Topic("usecase.registered", speaker="catalog")
    key_field: ClassVar[str] = "use_case"

    use_case: Name
    title: str
    unit: Name
    owner: str
    risk_tier: int
    """1 (harmless) to 4 (regulated); the life-cycle policy reads it."""
    purpose: str
    sla: ServiceLevel = ServiceLevel()
    kpi_targets: dict[str, float] = {}
    protected: tuple[str, ...] = ()
    permitted_data: tuple[str, ...] = ()


class ModelRegistered(Event):
    """A version of a model is in the catalog, its bytes addressed, scanned and profiled."""

    topic: ClassVar[Topic] = Topic("model.registered", speaker="catalog")
    key_field: ClassVar[str] = "model"

    model: Name
    version: Version
    unit: Name
    digest: Digest
    """The package: a zip of `fairlead.yaml`, the model file and its recipe."""
    format: Format
    executes_code: bool
    """The format can run code when it is opened: it is served from the sandbox only."""
    model_schema: ModelSchema
    baseline_digest: Digest | None
    """The reference profile (sketches, not rows) of the training data."""
    scan: Scan
    training: Training
    retrainable: bool
    """The package holds a recipe that the retrainer can run."""
    registered_by: str
    tags: tuple[str, ...] = ()
    monitor: MonitorSettings | None = Field(default=None, exclude_if=absent)
    """How an endpoint is watched while this version is its champion, where the package says so."""


class CandidateRefused(Event):
    """What a retraining brought did not become a version: the same bytes would be refused again."""

    topic: ClassVar[Topic] = Topic("candidate.refused", speaker="catalog")
    key_field: ClassVar[str] = "model"

    model: Name
    retraining_id: UUID
    package_digest: Digest
    reason: str


class ModelRetired(Event):
    """A version must not be deployed again; endpoints that serve it are told to stop."""

    topic: ClassVar[Topic] = Topic("model.retired", speaker="catalog")
    key_field: ClassVar[str] = "model"

    model: Name
    version: Version
    retired_by: str
    reason: str
