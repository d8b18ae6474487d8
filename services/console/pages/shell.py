"""What every page shares: templates, the person before it, and the way to the services."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.templating import Jinja2Templates
from jinja2 import ChainableUndefined, Environment, FileSystemLoader, select_autoescape

from services.console.assets import Assets
from services.console.gateway import Answer, Gateway
from services.console.session import Sessions
from services.console.usecases import Console
from services.console.views import FILTERS
from services.kit.auth import allow
from services.kit.context import Caller
from services.kit.errors import Refusal, Unauthorized
from services.kit.http import problem

_TEMPLATES = Path(__file__).parent.parent / "templates"


class SignInNeeded(Exception):
    """A page was asked for by nobody."""


async def person(request: Request) -> Caller:
    """The person before the page. Raises SignInNeeded."""
    caller: Caller | None = request.scope.get("fairlead.caller")
    if caller is None:
        raise SignInNeeded
    return caller


Person = Annotated[Caller, Depends(person)]


async def to_sign_in(request: Request, _: Exception) -> Response:
    """To the sign-in page, and from there back; a page that renews its parts says itself that the session has ended."""
    if "hx-request" in request.headers or "application/json" in request.headers.get("accept", ""):
        return problem(Unauthorized("your session has ended; sign in again"))
    url = request.url
    back = quote(f"{url.path}?{url.query}" if url.query else url.path)
    ended = "&ended=true" if "fairlead.refusal" in request.scope else ""
    return RedirectResponse(f"/login?next={back}{ended}", 303)


def inside(target: str) -> str:
    """A path of this console to go on to after signing in, never an address elsewhere."""
    parts = urlsplit(target)
    safe = target.startswith("/") and not target.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return target if safe else "/"


class Shell:
    """Renders pages."""

    def __init__(self, gateway: Gateway, console: Console, sessions: Sessions, assets: Assets) -> None:
        self.gateway = gateway
        self.console = console
        self.sessions = sessions
        environment = Environment(
            loader=FileSystemLoader(_TEMPLATES), autoescape=select_autoescape(default=True),
            undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        environment.filters.update(FILTERS)
        environment.globals["asset"] = assets.address
        self._templates = Jinja2Templates(env=environment)

    def page(self, request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        """A page or a part of one, never kept by a cache."""
        context |= {"me": request.scope.get("fairlead.caller"), "csrf": request.scope.get("fairlead.csrf", "")}
        response = self._templates.TemplateResponse(request, template, context, status_code=status)
        response.headers["Cache-Control"] = "no-store"
        return response


def may(me: Caller, action: str, unit: str | None = None) -> bool:
    """Whether this person may do this: what they may not, a page does not offer."""
    try:
        allow(me, action, unit)
    except Refusal:
        return False
    return True


async def tried(coroutine: Any) -> Answer:
    """The console's own use cases in the form of a service's answer, so that a page shows refusals alike."""
    try:
        return Answer(await coroutine)
    except Refusal as refusal:
        return Answer([], refusal.status, refusal.message)
