"""Decisions about deployments: what may be asked, what a grant must say, what an endpoint shall look like."""

from .beside import check_beside, check_strategy, name_of
from .deployment import CHAMPION, Deployment, State, check_grant, ended_by, replaced_by, take_over
from .endpoint import Endpoint, Topics, check_name, check_request, removed, streams
from .moves import (
    check_weight,
    joined,
    next_endpoint,
    promoted,
    taken_away,
    to_promote,
    to_take_away,
    weighted,
    without,
)
from .rollouts import Verdict, overdue, readable, to_conclude, verdict

__all__ = [
    "CHAMPION", "Deployment", "Endpoint", "State", "Topics", "Verdict",
    "check_beside", "check_grant", "check_name", "check_request", "check_strategy", "check_weight", "ended_by",
    "joined", "name_of", "next_endpoint", "overdue", "promoted", "readable", "removed", "replaced_by", "streams",
    "take_over", "taken_away", "to_conclude", "to_promote", "to_take_away", "verdict", "weighted", "without",
]  # fmt: skip
