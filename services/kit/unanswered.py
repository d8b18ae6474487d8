"""A request to another service that got no answer: what is known of it, and what is not."""

import httpx

from .errors import AnswerLost, Refusal, Unavailable

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""No connection, so the service never saw the request."""


def unanswered(who: str, method: str, error: httpx.TransportError) -> Refusal:
    """Unavailable where surely nothing was done, AnswerLost for a write that may have been; `who` follows "the"."""
    if isinstance(error, _NOT_SENT):
        return Unavailable(f"the {who} is away; nothing was done, try again")
    if method in ("GET", "HEAD"):
        return Unavailable(f"the {who} went away before it answered; try again")
    return AnswerLost(
        f"the {who} went away before it answered, and whether this was done is not known: look, or send it again "
        "with the same Idempotency-Key"
    )
