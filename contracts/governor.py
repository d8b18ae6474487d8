"""What the governor says: what may happen, who allowed it, and the seal on the record of it."""

from datetime import datetime, timedelta
from typing import ClassVar, Literal
from uuid import UUID

from .base import Digest, Event, Name, Topic, Value, Version


class Gate(Value):
    """One automatic check of a life-cycle process and what it saw."""

    name: str
    passed: bool
    rule: str
    """The CEL expression that decided."""
    facts: dict[str, str | float | int | bool]


class Statement(Value):
    """What a grant says, to the byte: signed over its canonical JSON."""

    approval_id: UUID
    deployment_id: UUID
    endpoint: Name
    use_case: Name
    model: Name
    version: Version
    digest: Digest
    policy_version: str
    evidence_digest: Digest
    requested_by: str
    granted_by: str
    granted_at: datetime
    expires_at: datetime
    """Bounds the start of a rollout, never serving."""


class Signature(Value):
    """An Ed25519 signature (base64) and the id of the key that made it."""

    key_id: str
    value: str


class Grant(Value):
    """A signed statement that these bytes may serve this endpoint."""

    statement: Statement
    signature: Signature


class ApprovalRequested(Event):
    """The gates passed and the template asks a person."""

    topic: ClassVar[Topic] = Topic("approval.requested", speaker="governor")
    key_field: ClassVar[str] = "endpoint"

    approval_id: UUID
    deployment_id: UUID
    process_id: UUID
    endpoint: Name
    use_case: Name
    model: Name
    version: Version
    digest: Digest
    requested_by: str
    gates: tuple[Gate, ...]
    evidence_digest: Digest


class ApprovalGranted(Event):
    """Somebody who may allowed these bytes behind this endpoint; the statement is signed."""

    topic: ClassVar[Topic] = Topic("approval.granted", speaker="governor")
    key_field: ClassVar[str] = "endpoint"

    approval_id: UUID
    deployment_id: UUID
    endpoint: Name
    grant: Grant
    reason: str


class ApprovalRejected(Event):
    """A gate or a person refused the deployment."""

    topic: ClassVar[Topic] = Topic("approval.rejected", speaker="governor")
    key_field: ClassVar[str] = "endpoint"

    approval_id: UUID
    deployment_id: UUID
    endpoint: Name
    rejected_by: str
    reason: str
    gates: tuple[Gate, ...] = ()


class ApprovalRevoked(Event):
    """A grant no longer stands; what serves under it must stop."""

    topic: ClassVar[Topic] = Topic("approval.revoked", speaker="governor")
    key_field: ClassVar[str] = "endpoint"

    approval_id: UUID
    deployment_id: UUID
    endpoint: Name
    revoked_by: str
    reason: str


class RetrainingRequested(Event):
    """A drift or a person asked for a model to be made right again."""

    topic: ClassVar[Topic] = Topic("retraining.requested", speaker="governor", keep=timedelta(days=365))
    key_field: ClassVar[str] = "model"

    retraining_id: UUID
    model: Name
    version: Version
    endpoint: Name
    use_case: Name
    cause: Literal["drift", "person"]
    cause_id: str | None
    """The id of the event that triggered it, for a drift."""
    since: datetime | None = None
    """When the change began: the recorded data to learn from starts here."""
    requested_by: str


class AuditSealed(Event):
    """The ledger up to a record is sealed: a signed checkpoint, published outside the database."""

    topic: ClassVar[Topic] = Topic("audit.sealed", speaker="governor", partitions=1)
    key_field: ClassVar[str] = "ledger"

    ledger: str
    position: int
    """The ledger position of the last sealed record, counted from 1."""
    head: Digest
    """The chain's hash at that position."""
    sealed_at: datetime
    signature: Signature
