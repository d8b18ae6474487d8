"""What cannot be shown, as a page for whoever sits before a browser window; a program gets the problem itself."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import Request
from fastapi.responses import Response

from services.console.routing import is_api
from services.kit.context import maybe_current
from services.kit.http import PROBLEM

from .shell import Shell

Handler = Callable[[Request, Any], Response | Awaitable[Response]]

_TITLES = {
    401: "You are not signed in", 403: "This is not for your roles", 404: "There is no such page",
    422: "This address cannot be", 429: "Too much at once", 500: "Something broke here",
    503: "A part of the platform is away", 507: "A disk is full",
}  # fmt: skip


def shown(shell: Shell, handler: Handler) -> Handler:
    """The handler, its problems in the console's look where a browser asked for a page."""

    async def answer(request: Request, error: Any) -> Response:
        made = handler(request, error)
        told = made if isinstance(made, Response) else await made
        if told.media_type != PROBLEM or not _wants_page(request):
            return told
        code, problem = told.status_code, orjson.loads(told.body)
        story = maybe_current() if code == 500 else None
        return shell.page(
            request, "error.html", code, code=code, title=_TITLES.get(code, problem["title"]),
            detail=_sentence(code, problem["detail"]), story=story.correlation_id if story else None,
        )  # fmt: skip

    return answer


def _wants_page(request: Request) -> bool:
    """A browser window says that it takes HTML, before anything else; parts of pages are asked for by scripts."""
    headers = request.headers
    return "text/html" in headers.get("accept", "") and "hx-request" not in headers and not is_api(request.url.path)


def _sentence(code: int, detail: str) -> str:
    if code == 404 and detail == "Not Found":
        return "Nothing is at this address. It may have been mistyped, or be of another release."
    if code == 500:
        return "This should not have happened, and it is no fault of yours."
    return detail[:1].upper() + detail[1:].removesuffix(".") + "."
