"""HTTP in: one application factory with problem details, tokens, body caps and health for every service."""

import ipaddress
import time
from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, model_validator
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts import Service

from . import asyncapi
from .auth import Verifier
from .away import is_away
from .context import Caller, Context, use
from .errors import FULL, Invalid, NoRoom, Refusal, TooLarge, Unauthorized, Unavailable, retry_after
from .health import Progress
from .ids import uuid7
from .inputs import check_target, check_texts
from .openapi import PROBLEM, REFUSALS, Problem
from .strict import refused
from .telemetry import HTTP_REQUESTS, HTTP_SECONDS, get_logger

log = get_logger(__name__)

_LIMIT = 1500
"""Characters of a problem's detail: an error never echoes a large input."""

T = TypeVar("T")


class Body(BaseModel):
    """The base of request bodies: closed and strict, so that a typo or a string for a number is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _is_text(cls, data: Any) -> Any:
        """NUL characters and halves of surrogate pairs parse as JSON and can be stored nowhere."""
        return check_texts(data)


class Page(BaseModel, Generic[T]):
    """One page of a list; `next` is the cursor of the following one."""

    items: list[T]
    next: str | None = None


def page(items: Sequence[T], limit: int, cursor: str | None) -> Page[T]:
    """A page of at most `limit` items out of `limit + 1` that were read; `cursor` leads on when there are more."""
    return Page[T](items=list(items[:limit]), next=cursor if len(items) > limit else None)


_BEARER = HTTPBearer(
    scheme_name="bearer", bearerFormat="JWT", description="A token of the platform's issuer.", auto_error=False
)


async def who(request: Request, _: Annotated[Any, Security(_BEARER)] = None) -> Caller:
    """The caller of this request, as the middleware proved it. A dependency of every protected route."""
    caller: Caller | None = request.scope.get("fairlead.caller")
    if caller is None:
        raise request.scope.get("fairlead.refusal") or Unauthorized("send a token: `Authorization: Bearer …`")
    return caller


Who = Annotated[Caller, Depends(who)]


class _App(FastAPI):
    """Tells in its document what a refusal looks like."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made once."""
        document = super().openapi()
        document.setdefault("components", {}).setdefault("schemas", {}).setdefault(
            "Problem", Problem.model_json_schema()
        )
        return document


def make_app(
    service: Service,
    version: str,
    routers: Sequence[APIRouter],
    verifier: Verifier,
    progress: Progress,
    *,
    max_body_bytes: int,
    large_bodies: dict[str, int] | None = None,
) -> FastAPI:
    """The service's HTTP application. `large_bodies` sets the body cap of paths, and below those that end with /."""
    app = _App(title=f"Fairlead {service}", version=version, redoc_url=None, responses=REFUSALS)
    for router in routers:
        app.include_router(router)
    app.include_router(_house(service, version, verifier, progress))
    for error, handler in _HANDLERS.items():
        app.add_exception_handler(error, handler)
    app.add_middleware(_Cap, limit=max_body_bytes, exceptions=large_bodies or {})
    app.add_middleware(_Plain)
    app.add_middleware(_Story, verifier=verifier)
    return app


def problem(error: Refusal) -> JSONResponse:
    """RFC 9457 problem details of a refusal."""
    body: dict[str, Any] = {
        "type": "about:blank", "title": error.title, "status": error.status, "detail": error.message[:_LIMIT],
    }  # fmt: skip
    if field := getattr(error, "field", None):
        body["field"] = str(field)[:200]
    seconds = retry_after(error)
    headers = None if seconds is None else {"Retry-After": str(seconds)}
    if isinstance(error, Unauthorized):
        headers = {"WWW-Authenticate": "Bearer"}
    return JSONResponse(body, error.status, headers, PROBLEM)


async def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return problem(error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    of_body = errors[0]["loc"][0] == "body"
    if of_body and isinstance(error.body, bytes):  # it was not read as JSON
        kind = request.headers.get("content-type", "nothing")[:80]
        return problem(Invalid(f"Content-Type: send application/json; it says {kind}", "Content-Type"))
    if errors[0]["type"] == "json_invalid":
        return problem(Invalid(f"body: it is not valid JSON: {errors[0]['ctx']['error']}", "body"))
    same = [each | {"loc": each["loc"][1:]} for each in errors if (each["loc"][0] == "body") == of_body]
    return problem(refused(same, error.body if of_body else None))


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, Refusal):  # raised while FastAPI read the body
        return problem(error.__cause__)
    refusal = Refusal(str(error.detail))
    refusal.status, refusal.title = error.status_code, "Refused"
    return problem(refusal)


async def _gone(_: Request, error: Exception) -> Response:
    """Whoever asked went away in the middle of the body: nobody reads this."""
    assert isinstance(error, ClientDisconnect)
    return Response(status_code=400)


async def _system(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    if error.errno in FULL:
        return problem(NoRoom("a disk is full; nothing was done"))
    return await _unexpected(request, error)


async def _unexpected(request: Request, error: Exception) -> Response:
    if is_away(error):
        return problem(
            Unavailable("a part that this needs is away; try again, with the same Idempotency-Key if there was one")
        )
    log.error("a request failed", path=request.url.path, exc_info=error)
    refusal = Refusal("this should not have happened; it is in the log under the request's correlation id")
    refusal.status, refusal.title = 500, "Internal error"
    return problem(refusal)


_HANDLERS: dict[Any, Any] = {
    Refusal: _refusal,
    RequestValidationError: _invalid,
    HTTPException: _http,
    ClientDisconnect: _gone,
    OSError: _system,
    Exception: _unexpected,
}


def _house(service: Service, version: str, verifier: Verifier, progress: Progress) -> APIRouter:
    """What every service answers."""
    router = APIRouter(include_in_schema=False)

    @router.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "live", "service": service, "version": version}

    @router.get("/readyz")
    async def readyz() -> JSONResponse:
        problems = progress.problems()
        return JSONResponse({"status": "ready" if not problems else "not ready", "problems": problems},
                            503 if problems else 200)  # fmt: skip

    @router.get("/metrics")
    async def metrics(request: Request) -> Response:
        if not _from_here(request):
            verifier.bearer(request.headers.get("authorization"))
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @router.get("/asyncapi.json")
    async def topics() -> dict[str, Any]:
        return asyncapi.document(service, version)

    return router


def _from_here(request: Request) -> bool:
    # A proxy in front of the service is on loopback too, so a forwarded request has to show a token.
    if request.client is None or "forwarded" in request.headers or "x-forwarded-for" in request.headers:
        return False
    return ipaddress.ip_address(request.client.host).is_loopback


class _Story:
    """Proves the caller, continues the caller's correlation id and trace, and counts the answer."""

    def __init__(self, app: ASGIApp, verifier: Verifier) -> None:
        self._app = app
        self._verifier = verifier

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        story = _story_of(headers)
        caller = self._prove(scope, [value for name, value in scope["headers"] if name == b"authorization"])
        status, started, begun = 500, time.perf_counter(), False

        async def telling(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                message["headers"] = [
                    *message["headers"],
                    (b"fairlead-correlation-id", story["correlation_id"].encode()),
                ]
            await send(message)

        with use(Context(caller or _NOBODY, **story)):
            try:
                await self._app(scope, receive, telling)
            except Exception as error:
                if begun:
                    raise
                # Here and not outside, where neither the log nor the answer would name the story.
                handle = scope["app"].exception_handlers[Exception]
                await (await handle(Request(scope), error))(scope, receive, telling)
            finally:
                route = getattr(scope.get("route"), "path", "other")
                HTTP_REQUESTS.labels(scope["method"], route, status).inc()
                HTTP_SECONDS.labels(scope["method"], route).observe(time.perf_counter() - started)

    def _prove(self, scope: Scope, given: list[bytes]) -> Caller | None:
        if not given:
            return None
        try:
            scope["fairlead.caller"] = self._verifier.bearer(b", ".join(given).decode("latin-1"))
        except Refusal as refusal:
            scope["fairlead.refusal"] = refusal
        return scope.get("fairlead.caller")


_NOBODY = Caller("nobody", "person")


def _story_of(headers: dict[bytes, str]) -> dict[str, Any]:
    correlation = headers.get(b"fairlead-correlation-id", "")
    usable = 8 <= len(correlation) <= 64 and correlation.replace("-", "").isalnum() and correlation.isascii()
    story: dict[str, Any] = {"correlation_id": correlation if usable else str(uuid7())}
    parent = headers.get(b"traceparent", "")
    if len(parent) == 55 and parent.count("-") == 3:
        story["traceparent"] = parent
    return story


class _Plain:
    """Refuses a path or query that could be stored nowhere, before any route sees it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                check_target(scope["path"], scope["query_string"])
            except Invalid as refusal:
                await problem(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _Cap:
    """Refuses bodies beyond the cap, chunked ones too, before they are in memory."""

    def __init__(self, app: ASGIApp, limit: int, exceptions: dict[str, int]) -> None:
        self._app = app
        self._limit = limit
        self._exceptions = exceptions

    def _limit_of(self, path: str) -> int:
        if path in self._exceptions:
            return self._exceptions[path]
        below = [limit for prefix, limit in self._exceptions.items() if prefix[-1] == "/" and path.startswith(prefix)]
        return max(below, default=self._limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_of(scope["path"])
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            await problem(TooLarge(f"the body is larger than {limit} bytes"))(scope, receive, send)
            return
        seen = 0

        async def counting() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise TooLarge(f"the body is larger than {limit} bytes")
            return message

        await self._app(scope, counting, send)
