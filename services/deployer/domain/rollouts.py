"""What replicas make of a rollout: done, failed, or overdue."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from contracts import ReplicaReported

from .deployment import Deployment, newest
from .endpoint import Endpoint

Verdict = Literal["serving", "failed"]


def verdict(revision: int, reports: list[ReplicaReported], needed: int) -> tuple[Verdict, str | None] | None:
    """Whether a rollout is done: enough replicas serve the revision, or one cannot. None while it goes on."""
    mine = [report for report in reports if report.revision == revision]
    if failed := next((report for report in mine if report.state == "failed"), None):
        return "failed", readable(f"{failed.replica}: {failed.reason or 'could not load the model'}")
    if sum(report.state == "ready" for report in mine) >= needed:
        return "serving", None
    return None


def to_conclude(flying: Sequence[Deployment], verdict: Verdict) -> Sequence[Deployment]:
    """Of the rollouts that one revision has in flight, those that a verdict on it decides.

    All serve together. Where a host cannot load the revision the one asked for last is taken out, and the others go on
    as a further revision: what was there before it was loaded before.
    """
    if not flying or verdict == "serving":
        return flying
    return [newest(flying)]


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
