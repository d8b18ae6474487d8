"""`Idempotency-Key` on writes: the effect happens once, and its answer is given again."""

import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from sqlalchemy import text

from .context import Claim, current, use
from .db import Database
from .errors import Conflict, Invalid

HEADER = "idempotency-key"
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class IdempotentRoute(APIRoute):
    """A route whose writes may carry an `Idempotency-Key`; the key is spent in the effect's own transaction."""

    def get_route_handler(self) -> Handler:
        answer = super().get_route_handler()

        async def once(request: Request) -> Response:
            key = request.headers.get(HEADER)
            if key is None or request.method not in _WRITES:
                return await answer(request)
            return await _once(request, key, answer)

        return once


async def _once(request: Request, key: str, answer: Handler) -> Response:
    if not 1 <= len(key) <= 200 or not key.isprintable():
        raise Invalid("an Idempotency-Key has 1 to 200 printable characters", "Idempotency-Key")
    db: Database = request.app.state.db
    context = current()
    claim = Claim("idempotency", f"{context.caller.actor} {key}", await _digest(request))
    if earlier := await _earlier(db, claim):
        return earlier
    with use(replace(context, claim=claim)):
        response = await answer(request)
    if claim.taken:
        await _keep(db, claim, response)
    return response


async def _digest(request: Request) -> str:
    """What was asked: method, path, query and body. A file upload counts by its type and length."""
    about = f"{request.method} {request.url.path}?{request.url.query}".encode()
    if request.headers.get("content-type", "").startswith("multipart/"):
        body = request.headers.get("content-length", "").encode()
    else:
        body = await request.body()
    return hashlib.sha256(about + b"\0" + body).hexdigest()


async def _earlier(db: Database, claim: Claim) -> Response | None:
    async with db.chassis() as session:
        select = text("SELECT digest, status, headers, body FROM idempotency WHERE key = :key")
        row = (await session.execute(select, {"key": claim.key})).first()
    if row is None:
        return None
    if row.digest != claim.digest:
        raise Conflict("this Idempotency-Key was used for another request")
    if row.status is None:
        raise Conflict("this request was done before, but its answer was lost: look the result up")
    return Response(row.body, row.status, dict(row.headers) | {"Idempotency-Replayed": "true"})


async def _keep(db: Database, claim: Claim, response: Response) -> None:
    headers = {n: v for n, v in response.headers.items() if n in ("content-type", "location")}
    update = """
        UPDATE idempotency SET status = :status, headers = CAST(:headers AS jsonb), body = :body WHERE key = :key
    """
    values = {"status": response.status_code, "body": bytes(response.body), "key": claim.key}
    async with db.chassis() as session:
        await session.execute(text(update), values | {"headers": orjson.dumps(headers).decode()})
