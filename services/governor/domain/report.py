"""The complete history of a model as a document that people and programs can read."""

from collections.abc import Mapping, Sequence
from typing import Any

_REPORTED = {
    "model.registered": "registered",
    "model.retired": "retired",
    "deployment.requested": "a deployment was requested",
    "approval.requested": "a person was asked",
    "approval.granted": "granted",
    "approval.rejected": "rejected",
    "approval.revoked": "the grant was revoked",
    "deployment.changed": "the endpoint's desired state changed",
    "deployment.settled": "a rollout ended",
    "drift.detected": "drift detected",
    "retraining.requested": "a retraining was requested",
    "retraining.withheld": "no retraining was requested",
    "retraining.completed": "the retraining ended",
    "candidate.refused": "what a retraining brought was refused",
    "process.started": "a process started",
    "process.ended": "a process ended",
}


def markdown(history: Mapping[str, Any]) -> str:
    """A page for compliance: versions, decisions with their evidence, and every fact in the ledger."""
    lines = [f"# History of {history['model']}", ""]
    sealed = history["ledger"]
    lines += [
        f"From the audit ledger as of {history['generated_at']}: {len(history['facts'])} facts"
        f"{_place(history)}, sealed up to record {sealed['sealed']} of {sealed['records']}.", "",
    ]  # fmt: skip
    lines += _versions(history["versions"]) + _approvals(history["approvals"]) + _facts(history["facts"])
    return "\n".join(lines) + "\n"


def _place(history: Mapping[str, Any]) -> str:
    """Which part of the facts this is, where it is not all of them: nobody shall take a part for the whole."""
    behind = f" behind record {history['after']}" if history["after"] else ""
    return behind + (f" (**not all**: more follow, with cursor={history['next']})" if history["next"] else "")


def _versions(versions: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        f"| {v['version']} | {v['registered_at']} | {v['registered_by']} | `{v['digest'][7:19]}` | {v['scan']} | "
        f"{_metrics(v['metrics'])} | {v['parent_version'] or '–'} | {v['serving_at'] or '–'} | "
        f"{v['retired_at'] or '–'} |"
        for v in versions
    ]
    head = "| version | registered | by | digest | scan | metrics | parent | first served | retired |"
    return ["## Versions", "", head, "|---" * 9 + "|", *rows, ""]


def _approvals(approvals: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["## Decisions", ""]
    for approval in approvals:
        lines += [
            f"### Version {approval['version']} for {approval['endpoint']} ({approval['use_case']}): "
            f"{approval['state']}",
            "",
            f"Asked by {approval['requested_by']} at {approval['requested_at']}; "
            + (f"decided by {approval['decided_by']} at {approval['decided_at']}: {_safe(approval['reason'])}."
               if approval["decided_by"] else "not decided yet."),
            f"Policy {approval['policy_version']}, evidence `{approval['evidence_digest']}`.",
            "",
            *(f"- {'passed' if gate['passed'] else 'FAILED'}: {gate['name']}" for gate in approval["gates"]),
            "",
        ]  # fmt: skip
    return lines if approvals else [*lines, "None.", ""]


def _facts(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        f"| {f['position']} | {f['at']} | {f['actor']} | {_REPORTED.get(f['action'], f['action'])} | "
        f"{_safe(f['subject'])} | {f['service']} {f['number']} |"
        for f in facts
    ]
    head = "| record | at | who | what | about | recorded by |"
    return ["## Facts in the ledger", "", head, "|---" * 6 + "|", *rows]


def _metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items())) or "–"


def _safe(text: object) -> str:
    """Text of people inside a table: no new rows, no new columns, no markup."""
    return str(text or "").replace("\n", " ").replace("|", "\\|").replace("<", "&lt;")
