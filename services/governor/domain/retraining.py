"""Whether a drift or a person leads to a retraining: one at a time for an endpoint, one for an open alarm."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from contracts import RetrainingRequested
from services.kit.errors import Conflict


@dataclass(frozen=True)
class Live:
    """What an endpoint serves, as its deployment says."""

    endpoint: str
    unit: str
    use_case: str
    model: str
    version: int
    retrainable: bool


_ON_ITS_WAY = timedelta(minutes=1)


def may_be_early(said_at: datetime, now: datetime) -> bool:
    """Whether a drift of a version that does not serve here yet may have overtaken the news that it does."""
    return now - said_at < _ON_ITS_WAY


def drift_is_over(before: Live, after: Live | None) -> str | None:
    """Why a drift of what served is over, for a person; None while the same version serves."""
    if after is None:
        return f"{before.endpoint} was removed"
    if (before.model, before.version) != (after.model, after.version):
        return f"{after.model} version {after.version} took the place of version {before.version}"
    return None


def brought_nothing(template: str, outcome: str | None) -> bool:
    """Whether a retraining, or the promotion of what it brought, ended and left the endpoint as it was."""
    return outcome != ("candidate_proposed" if template == "retraining" else "in_business")


@dataclass(frozen=True)
class UnderWay:
    """What is being done about an endpoint already."""

    process_id: UUID
    what: str


def why_not(live: Live, under_way: UnderWay | None) -> str | None:
    """The reason against a retraining, for a person; None when nothing speaks against it."""
    if not live.retrainable:
        return f"{live.model} version {live.version} has no recipe to train with"
    if under_way:
        return f"{under_way.what} of {live.endpoint} is under way (process {under_way.process_id})"
    return None


def asked_by_person(
    live: Live, under_way: UnderWay | None, id: UUID, person: str, since: datetime | None
) -> RetrainingRequested:
    """The request of a person. Raises Conflict with the reason against it."""
    if reason := why_not(live, under_way):
        raise Conflict(reason)
    return RetrainingRequested(
        retraining_id=id, model=live.model, version=live.version, endpoint=live.endpoint, use_case=live.use_case,
        cause="person", cause_id=None, since=since, requested_by=person,
    )  # fmt: skip


def asked_by_drift(live: Live, id: UUID, event_id: str, since: datetime) -> RetrainingRequested:
    """The request that the template makes after a drift."""
    return RetrainingRequested(
        retraining_id=id, model=live.model, version=live.version, endpoint=live.endpoint, use_case=live.use_case,
        cause="drift", cause_id=event_id, since=since, requested_by="service:governor",
    )  # fmt: skip
