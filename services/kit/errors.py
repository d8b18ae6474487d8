"""How the domain refuses: by name, with a sentence for the person who asked."""

import errno
from math import ceil

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""How the system says that a disk is full."""


class Refusal(Exception):
    """A request that will not be done. Mapped to HTTP in one place, and to dead letters in handlers."""

    status = 400
    title = "Refused"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Invalid(Refusal):
    """The input is wrong; `field` names where."""

    status = 422
    title = "Invalid"

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Altered(Invalid):
    """Stored bytes are not those that were stored: no fault of who asks."""

    status = 500
    title = "Altered"


class NotFound(Refusal):
    """There is no such thing, or the caller may not know of it."""

    status = 404
    title = "Not found"


class Conflict(Refusal):
    """The thing is in a state in which this cannot be done."""

    status = 409
    title = "Conflict"


class Outdated(Refusal):
    """The thing was changed since whoever asks saw it (RFC 9110, 13.1.1); nothing was done."""

    status = 412
    title = "Precondition failed"


class Unauthorized(Refusal):
    """No token, or one that proves nothing."""

    status = 401
    title = "Unauthorized"


class Forbidden(Refusal):
    """The caller is known and may not do this."""

    status = 403
    title = "Forbidden"


class TooLarge(Refusal):
    """More bytes than this path takes."""

    status = 413
    title = "Too large"


class Busy(Refusal):
    """Too many at once; try again after a while."""

    status = 429
    title = "Busy"


class Unavailable(Refusal):
    """Something that this needs is away; nothing was done. `after_s`: it is no better before; None: unknown."""

    status = 503
    title = "Unavailable"

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


class AnswerLost(Refusal):
    """Another service had the request and gave no answer: whether it was done is not known."""

    status = 502
    title = "Answer lost"


class NoRoom(Unavailable):
    """A disk is full; nothing was kept."""

    status = 507
    title = "Insufficient storage"


class TooSlow(Refusal):
    """A body that does not come."""

    status = 408
    title = "Too slow"


class NotYet(Exception):
    """An event refers to something that has not arrived: it is parked and tried again."""


def retry_after(refusal: Refusal) -> int | None:
    """Whole seconds after which to ask again (the header of RFC 9110, 10.2.3); None where that helps nothing."""
    if not isinstance(refusal, (Busy, Unavailable)):
        return None
    known = refusal.after_s if isinstance(refusal, Unavailable) else None
    return max(1, ceil(known or 0))
