"""What the deployer says: what was asked to run where, and what each endpoint shall look like."""

from datetime import datetime, timedelta
from operator import not_
from typing import ClassVar, Literal
from uuid import UUID

from pydantic import Field

from .base import Digest, Event, Name, Topic, Value, Version, absent
from .governor import Grant, Signature
from .model import Format, ModelSchema

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


class ValueMatrix(Value):
    """What a decision is worth by what turned out, in the currency of whoever sets it; positive is the favourable
    class."""

    true_positive: float = 0.0
    false_positive: float = 0.0
    false_negative: float = 0.0
    true_negative: float = 0.0


class MonitorSettings(Value):
    """How an endpoint is watched."""

    window_s: float = 10.0
    budget_rows: int = 1_000_000
    """The expected number of rows between two false alarms of this endpoint, over all its detectors."""
    tolerance: float = 0.1
    """The smallest effect that matters: standard deviations of a numeric column, PSI of a categorical one."""
    season_s: float | None = Field(default=None, exclude_if=absent)
    """The period in which columns rise and fall as a matter of course, seconds; 0 or None: there is none."""
    retrain_on_drift: bool = True
    payload_sample: float = Field(default=1.0, ge=0, le=1, exclude_if=(1.0).__eq__)
    """The share of inferences whose requests and responses are logged; all of them are logged, and counted. Left out
    where it is 1, so that what was signed before there was this member still is what was signed."""
    outcome_window_s: float = Field(default=3_600.0, exclude_if=(3_600.0).__eq__)
    """The length of the windows in which outcomes are counted: labels are fewer than decisions."""
    favourable: float | str | None = Field(default=None, exclude_if=absent)
    """The class that people want to get, which fairness and the value matrix call positive; None for the second one of
    two classes."""
    expected_error: float | None = Field(default=None, exclude_if=absent)
    """The share of wrong decisions that is accepted; None: as many as there were so far."""
    value_matrix: ValueMatrix | None = Field(default=None, exclude_if=absent)
    kpis: dict[str, str] = Field(default={}, exclude_if=not_)
    """By name, expressions in CEL over a decision and its outcome, whose mean is told."""


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
