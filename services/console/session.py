"""Who sits before the browser: a signed cookie that carries the person's own token."""

import hmac
import os
import secrets
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.datastructures import MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.kit.errors import Forbidden
from services.kit.http import problem

COOKIE = "fairlead_session"
CSRF_HEADER = b"x-csrf-token"
_TWELVE_HOURS_S = 12 * 3600
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

# Nothing from elsewhere, nothing inline: what a model's name or an event says can never run.
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_SECURITY = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def secret_of(home: Path) -> bytes:
    """The key that signs sessions, made at the first start, so that a restart signs nobody out."""
    path = home / "secrets" / "console-session.key"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(descriptor, "wb") as file:
        file.write(made := secrets.token_bytes(32))
    return made


@dataclass(frozen=True)
class Sessions:
    """Makes and reads the cookie, and the token that a page's writes must carry."""

    secret: bytes

    @property
    def _signer(self) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(self.secret, salt="fairlead-console-session")

    def start(self, response: Response, token: str, *, secure: bool) -> None:
        """Sign a person in with their token, until the browser closes or twelve hours passed."""
        response.set_cookie(
            COOKIE,
            str(self._signer.dumps(token)),
            max_age=_TWELVE_HOURS_S,
            httponly=True,
            samesite="lax",
            secure=secure,
        )

    def end(self, response: Response) -> None:
        """Sign the person out in this browser; their token stays valid elsewhere."""
        response.delete_cookie(COOKIE, httponly=True, samesite="lax")

    def token(self, cookie: str) -> str | None:
        """The person's token in a cookie; None where the cookie is not ours or too old."""
        try:
            return str(self._signer.loads(cookie, max_age=_TWELVE_HOURS_S))
        except BadSignature:
            return None

    def csrf(self, cookie: str) -> str:
        """What a write from a page of this session has to show: another site cannot read it."""
        return hmac.new(self.secret, b"csrf:" + cookie.encode(), sha256).hexdigest()


class SessionMiddleware:
    """Turns the cookie into the bearer token that every other part expects, and guards writes made with it."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        verdict = self._sign_in(scope)
        if verdict == "forged":
            refusal = Forbidden("this write did not come from a page of this console; reload the page and try again")
            await problem(refusal)(scope, receive, send)
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in _SECURITY.items():
                    headers.setdefault(name, value)
                message["headers"] = headers.raw
            await send(message)

        await self._app(scope, receive, secured)

    def _sign_in(self, scope: Scope) -> Literal["signed in", "nobody", "forged"]:
        headers = dict(scope["headers"])
        if b"authorization" in headers or scope["path"] == "/login":
            return "nobody"
        cookie = cookie_parser(headers.get(b"cookie", b"").decode("latin-1")).get(COOKIE)
        token = self._sessions.token(cookie) if cookie else None
        if cookie is None or token is None:
            return "nobody"
        csrf = self._sessions.csrf(cookie)
        shown = headers.get(CSRF_HEADER, b"").decode("latin-1")
        if scope["method"] not in _SAFE and not hmac.compare_digest(csrf.encode(), shown.encode()):
            return "forged"
        scope["fairlead.csrf"] = csrf
        scope["headers"] = [*scope["headers"], (b"authorization", b"Bearer " + token.encode())]
        return "signed in"
