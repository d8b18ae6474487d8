"""`Idempotency-Key` on writes: the effect happens once, and its answer is given again (ADR 0010)."""

import hashlib
import re
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from sqlalchemy import Row, text
from starlette.types import Message

from .context import current, use
from .db import Database, Repeated
from .errors import Conflict, Invalid
from .openapi import TAKES_KEY
from .strict import StrictRequest

HEADER = "idempotency-key"
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class IdempotentRoute(APIRoute):
    """A route whose writes may carry an `Idempotency-Key`: key, effect and answer are one transaction."""

    def __init__(self, *args: Any, **options: Any) -> None:
        if set(options.get("methods") or ()) & _WRITES:
            extra = options.get("openapi_extra") or {}
            parameters = [*extra.get("parameters", ()), *TAKES_KEY["parameters"]]
            options["openapi_extra"] = {**extra, "parameters": parameters}
        super().__init__(*args, **options)

    def get_route_handler(self) -> Handler:
        answer = super().get_route_handler()

        async def once(request: Request) -> Response:
            key = request.headers.get(HEADER)
            # Without a proven caller nothing is done, so there is nothing to give again either.
            if key is None or request.method not in _WRITES or "fairlead.caller" not in request.scope:
                return await answer(StrictRequest(request.scope, request.receive))
            return await _once(request, key, answer)

        return once


async def _once(request: Request, key: str, answer: Handler) -> Response:
    if not 1 <= len(key) <= 200 or not key.isprintable():
        raise Invalid("an Idempotency-Key has 1 to 200 printable characters", "Idempotency-Key")
    db: Database = request.app.state.db
    context, asked = current(), Asked(request)
    name = spent(context.caller.actor, key)
    if not asked.is_upload:
        await asked.request.body()  # a route need not read it, and it counts all the same
    if earlier := await _earlier(db, name):
        await asked.read()
        return _again(earlier, asked.digest())
    try:
        async with db.once(name, asked.digest) as once:
            with use(replace(context, claim=once)):
                response = await answer(asked.request)
            headers = {n: v for n, v in response.headers.items() if n in ("content-type", "location")}
            await once.keep(response.status_code, headers, bytes(response.body))
    except Repeated:  # it was done while this one was on its way
        if earlier := await _earlier(db, name):
            return _again(earlier, asked.digest())
        raise
    return response


def spent(actor: str, key: str) -> str:
    """The name of one caller's key; keys are printable, so no other pair has the same."""
    return f"{actor}\n{key}"


class Asked:
    """What a request asks: method, path, query and body, digested while the body is read and never kept.

    A form's boundary is left out: clients choose another one when they send the same form again.
    """

    def __init__(self, request: Request) -> None:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        self.is_upload = bool(kind) and not kind.endswith("json")
        """Too large to be kept: the route reads it as it comes."""
        self._receive = request.receive
        self._sum = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}".encode() + b"\0")
        self._boundary = _boundary(request.headers.get("content-type", ""))
        self._held = b""
        self.request = StrictRequest(request.scope, self._receiving)
        """The request to hand on in place of the other."""

    async def read(self) -> None:
        """Read the body to its end, for the digest alone."""
        async for _ in self.request.stream():
            pass

    def digest(self) -> str:
        """Of what was read so far."""
        whole = self._sum.copy()
        whole.update(self._held)
        return whole.hexdigest()

    async def _receiving(self) -> Message:
        message = await self._receive()
        self._add(message.get("body", b""))
        return message

    def _add(self, data: bytes) -> None:
        if not self._boundary:
            self._sum.update(data)
            return
        *whole, rest = (self._held + data).split(self._boundary)
        for piece in whole:
            self._sum.update(piece + b"\0")
        # A boundary may begin here and end in the next piece.
        kept = min(len(rest), len(self._boundary) - 1)
        self._sum.update(rest[: len(rest) - kept])
        self._held = rest[len(rest) - kept :]


def _boundary(content_type: str) -> bytes:
    """What parts a form; empty for anything else."""
    found = re.match(r'multipart/.*;\s*boundary="?([^"\s;]{1,200})', content_type, re.IGNORECASE)
    return found.group(1).encode("latin-1", "replace") if found else b""


async def _earlier(db: Database, key: str) -> Row[Any] | None:
    async with db.chassis() as session:
        select = "SELECT digest, status, headers, body FROM idempotency WHERE key = :key AND status IS NOT NULL"
        return (await session.execute(text(select), {"key": key})).first()


def _again(earlier: Row[Any], digest: str) -> Response:
    """The answer of the first time. Raises Conflict where something else was asked then."""
    if earlier.digest != digest:
        raise Conflict("this Idempotency-Key was used for another request")
    return Response(earlier.body, earlier.status, dict(earlier.headers) | {"Idempotency-Replayed": "true"})
