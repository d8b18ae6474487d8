"""Where a job stands, and what became of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from contracts import RetrainingCompleted

from .comparison import Comparison

Kind = Literal["retraining", "reproduction", "replay"]
State = Literal[
    "requested", "running", "candidate_won", "champion_kept", "identical", "different", "replayed", "failed",
]  # fmt: skip
Outcome = Literal["candidate_won", "champion_kept", "failed"]

_MOST_ORPHANS = 3


@dataclass(frozen=True)
class Job:
    """One retraining, reproduction or replay. `attempt` grows with each start: only the last one may end the job."""

    id: UUID
    kind: Kind
    unit: str
    model: str
    version: int
    endpoint: str | None
    use_case: str | None
    since: datetime | None
    requested_by: str
    state: State
    reason: str | None
    attempt: int
    orphaned: int
    """How often a process died over it, or failed in a way that nobody foresaw."""
    correlation_id: str
    traceparent: str
    requested_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    result: Mapping[str, Any]
    wish: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of a replay: whose decisions, until when, against which version."""

    @property
    def kills(self) -> bool:
        """It ended its process each time: it is not started again."""
        return self.orphaned >= _MOST_ORPHANS


@dataclass(frozen=True)
class Verdict:
    """Who won, and why, for people."""

    outcome: Outcome
    reason: str


@dataclass(frozen=True)
class Retrained:
    """How a retraining ended."""

    verdict: Verdict
    package_digest: str | None = None
    snapshot_digest: str | None = None
    trained_rows: int = 0
    held_out_rows: int = 0
    comparison: Comparison | None = None

    def fact(self, job: Job) -> RetrainingCompleted:
        """The event of this end."""
        assert job.endpoint is not None and job.use_case is not None
        compared = self.comparison
        return RetrainingCompleted(
            retraining_id=job.id, model=job.model, champion_version=job.version, endpoint=job.endpoint,
            use_case=job.use_case, outcome=self.verdict.outcome, reason=self.verdict.reason,
            package_digest=self.package_digest if self.verdict.outcome == "candidate_won" else None,
            snapshot_digest=self.snapshot_digest, trained_rows=self.trained_rows, held_out_rows=self.held_out_rows,
            champion_metrics=compared.champion if compared else {},
            candidate_metrics=compared.candidate if compared else {}, requested_by=job.requested_by,
        )  # fmt: skip


@dataclass(frozen=True)
class Reproduced:
    """What a version became when it was trained once more from the same rows."""

    state: Literal["identical", "different", "failed"]
    reason: str
    files: Mapping[str, Mapping[str, str]]
    """By file name: the digest that is registered and the one that was reproduced."""
    registered_metrics: Mapping[str, float]
    metrics: Mapping[str, float]


def too_few(labelled: int, recorded: int, needed: int) -> str | None:
    """The reason against a retraining with so few rows; None when there are enough."""
    if labelled >= needed:
        return None
    return f"there are {labelled} labelled rows (of {recorded} recorded), and a retraining needs {needed}"


def judge(comparison: Comparison) -> Verdict:
    """The candidate wins when its gain is above zero beyond chance."""
    if comparison.candidate_is_better:
        return Verdict("candidate_won", f"the candidate is better: {comparison.told()}")
    return Verdict("champion_kept", f"the candidate is not better beyond chance: {comparison.told()}")


def reproduced(
    files: Mapping[str, Mapping[str, str]], registered: Mapping[str, float], metrics: Mapping[str, float]
) -> Reproduced:
    """Compare what was registered with what came out this time."""
    other = [name for name, digests in files.items() if digests["registered"] != digests["reproduced"]]
    if not other:
        reason = f"every byte is the same: {', '.join(files)}"
        return Reproduced("identical", reason, files, registered, metrics)
    alike = dict(registered) == dict(metrics)
    told = "metrics are the same" if alike else f"metrics were {_told(registered)} and are {_told(metrics)}"
    reason = f"a byte-identical artifact was not reached: {', '.join(other)} differ; {told}"
    return Reproduced("different", reason, files, registered, metrics)


def _told(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in metrics.items()) or "none"
