"""Decisions about deployments: what may be asked, what a grant must say, what an endpoint shall look like."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from contracts import (
    DeploymentChanged,
    DeploymentRequested,
    DeploymentSettled,
    Grant,
    ModelRegistered,
    MonitorSettings,
    ReplicaReported,
    Signature,
    Variant,
)
from services.kit.errors import Conflict, Forbidden, Invalid

State = Literal[
    "requested", "in_review", "rolling_out", "serving", "replaced", "rolled_back", "rejected", "failed", "revoked",
    "removed",
]  # fmt: skip
Topics = Literal["closed", "asked", "open"]
"""How far the topics of an endpoint are: nothing there, being made, or there with the rights on them."""

_OPEN: frozenset[State] = frozenset({"requested", "in_review"})
_NEVER_WAS: frozenset[State] = frozenset({"rejected", "failed"})
_BRINGS_BACK: frozenset[State] = frozenset({"serving", "replaced"})


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
    strategy: Literal["direct"]
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


def take_over(starting: Deployment, others: Iterable[Deployment], now: datetime) -> tuple[Deployment, ...]:
    """Who leaves when this deployment starts: every rollout of its endpoint that is still in flight.

    Rollouts of one endpoint start in the order in which they were asked for. One asked for earlier that is granted
    late does not push out a later one. What serves goes on serving until this one does, or takes over again when it
    fails. Raises Conflict for a deployment that is too late.
    """
    before = [other for other in others if other.id != starting.id and other.endpoint == starting.endpoint]
    placed = [other for other in before if other.state in ("rolling_out", "serving")]
    if later := next((other for other in placed if _asked(other) > _asked(starting)), None):
        raise Conflict(
            f"version {later.version}, which was asked for later, is {later.state.replace('_', ' ')} already"
        )
    return _left(placed, "rolling_out", f"overtaken by version {starting.version}", now)


def replaced_by(champion: Deployment, others: Iterable[Deployment], now: datetime) -> tuple[Deployment, ...]:
    """Who leaves when this deployment serves: whatever else served its endpoint."""
    before = [other for other in others if other.id != champion.id and other.endpoint == champion.endpoint]
    return _left(before, "serving", f"by version {champion.version}", now)


def interrupted(by: Deployment, others: Iterable[Deployment], now: datetime) -> tuple[Deployment, ...]:
    """Who leaves when an earlier version is brought back: rollouts in flight, whenever they were asked for."""
    before = [other for other in others if other.id != by.id and other.endpoint == by.endpoint]
    return _left(before, "rolling_out", f"version {by.version} was brought back", now)


def _asked(deployment: Deployment) -> tuple[datetime, UUID]:
    return deployment.requested_at, deployment.id


def _left(among: Iterable[Deployment], state: State, reason: str, now: datetime) -> tuple[Deployment, ...]:
    return tuple(other.became("replaced", reason, now) for other in among if other.state == state)


@dataclass(frozen=True)
class Endpoint:
    """What an endpoint shall look like now."""

    endpoint: str
    unit: str
    use_case: str
    revision: int
    state: Literal["serving", "removed"]
    streaming: bool
    variant: Variant
    deployment_id: UUID
    changed_at: datetime
    monitor: MonitorSettings = field(default_factory=MonitorSettings)
    topics: Topics = "closed"
    withdrawn: tuple[UUID, ...] = ()
    """The approvals that its published state takes back."""

    @property
    def wants_topics(self) -> bool:
        """Whether it streams, or shall as soon as its topics are there."""
        return self.state == "serving" and self.streaming

    @property
    def waits(self) -> bool:
        """Whether its topics must be made before anybody may hear of this state."""
        return self.wants_topics and self.topics != "open"

    def with_open_topics(self, now: datetime) -> "Endpoint":
        """The same state, that scorers hear of from now on: its topics are there."""
        return replace(self, topics="open", changed_at=now)

    def stopping(self, now: datetime) -> "Endpoint":
        """The same state said anew because an approval was taken back: it must not wait for its topics.

        Where those are being made, nothing streamed here so far.
        """
        return replace(self, revision=self.revision + 1, streaming=self.streaming and not self.waits, changed_at=now)

    def logging(self, payload_sample: float, now: datetime) -> "Endpoint":
        """The same versions, with the payloads of this share of inferences in the log; nobody heard yet of a state that
        waits for its topics, so that one keeps its number."""
        monitor = self.monitor.model_copy(update={"payload_sample": payload_sample})
        return replace(self, revision=self.revision + (not self.waits), monitor=monitor, changed_at=now)

    def still_waiting(self, said: int, now: datetime) -> "Endpoint":
        """The same state, to be said after revision `said` when its topics are there."""
        return replace(self, revision=said + 1, changed_at=now)

    def desired(self, withdrawn: tuple[UUID, ...] = ()) -> DeploymentChanged:
        """The state to publish, not yet signed; `withdrawn`: the approvals under which nothing may serve here."""
        return DeploymentChanged(
            endpoint=self.endpoint, unit=self.unit, use_case=self.use_case, revision=self.revision, state=self.state,
            streaming=self.streaming, variants=(self.variant,) if self.state == "serving" else (),
            monitor=self.monitor, withdrawn=withdrawn, signature=Signature(key_id="", value=""),
        )  # fmt: skip


def next_endpoint(
    deployment: Deployment, registration: ModelRegistered, grant: Grant, before: Endpoint | None, now: datetime
) -> Endpoint:
    """The endpoint with this deployment as its champion; the revision only grows."""
    streaming, topics = deployment.streaming or streams(before), before.topics if before else "closed"
    variant = Variant(
        name="champion", model=deployment.model, version=deployment.version, digest=deployment.digest,
        format=registration.format, model_schema=registration.model_schema,
        baseline_digest=registration.baseline_digest, grant=grant,
    )  # fmt: skip
    return Endpoint(
        endpoint=deployment.endpoint, unit=deployment.unit, use_case=deployment.use_case,
        revision=before.revision + 1 if before else 1, state="serving",
        streaming=streaming, variant=variant, deployment_id=deployment.id, changed_at=now,
        monitor=before.monitor if before else MonitorSettings(),
        topics="asked" if streaming and topics == "closed" else topics,
    )  # fmt: skip


def streams(endpoint: Endpoint | None) -> bool:
    """Whether an endpoint streams now, so that the next version must: one that is removed does not any more."""
    return endpoint is not None and endpoint.wants_topics and not endpoint.waits


def removed(before: Endpoint, now: datetime) -> Endpoint:
    """The endpoint without anything behind it: a state first, a tombstone later."""
    return replace(before, revision=before.revision + 1, state="removed", changed_at=now)


def check_name(endpoint: str, unit: str, owner: str | None) -> None:
    """A name belongs to the business unit that first served under it. Raises Conflict."""
    if owner not in (None, unit):
        raise Conflict(f"the name {endpoint} is taken: take another name")


def check_request(
    registration: ModelRegistered, retired: bool, use_case_unit: str, before: Endpoint | None, use_case: str
) -> None:
    """What no policy could allow is refused at once. Raises Invalid or Conflict."""
    model = f"{registration.model} version {registration.version}"
    if retired:
        raise Conflict(f"{model} is retired")
    if registration.unit != use_case_unit:
        raise Invalid(f"{model} belongs to another business unit than use case {use_case}", "use_case")
    if before is not None and before.state == "serving" and before.use_case != use_case:
        raise Conflict(f"the endpoint serves use case {before.use_case}: take another name")


Verdict = Literal["serving", "failed"]


def verdict(revision: int, reports: list[ReplicaReported], needed: int) -> tuple[Verdict, str | None] | None:
    """Whether a rollout is done: enough replicas serve the revision, or one cannot. None while it goes on."""
    mine = [report for report in reports if report.revision == revision]
    if failed := next((report for report in mine if report.state == "failed"), None):
        return "failed", readable(f"{failed.replica}: {failed.reason or 'could not load the model'}")
    if sum(report.state == "ready" for report in mine) >= needed:
        return "serving", None
    return None


def overdue(
    deployment: Deployment, endpoint: Endpoint, reports: list[ReplicaReported], patience: timedelta, now: datetime
) -> str | None:
    """Why a rollout that nobody concluded fails now; None while it may go on.

    One that is brought back has no end: it served before, and where no scorer answers, each version before it would
    fail in its turn until nothing is left. One that waits for its topics was not handed out yet.
    """
    if deployment.state != "rolling_out" or deployment.settled_at is not None or endpoint.waits:
        return None
    if now - endpoint.changed_at < patience:
        return None
    mine = [report for report in reports if report.revision == endpoint.revision]
    said = "; ".join(f"{report.replica}: {report.state}, {report.reason or 'no reason given'}" for report in mine)
    return readable(f"not enough scorers were ready within {patience.total_seconds():.0f} s: "
                    f"{said or 'no scorer reported'}")  # fmt: skip


def readable(reason: str) -> str:
    """A reason as it can be kept: what a model says when it fails to load may hold any character."""
    return reason.replace("\x00", "\ufffd")[:2000]
