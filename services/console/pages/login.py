"""Signing in with a token, by form or by link, and out again."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from services.kit.errors import Refusal

from .shell import Shell, inside


def router(shell: Shell) -> APIRouter:
    api = APIRouter(include_in_schema=False)

    @api.get("/login")
    async def ask(request: Request, token: str = "", next: str = "/") -> Response:
        return _sign_in(shell, request, token, next) if token else shell.page(request, "login.html", next=inside(next))

    @api.post("/login")
    async def sign_in(
        request: Request,
        token: Annotated[str, Form(max_length=16_000)] = "",
        next: Annotated[str, Form(max_length=2000)] = "/",
    ) -> Response:
        return _sign_in(shell, request, token, next)

    @api.post("/logout")
    async def sign_out() -> Response:
        response = Response(status_code=204, headers={"HX-Redirect": "/login"})
        shell.sessions.end(response)
        return response

    return api


def _sign_in(shell: Shell, request: Request, token: str, next: str) -> Response:
    """Take a token that the platform's issuer signed; the cookie carries it from now on."""
    try:
        request.app.state.verifier.verify(token.strip())
    except Refusal as refusal:  # Unauthorized, or Unavailable while the issuer cannot be reached
        return shell.page(request, "login.html", refusal.status, next=inside(next), problem=refusal.message)
    response = RedirectResponse(inside(next), 303, headers={"Cache-Control": "no-store"})
    shell.sessions.start(response, token.strip(), secure=request.url.scheme == "https")
    return response
