"""What the deployer says: what was asked to run where, and what each endpoint shall look like."""

from datetime import datetime, timedelta
from operator import not_
from typing import ClassVar, Literal
from uuid import UUID

from pydantic import Field

from .base import Digest, Event, Name, Topic, Value, Version, absent
from .governor import Grant, Signature
from .model import Format, ModelSchema
from .monitoring import MonitorSettings

Strategy = Literal["direct", "canary", "ab", "bandit", "shadow", "fallback"]
"""How a version comes to an endpoint: in place of the champion (direct), or beside it."""

Role = Literal["live", "shadow", "fallback"]
"""What a version does there: answers callers, gets copies of what was answered, or answers where another failed."""

COHORTS = 10_000
"""Into so many equal cohorts an endpoint's entities fall: the least share of them that a version can be given."""


class DeploymentRequested(Event):
    """Somebody asked for a version behind an endpoint of a use case; the governor answers."""

    topic: ClassVar[Topic] = Topic("deployment.requested", speaker="deployer", keep=timedelta(days=365))
    key_field: ClassVar[str] = "endpoint"

    deployment_id: UUID
    endpoint: Name
    use_case: Name
    unit: Name
    model: Name
    version: Version
    digest: Digest
    strategy: Strategy
    streaming: bool
    requested_by: str
    retraining_id: UUID | None = None
    """Set when the life-cycle template asked, after a retraining whose candidate won."""
    variant: Name | None = Field(default=None, exclude_if=absent)
    """What the version shall be called in the endpoint; None for `champion`."""
    weight: float | None = Field(default=None, exclude_if=absent)
    """Its share of the requests, where the strategy has shares."""


class DeploymentSettled(Event):
    """It is decided what became of a deployment: it serves, or it never will (refused, overtaken, broken), and why.

    Every deployment that was asked for ends so, once: what becomes of it later (replaced, rolled back, brought back,
    removed) `deployment.changed` tells. A repeat has the same event id, as with every event.
    """

    topic: ClassVar[Topic] = Topic("deployment.settled", speaker="deployer", keep=timedelta(days=365))
    key_field: ClassVar[str] = "endpoint"

    deployment_id: UUID
    endpoint: Name
    model: Name
    version: Version
    state: Literal["serving", "failed"]
    reason: str | None = None


class Cohorts(Value):
    """Consecutive cohorts of an endpoint, of those numbered 0 to 9999."""

    first: int
    last: int
    """Of them too."""


def _is_live(role: Role) -> bool:
    return role == "live"


class Variant(Value):
    """One version in an endpoint's desired state, with the grant that lets it serve."""

    name: Name
    """`champion` for the first one, which serves all that no other does; no name is there twice, nor a version."""
    model: Name
    version: Version
    digest: Digest
    format: Format
    weight: float = 1.0
    """Its share of the requests: of all live ones the sum is 1."""
    model_schema: ModelSchema
    baseline_digest: Digest | None
    grant: Grant
    role: Role = Field(default="live", exclude_if=_is_live)
    cohorts: tuple[Cohorts, ...] = Field(default=(), exclude_if=not_)
    """Whom it answers, where entities keep to their version; the champion answers all others."""


class Routing(Value):
    """How requests are shared out where several versions are live."""

    strategy: Literal["canary", "ab", "bandit"]
    salt: str
    """What entities are put into cohorts with; another experiment has another one."""
    since: datetime
    """When the experiment began: a bandit learns from what was decided since then."""


class DeploymentChanged(Event):
    """The whole desired state of an endpoint, signed by the deployer; a revision never goes back."""

    topic: ClassVar[Topic] = Topic("deployment.changed", speaker="deployer", compacted=True, partitions=1)
    key_field: ClassVar[str] = "endpoint"

    endpoint: Name
    unit: Name
    use_case: Name
    revision: int
    state: Literal["serving", "removed"]
    streaming: bool
    variants: tuple[Variant, ...]
    """The champion first, then what stands beside it; each is reached by its number through `versions/{v}`."""
    monitor: MonitorSettings
    withdrawn: tuple[UUID, ...] = Field(default=(), exclude_if=not_)
    """Approvals of this endpoint that were revoked or whose version is retired: whatever was loaded under one of them
    stops at once, whether its successor is loaded or not. Left out where there is none, so that what was signed before
    there was this member still is what was signed."""
    routing: Routing | None = Field(default=None, exclude_if=absent)
    """Set where more than one version is live."""
    signature: Signature
    """Over the canonical JSON of everything else."""
