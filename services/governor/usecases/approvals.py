"""Approvals: asked by a process, decided by one person who did not ask, signed, revocable."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from contracts import ApprovalGranted, ApprovalRejected, ApprovalRequested, ApprovalRevoked, Gate
from services.governor.domain.approval import Approval, Decider, failures
from services.governor.store import approvals as store
from services.governor.store import processes
from services.governor.store.processes import Process
from services.kit.auth import allow
from services.kit.context import Caller
from services.kit.db import Database, Tx
from services.kit.errors import Conflict, NotFound
from services.kit.http import Page, page
from services.kit.ids import now, uuid7
from services.kit.signing import Signer, canonical, digest_of

from .places import moment_and_id, place
from .runner import Runner

_NOBODY = "service:governor"


def evidence_digest(gates: tuple[Gate, ...]) -> str:
    """The digest that a grant names: over `{"gates": […]}` as canonical JSON, so that anybody can compute it again."""
    return digest_of(canonical({"gates": [gate.model_dump(mode="json") for gate in gates]}))


class Approvals:
    """What people decide. The operations are the tasks `approve`, `grant` and `reject` of the standard template."""

    def __init__(self, db: Database, runner: Runner, signer: Signer, lasts: timedelta) -> None:
        self._db = db
        self._runner = runner
        self._signer = signer
        self._lasts = lasts

    async def ask(self, tx: Tx, process: Process, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """The process reached its person: they are asked once."""
        if await store.of_process(tx.session, process.id):
            return {}
        approval = self._of(process, data)
        await store.insert(tx.session, approval)
        event = ApprovalRequested(
            approval_id=approval.id, deployment_id=approval.deployment_id, process_id=process.id,
            endpoint=approval.endpoint, use_case=approval.use_case, model=approval.model, version=approval.version,
            digest=approval.digest, requested_by=approval.requested_by, gates=approval.gates,
            evidence_digest=approval.evidence_digest,
        )  # fmt: skip
        tx.emit(event, unit=approval.unit, detail=_detail(approval))
        return {}

    async def decide(self, id: UUID, caller: Caller, decision: Literal["grant", "reject"], reason: str) -> Approval:
        """One decision, whoever is first; the process goes on with it."""
        by = Decider(caller.actor, caller.kind == "person")
        async with self._db.transaction() as tx:
            approval, process = await self._hold(tx, id)
            allow(caller, "approval.decide", approval.unit)
            decide = approval.granted if decision == "grant" else approval.rejected
            await store.save(tx.session, decide(by, reason, now()))
            if process.state != "running":
                raise Conflict(f"the process of this approval ended: {process.outcome}")
            await self._runner.decided(tx, process, "approve", {"decision": decision})
            return await _known(tx, id)

    async def revoke(self, id: UUID, caller: Caller, reason: str) -> Approval:
        """A grant no longer stands; the deployer acts on the event."""
        by = Decider(caller.actor, caller.kind == "person")
        async with self._db.transaction() as tx:
            approval, process = await self._hold(tx, id)
            allow(caller, "approval.decide", approval.unit)
            approval = approval.revoked(by, reason, now())
            await store.save(tx.session, approval)
            event = ApprovalRevoked(
                approval_id=id, deployment_id=approval.deployment_id, endpoint=approval.endpoint,
                revoked_by=by.actor, reason=reason,
            )  # fmt: skip
            with tx.story(process.correlation_id):
                tx.emit(event, unit=approval.unit, detail=_detail(approval) | {"reason": reason})
            await self._runner.post(tx, process.id, "approval.revoked", {"reason": reason})
            return approval

    async def grant(self, tx: Tx, process: Process, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Sign what a person allowed, and say it."""
        approval = await _of_process(tx, process)
        statement = approval.statement(self._lasts)
        approval = approval.signed(statement, self._signer.sign(canonical(statement)))
        assert approval.grant
        await store.save(tx.session, approval)
        event = ApprovalGranted(
            approval_id=approval.id, deployment_id=approval.deployment_id, endpoint=approval.endpoint,
            grant=approval.grant, reason=approval.reason or "",
        )  # fmt: skip
        detail = {"granted_by": approval.decided_by, "evidence_digest": approval.evidence_digest}
        tx.emit(event, unit=approval.unit, detail=_detail(approval) | detail)
        return {"approval_id": str(approval.id), "grant_lasts": f"PT{int(self._lasts.total_seconds())}S"}

    async def reject(self, tx: Tx, process: Process, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Say that a person, a gate or a retirement refused it."""
        approval = await store.of_process(tx.session, process.id)
        if approval is None:
            approval = self._of(process, data)
            await store.insert(tx.session, approval)
        if approval.state == "pending":
            approval = approval.refused(_NOBODY, _why(approval, data), now())
            await store.save(tx.session, approval)
        event = ApprovalRejected(
            approval_id=approval.id, deployment_id=approval.deployment_id, endpoint=approval.endpoint,
            rejected_by=approval.decided_by or _NOBODY, reason=approval.reason or "", gates=approval.gates,
        )  # fmt: skip
        detail = {"rejected_by": approval.decided_by, "reason": approval.reason}
        tx.emit(event, unit=approval.unit, detail=_detail(approval) | detail)
        return {"approval_id": str(approval.id)}

    async def get(self, id: UUID) -> Approval:
        """One approval. Raises NotFound."""
        async with self._db.reading() as session:
            approval = await store.get(session, id)
        if approval is None:
            raise NotFound(f"there is no approval {id}")
        return approval

    async def page(self, state: str | None, limit: int, cursor: str | None) -> Page[Approval]:
        """Approvals, the newest first. Raises Invalid for a cursor that was not made here."""
        before = moment_and_id(cursor)
        async with self._db.reading() as session:
            found = await store.page(session, state=state, limit=limit + 1, before=before)
        return page(found, limit, place(found[limit - 1].requested_at, found[limit - 1].id) if found[limit:] else None)

    async def _hold(self, tx: Tx, id: UUID) -> tuple[Approval, Process]:
        """The approval and its process, both locked: the process first, as events do."""
        seen = await store.get(tx.session, id)
        process = await processes.lock(tx.session, seen.process_id) if seen else None
        approval = await store.lock(tx.session, id)
        if approval is None or process is None:
            raise NotFound(f"there is no approval {id}")
        return approval, process

    def _of(self, process: Process, data: Mapping[str, Any]) -> Approval:
        gates = tuple(
            Gate.model_validate(gate) for name in sorted(self._runner.policies.gates) for gate in data.get(name, ())
        )
        asked = process.facts["deployment"]
        return Approval(
            id=uuid7(), process_id=process.id, deployment_id=UUID(asked["deployment_id"]), unit=process.unit,
            endpoint=process.endpoint, use_case=process.use_case, model=process.model, version=process.version,
            digest=asked["digest"], requested_by=process.requested_by,
            also_asked_by=tuple(process.facts.get("also_asked_by", ())), gates=gates,
            evidence_digest=evidence_digest(gates), policy_version=process.facts["policy_version"], requested_at=now(),
        )  # fmt: skip


def _why(approval: Approval, data: Mapping[str, Any]) -> str:
    if retired := data.get("model_retired"):
        return f"the model version was retired meanwhile: {retired.get('reason', '')}"
    return failures(approval.gates) or "the template refused it"


def _detail(approval: Approval) -> dict[str, Any]:
    return {
        "approval_id": str(approval.id), "deployment_id": str(approval.deployment_id), "model": approval.model,
        "version": approval.version, "use_case": approval.use_case, "policy_version": approval.policy_version,
    }  # fmt: skip


async def _of_process(tx: Tx, process: Process) -> Approval:
    approval = await store.of_process(tx.session, process.id)
    if approval is None:
        raise LookupError(f"process {process.id} grants what nobody was asked for")
    return approval


async def _known(tx: Tx, id: UUID) -> Approval:
    approval = await store.get(tx.session, id)
    assert approval
    return approval
