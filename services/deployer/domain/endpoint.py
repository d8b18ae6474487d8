"""What an endpoint shall look like, and to whom its name belongs."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal
from uuid import UUID

from contracts import DeploymentChanged, ModelRegistered, MonitorSettings, Routing, Signature, Variant
from services.kit.errors import Conflict, Invalid, NotFound

Topics = Literal["closed", "asked", "open"]
"""How far the topics of an endpoint are: nothing there, being made, or there with the rights on them."""


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
    beside: tuple[Variant, ...] = ()
    """What stands beside the champion."""
    routing: Routing | None = None
    """Set while others than the champion are live."""

    @property
    def variants(self) -> tuple[Variant, ...]:
        """All versions, the champion first."""
        return (self.variant, *self.beside)

    @property
    def deployments(self) -> tuple[UUID, ...]:
        """Of all its versions."""
        return tuple(variant.grant.statement.deployment_id for variant in self.variants)

    def named(self, name: str) -> Variant:
        """One that stands beside the champion. Raises NotFound."""
        found = next((variant for variant in self.beside if variant.name == name), None)
        if found is None:
            there = ", ".join(variant.name for variant in self.beside) or "none beside its champion"
            raise NotFound(f"variant: {self.endpoint} has no {name}; it has {there}")
        return found

    def name_of(self, deployment_id: UUID) -> str | None:
        """What a deployment is called that stands beside the champion; None for one that does not."""
        mine = (v.name for v in self.beside if v.grant.statement.deployment_id == deployment_id)
        return next(mine, None)

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
            streaming=self.streaming, variants=self.variants if self.state == "serving" else (),
            monitor=self.monitor, withdrawn=withdrawn, routing=self.routing if self.state == "serving" else None,
            signature=Signature(key_id="", value=""),
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
