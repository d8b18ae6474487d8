"""What can go wrong between a client and the platform, as exceptions that say what to do."""

from collections.abc import Mapping
from typing import Any

import httpx


class FairleadError(Exception):
    """The platform refused a request, or could not be asked. `str(error)` is fit for a person.

    `status` is the HTTP status (0 when there was no answer), `field` the name of the input at fault
    where the platform named one, `problem` the whole problem document (RFC 9457).
    """

    def __init__(
        self, message: str, *, status: int = 0, field: str | None = None, problem: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.field = field
        self.problem: dict[str, Any] = dict(problem or {})


class Misconfigured(FairleadError):
    """No platform was named, or its token could not be found."""


class Unreachable(FairleadError):
    """The platform, or the service behind this request, did not answer."""

    maybe_done: bool = False
    """Whether the request may have been done all the same: its answer was lost on the way."""


class Unauthorized(FairleadError):
    """The token is missing, expired or not from this platform's issuer."""


class Forbidden(FairleadError):
    """The token's roles or business units do not allow this."""


class NotFound(FairleadError):
    """There is no such thing, or it belongs to a business unit that the token does not name."""


class Conflict(FairleadError):
    """The request contradicts the present state: decided already, retired, registered under other bytes."""


class Invalid(FairleadError):
    """The input is wrong; `field` names the part at fault."""


class Busy(FairleadError):
    """A limit was reached; try again after `retry_after_s`."""

    retry_after_s: float = 1.0


class TimedOut(FairleadError):
    """What was waited for has not happened yet; it may still. `so_far` is how far it came."""

    so_far: Any = None


class Failed(FairleadError):
    """The platform met an error of its own."""


_BY_STATUS: dict[int, type[FairleadError]] = {
    400: Invalid, 401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict, 412: Conflict, 413: Invalid,
    415: Invalid, 422: Invalid, 429: Busy, 502: Unreachable, 503: Unreachable, 504: Unreachable,
}  # fmt: skip


def error_of(response: httpx.Response) -> FairleadError:
    """The exception that an error response stands for (problem details, or `{"error"}` under `/v2`)."""
    problem = _document(response)
    message, field = _message(problem, response), _field(problem)
    if field and field not in message:
        message = f"{field}: {message}"
    fallback = Invalid if 400 <= response.status_code < 500 else Failed
    kind = _BY_STATUS.get(response.status_code, fallback)
    error = kind(message, status=response.status_code, field=field, problem=problem)
    if isinstance(error, Unreachable):
        error.maybe_done = response.status_code in (502, 504)
    if isinstance(error, Busy):
        error.retry_after_s = _seconds(response.headers.get("retry-after"))
    return error


def _document(response: httpx.Response) -> dict[str, Any]:
    try:
        document = response.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _message(problem: Mapping[str, Any], response: httpx.Response) -> str:
    for name in ("detail", "error", "title"):
        if problem.get(name):
            return str(problem[name])
    if response.is_redirect:
        there = response.headers["location"]
        return f"{response.request.url} sends elsewhere, to {there[:200]}: give the platform's own address"
    return response.text[:200] or f"{response.status_code} {response.reason_phrase}"


def _field(problem: Mapping[str, Any]) -> str | None:
    if problem.get("field"):
        return str(problem["field"])
    errors = problem.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        named = errors[0].get("field")
        return str(named) if named else None
    return None


def _seconds(header: str | None) -> float:
    return float(header) if header and header.replace(".", "", 1).isdigit() else 1.0
