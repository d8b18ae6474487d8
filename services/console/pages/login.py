"""Signing in with a token, by form or by a link and a click, and out again."""

from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from services.kit.errors import Forbidden, Refusal

from .shell import Shell, inside


def router(shell: Shell) -> APIRouter:
    """`/login` and `/logout`: the only pages for nobody."""
    api = APIRouter(include_in_schema=False)

    @api.get("/login")
    async def ask(request: Request, token: str = "", next: str = "/", ended: bool = False) -> Response:
        """The form; with a token the question whether to sign in as that person: a link alone signs nobody in."""
        if not token:
            return _door(shell, request, next=inside(next), ended=ended)
        try:
            known = request.app.state.verifier.verify(token.strip())
        except Refusal as refusal:
            return _door(shell, request, refusal.status, next=inside(next), problem=refusal.message)
        return _door(shell, request, next=inside(next), token=token.strip(), known=known)

    @api.post("/login")
    async def sign_in(
        request: Request,
        token: Annotated[str, Form(max_length=16_000)] = "",
        next: Annotated[str, Form(max_length=2000)] = "/",
    ) -> Response:
        """Take a token that the platform's issuer signed; the cookie carries it from now on."""
        try:
            _check_from_here(request)
            request.app.state.verifier.verify(token.strip())
        except Refusal as refusal:  # Unauthorized, or Unavailable while the issuer cannot be reached
            return _door(shell, request, refusal.status, next=inside(next), problem=refusal.message)
        response = RedirectResponse(inside(next), 303, headers={"Cache-Control": "no-store"})
        shell.sessions.start(response, token.strip(), secure=request.url.scheme == "https")
        return response

    @api.post("/logout")
    async def sign_out() -> Response:
        response = Response(status_code=204, headers={"HX-Redirect": "/login"})
        shell.sessions.end(response)
        return response

    return api


def _door(shell: Shell, request: Request, status: int = 200, **context: Any) -> Response:
    page = shell.page(request, "login.html", status, **context, title="Sign in")
    # Where nothing of the referrer is sent, a browser does not say either which site a form came from.
    page.headers["Referrer-Policy"] = "same-origin"
    return page


def _check_from_here(request: Request) -> None:
    """Another site must not sign somebody in as somebody else. Raises Forbidden.

    Browsers say where a form came from; what says nothing is no browser, and nobody sits before it.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    here = site == "same-origin" if site else origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not here:
        raise Forbidden("this did not come from the console's own page; sign in here")
