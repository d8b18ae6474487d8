"""An approval: who may decide, what a grant says, and when it no longer stands."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from contracts import Gate, Grant, Signature, Statement
from services.kit.errors import Conflict, Forbidden, Invalid

State = Literal["pending", "granted", "rejected", "revoked"]

_REASON_LIMIT = 2000


class SelfApproval(Forbidden):
    """Who asked for something cannot allow it."""


class AlreadyDecided(Conflict):
    """Somebody else was first."""


@dataclass(frozen=True)
class Decider:
    """Who decides, as the token proves."""

    actor: str
    is_person: bool


@dataclass(frozen=True)
class Approval:
    """What is asked, on which evidence, and what became of it."""

    id: UUID
    process_id: UUID
    deployment_id: UUID
    unit: str
    endpoint: str
    use_case: str
    model: str
    version: int
    digest: str
    requested_by: str
    also_asked_by: tuple[str, ...]
    """The people behind a request that a template made: whoever asked for the retraining."""
    gates: tuple[Gate, ...]
    evidence_digest: str
    policy_version: str
    requested_at: datetime
    state: State = "pending"
    decided_by: str | None = None
    decided_at: datetime | None = None
    reason: str | None = None
    grant: Grant | None = None

    def granted(self, by: Decider, reason: str, now: datetime) -> "Approval":
        """Allowed by a person who did not ask for it. Raises SelfApproval, AlreadyDecided, Forbidden, Invalid."""
        self._open_for(by, reason)
        if by.actor in (self.requested_by, *self.also_asked_by):
            raise SelfApproval(f"{by.actor} asked for this and cannot grant it; another person has to")
        return self._decided("granted", by.actor, reason, now)

    def statement(self, lasts: timedelta) -> Statement:
        """What a grant says, to be signed. Raises Conflict for an approval that was not granted."""
        if self.state != "granted" or self.decided_by is None or self.decided_at is None:
            raise Conflict(f"there is nothing to sign: this approval is {self.state}")
        return Statement(
            approval_id=self.id, deployment_id=self.deployment_id, endpoint=self.endpoint, use_case=self.use_case,
            model=self.model, version=self.version, digest=self.digest, policy_version=self.policy_version,
            evidence_digest=self.evidence_digest, requested_by=self.requested_by, granted_by=self.decided_by,
            granted_at=self.decided_at, expires_at=self.decided_at + lasts,
        )  # fmt: skip

    def rejected(self, by: Decider, reason: str, now: datetime) -> "Approval":
        """Raises AlreadyDecided, Forbidden."""
        self._open_for(by, reason)
        return self._decided("rejected", by.actor, reason, now)

    def refused(self, by: str, reason: str, now: datetime) -> "Approval":
        """Rejected by the process itself: a gate did not pass, or the model was retired meanwhile."""
        if self.state != "pending":
            raise AlreadyDecided(f"this was {self.state} by {self.decided_by} already")
        return self._decided("rejected", by, reason, now)

    def revoked(self, by: Decider, reason: str, now: datetime) -> "Approval":
        """A grant that no longer stands. Raises Conflict where there is none, Forbidden."""
        _proper(by, reason)
        if self.state != "granted":
            raise Conflict(f"only a granted approval can be revoked; this one is {self.state}")
        return self._decided("revoked", by.actor, reason, now)

    def signed(self, statement: Statement, signature: Signature) -> "Approval":
        """With the grant that others verify."""
        return replace(self, grant=Grant(statement=statement, signature=signature))

    def _open_for(self, by: Decider, reason: str) -> None:
        _proper(by, reason)
        if self.state != "pending":
            raise AlreadyDecided(f"this was {self.state} by {self.decided_by} already")

    def _decided(self, state: State, by: str, reason: str, now: datetime) -> "Approval":
        return replace(self, state=state, decided_by=by, decided_at=now, reason=reason)


def _proper(by: Decider, reason: str) -> None:
    if not by.is_person:
        raise Forbidden(f"{by.actor} is no person; a person has to decide")
    if not reason.strip():
        raise Invalid("say why: the reason is kept for ever", "reason")
    if len(reason) > _REASON_LIMIT:
        raise Invalid(f"a reason has at most {_REASON_LIMIT} characters", "reason")


def failures(gates: tuple[Gate, ...]) -> str:
    """The gates that did not pass, for a person."""
    return "; ".join(
        f"{gate.name}: {gate.facts.get('says') or gate.facts.get('error')}" for gate in gates if not gate.passed
    )
