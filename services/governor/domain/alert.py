"""Which alerts a person ends: all others end when what they tell of is over."""

from services.kit.errors import Conflict

DISPUTE = "ledger-dispute"
"""Two facts under one number: no later fact can tell that the matter was looked into."""

CANDIDATE = "candidate-refused"
"""The next candidate that is registered ends it; a person may, for there may never be one."""

ENDED_BY_A_PERSON = frozenset({DISPUTE, CANDIDATE})


def check_closing(kind: str, state: str, resolution: str | None) -> None:
    """Raises Conflict with the reason why a person cannot end this alert."""
    if state == "resolved":
        raise Conflict(f"this alert is over: {resolution}")
    if kind not in ENDED_BY_A_PERSON:
        raise Conflict(f"an alert of the kind {kind} ends by itself, when what it tells of is over")
