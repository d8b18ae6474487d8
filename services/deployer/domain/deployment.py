"""One ask for a version behind an endpoint: its states, what a grant must say, and who leaves for whom."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from uuid import UUID

from contracts import DeploymentRequested, DeploymentSettled, Grant, Strategy
from services.kit.errors import Conflict, Forbidden

State = Literal[
    "requested", "in_review", "rolling_out", "serving", "replaced", "rolled_back", "rejected", "failed", "revoked",
    "removed",
]  # fmt: skip
CHAMPION = "champion"

_OPEN: frozenset[State] = frozenset({"requested", "in_review"})
_NEVER_WAS: frozenset[State] = frozenset({"rejected", "failed"})
_BRINGS_BACK: frozenset[State] = frozenset({"serving", "replaced"})
_ASIDE: frozenset[Strategy] = frozenset({"shadow", "fallback"})
"""Versions that came so take no other's place."""


@dataclass(frozen=True)
class Deployment:
    """One ask for a version behind an endpoint, and what became of it."""

    id: UUID
    endpoint: str
    use_case: str
    unit: str
    model: str
    version: int
    digest: str
    strategy: Strategy
    streaming: bool
    requested_by: str
    requested_at: datetime
    changed_at: datetime
    retraining_id: UUID | None = None
    state: State = "requested"
    reason: str | None = None
    approval_id: UUID | None = None
    grant: Grant | None = None
    revision: int | None = None
    correlation_id: str = ""
    """The story of the ask: whatever is said of this deployment later belongs to it."""
    settled_at: datetime | None = None
    """When it was first decided whether it serves. One that is brought back later was settled before."""
    variant: str = CHAMPION
    """What it is called in the endpoint; `champion` from its promotion on."""
    weight: float | None = None
    """The share of the requests that was asked for, where the strategy has shares."""

    @property
    def open(self) -> bool:
        """Whether the governor's answer is still awaited."""
        return self.state in _OPEN

    @property
    def comes_back(self) -> bool:
        """Whether it may take over again where it served before: nobody took it back, and it did not fail."""
        return self.state in _BRINGS_BACK

    def under_review(self, approval_id: UUID, now: datetime) -> "Deployment":
        """The gates passed; a person is asked."""
        return replace(self, state="in_review", approval_id=approval_id, changed_at=now) if self.open else self

    def refused(self, reason: str, now: datetime) -> "Deployment":
        """A gate or a person said no."""
        return self.became("rejected", reason, now) if self.open else self

    def became(self, state: State, reason: str | None, now: datetime) -> "Deployment":
        """It serves, or it leaves the endpoint: replaced, rolled back, revoked, removed or failed."""
        return replace(self, state=state, reason=reason, changed_at=now, settled_at=self.settled_at or now)

    def revoked(self, reason: str, now: datetime) -> "Deployment":
        """Its grant was taken back: it neither serves nor comes back. One that failed or was refused stays so."""
        return self if self.state in _NEVER_WAS else self.became("revoked", reason, now)

    def started(self, grant: Grant, revision: int, now: datetime) -> "Deployment":
        """Start the rollout under a grant. Raises Conflict for a state or a grant that does not allow it."""
        if not self.open:
            raise Conflict(f"deployment {self.id} is {self.state}: it cannot start again")
        check_grant(self, grant, now)
        return replace(
            self, state="rolling_out", grant=grant, approval_id=grant.statement.approval_id, revision=revision,
            changed_at=now,
        )  # fmt: skip

    def brought_back(self, revision: int, now: datetime) -> "Deployment":
        """Roll out again under the grant that it had: a rollback, or the version after it failed."""
        return replace(self, state="rolling_out", reason=None, revision=revision, changed_at=now)

    def promoted(self, revision: int, now: datetime) -> "Deployment":
        """Roll out as the champion, under the grant that it has. Raises Conflict while it rolls out as another."""
        if self.state != "serving":
            raise Conflict(f"variant {self.variant} is {self.state.replace('_', ' ')}: promote it when it serves")
        return replace(self.brought_back(revision, now), variant=CHAMPION)

    def at_revision(self, revision: int) -> "Deployment":
        """Its endpoint is said anew: its rollout is that revision's from now on."""
        return replace(self, revision=revision)

    def settled(self) -> DeploymentSettled:
        """The event that says what became of it. Raises Conflict while that is open."""
        if self.settled_at is None:
            raise Conflict(f"deployment {self.id} is {self.state}: nothing is decided yet")
        return DeploymentSettled(
            deployment_id=self.id, endpoint=self.endpoint, model=self.model, version=self.version,
            state="serving" if self.state == "serving" else "failed", reason=self.reason,
        )  # fmt: skip

    def asked(self) -> DeploymentRequested:
        """The event that asks for it."""
        return DeploymentRequested(
            deployment_id=self.id, endpoint=self.endpoint, use_case=self.use_case, unit=self.unit, model=self.model,
            version=self.version, digest=self.digest, strategy=self.strategy, streaming=self.streaming,
            requested_by=self.requested_by, retraining_id=self.retraining_id,
            variant=None if self.variant == CHAMPION else self.variant, weight=self.weight,
        )  # fmt: skip


def check_grant(deployment: Deployment, grant: Grant, now: datetime) -> None:
    """A grant is bound to bytes, endpoint and use case, and must start in time.

    Raises Forbidden naming the first thing that differs, Conflict for one that ended.
    """
    says = grant.statement
    for name in ("endpoint", "use_case", "model", "version", "digest"):
        if getattr(says, name) != getattr(deployment, name):
            raise Forbidden(
                f"the grant is for {name} {getattr(says, name)}, the deployment for {getattr(deployment, name)}"
            )
    if says.deployment_id != deployment.id:
        raise Forbidden("the grant is for another deployment")
    if says.granted_by == deployment.requested_by:
        raise Forbidden("the requester granted it")
    if says.expires_at <= now:
        raise Conflict(f"the grant {says.approval_id} ended at {says.expires_at:%F %T}")


def take_over(
    starting: Deployment, others: Iterable[Deployment], now: datetime, stay: Collection[UUID] = ()
) -> tuple[Deployment, ...]:
    """Who leaves when this champion starts: rollouts of its endpoint in flight, and what stood beside the one before.

    Rollouts of one endpoint start in the order in which they were asked for. One asked for earlier that is granted
    late does not push out a later one. What serves goes on serving until this one does, or takes over again when it
    fails. `stay`: deployments that the endpoint keeps. Raises Conflict for a deployment that is too late.
    """
    before = list(others)
    placed = [d for d in _companions(starting, before) if d.state in ("rolling_out", "serving") and not _is_aside(d)]
    if later := next((other for other in placed if _asked(other) > _asked(starting)), None):
        raise Conflict(
            f"version {later.version}, which was asked for later, is {later.state.replace('_', ' ')} already"
        )
    return ended_by(starting, before, f"overtaken by version {starting.version}", now, stay)


def replaced_by(champion: Deployment, others: Iterable[Deployment], now: datetime) -> tuple[Deployment, ...]:
    """Who leaves when this deployment serves: whatever was the champion of its endpoint."""
    before = [d for d in _companions(champion, others) if d.state == "serving" and d.variant == CHAMPION]
    return tuple(other.became("replaced", f"by version {champion.version}", now) for other in before)


def ended_by(
    starting: Deployment, others: Iterable[Deployment], reason: str, now: datetime, stay: Collection[UUID] = ()
) -> tuple[Deployment, ...]:
    """Who leaves when a champion starts: whatever rolls out, whenever it was asked for, and what serves beside the
    champion before, which itself serves on; but for those that `stay`."""
    leaving = [
        other
        for other in _companions(starting, others)
        if other.id not in stay
        and (other.state == "rolling_out" or (other.state == "serving" and other.variant != CHAMPION))
    ]
    return tuple(other.became("replaced", reason, now) for other in leaving)


def _companions(one: Deployment, others: Iterable[Deployment]) -> list[Deployment]:
    return [other for other in others if other.id != one.id and other.endpoint == one.endpoint]


def _is_aside(deployment: Deployment) -> bool:
    return deployment.strategy in _ASIDE and deployment.variant != CHAMPION


def _asked(deployment: Deployment) -> tuple[datetime, UUID]:
    return deployment.requested_at, deployment.id


def newest(flying: Iterable[Deployment]) -> Deployment:
    """The one that was asked for last."""
    return max(flying, key=_asked)
