"""The scorer's HTTP: as thin as ASGI allows, because every microsecond here is paid for every inference."""

import asyncio
import ipaddress
import re
import time
from functools import lru_cache
from math import inf
from typing import Any

import orjson

from services.kit import asyncapi
from services.kit.auth import Verifier
from services.kit.context import Caller
from services.kit.errors import NotFound, Refusal, TooLarge
from services.kit.release import version

from . import metrics, mlflow, openapi, repository
from .counters import Counters
from .dataplane import DataPlane
from .endpoints import Endpoint
from .follower import Follower
from .health import Health
from .patience import HEADER, LINE, Line, limit_of
from .proxy import Proxy
from .served import Answer, Ask
from .settings import ScorerSettings
from .shadows import Shadows
from .spool import Spool, SpoolFull
from .v2 import BadInput
from .v2.document import flag_in, name_in, parse_object
from .wire import (
    JSON,
    LARGE,
    Gone,
    Head,
    NotAllowed,
    Receive,
    Reply,
    Scope,
    Send,
    deflate,
    inflate,
    inflate_little,
    read_body,
    refusing,
    reply,
)

_BINARY = (b"content-type", b"application/octet-stream")
_NAME = "fairlead"
_EXTENSIONS = ["binary_tensor_data"]
_TRUSTED_S = 1.0
"""How long a header that was verified is taken as it is; a token may outlive its end by that."""
_CALLERS = 1024
_METHODS = (
    (re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?/infer|/invocations/[^/]+|/v2/repository/index"), "POST"),
    (re.compile(r"/v1/models/[^/]+:predict"), "POST"),
    (re.compile(r"/livez|/readyz|/v2/health/(live|ready)"), "GET, HEAD"),
    (re.compile(r"/v2|/v2/models/[^/]+(/versions/[^/]+)?(/ready)?|/metrics|/(openapi|asyncapi)\.json"), "GET"),
    (re.compile(r"/v1/models(/[^/:]+)?"), "GET"),
)
ASKED = "fairlead.ask"
"""Where a scope's extensions bear a request that was read before."""


class ScorerApp:
    """One worker's HTTP application."""

    def __init__(
        self, settings: ScorerSettings, process: str, plane: DataPlane, spool: Spool, follower: Follower
    ) -> None:  # fmt: skip
        self._settings = settings
        self._process = process
        self._plane = plane
        self._spool = spool
        self._verifier = Verifier(settings)
        self._callers: dict[bytes, tuple[Caller, float]] = {}
        self._health = Health(settings, plane, follower, spool)
        self._counters = Counters(spool)
        half = settings.slot_bytes // 2
        self._shadows = Shadows(spool, lambda: spool.used < half)
        self._batches = Proxy(settings.batches_port_path)
        self._limit = settings.max_body_bytes
        self._fast = settings.fsync != "always"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        head = Head.read(scope["path"], scope["headers"])
        path, headers = head.path, head.headers
        try:
            if scope["method"] == "POST" and path.endswith("/infer") and path.startswith("/v2/models/"):
                await self._infer(scope, path[11:-6], headers, receive, send)
            else:
                await self._route(scope, path, headers, receive, send)
        except Refusal as refusal:
            self._counters.refused(refusal.status)
            await refusing(refusal, plain=path.startswith(("/v2", "/invocations/", "/v1/models"))).send(send)
        except Gone:
            self._counters.left += 1
        except asyncio.CancelledError:
            self._counters.left += 1
            raise

    # Inference

    def at_once(self, head: Head, body: bytes) -> Reply | Ask | None:
        """Answer a whole `POST /v2/models/…/infer` where nothing must be waited for.

        Else the request as far as it was read: `__call__` goes on from it, where the scope bears it as `ASKED`. None
        where it was not read: to inflate it would hold up others.
        """
        headers = head.headers
        try:
            name, version = _target(head.path[11:-6])
            caller = self._caller(headers)
            if len(body) > self._limit:
                raise TooLarge(f"the body is larger than {self._limit} bytes")
            plain = self._quickly(headers, body)
            if plain is None:
                return None
            ask = self._asked(plain, headers)
            fast = self._fast and not (len(body) > LARGE and b"accept-encoding" in headers)
            answer = self._plane.at_once(name, version, ask, caller, "rest") if fast else None
            if answer is None:
                return ask
            self._spooled(answer)
            answer.count()
            if answer.shadows:
                self._shadows.offer(answer.shadows, ask, answer.record, caller.actor, "rest")
            return _replied(answer, headers)
        except Refusal as refusal:
            self._counters.refused(refusal.status)
            return refusing(refusal, plain=True)

    async def _infer(
        self, scope: Scope, target: str, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        name, version = _target(target)
        caller = self._caller(headers)
        ask: Ask | None = scope.get("extensions", {}).get(ASKED)
        ask = ask or self._asked(await self._body(headers, receive), headers)
        await self._answer(scope, name, version, ask, caller, headers, send)

    async def _invoke(
        self, scope: Scope, name: str, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:  # fmt: skip
        caller = self._caller(headers)
        form = mlflow.form_of(headers.get(b"content-type", b""))
        ask = Ask(await self._body(headers, receive), protocol=form, entity=_entity(headers))
        _tell_story(ask, headers)
        await self._answer(scope, name, None, ask, caller, headers, send)

    async def _answer(
        self, scope: Scope, name: str, version: int | None, ask: Ask, caller: Caller, headers: dict[bytes, bytes],
        send: Send,
    ) -> None:  # fmt: skip
        """Score, log, reply: in this order, so that what was answered is logged whatever happens next."""
        ask.limit_s = min(ask.limit_s or inf, self._settings.request_s)
        line: Line | None = scope.get("extensions", {}).get(LINE)
        scoring = self._plane.infer(name, version, ask, caller, "rest")
        answer = await (scoring if line is None else line.carry(scoring))
        seq = self._spooled(answer)
        if seq is not None and self._settings.fsync == "always":
            await self._durable(answer, seq)
        answer.count()
        if len(answer.body) > LARGE and b"accept-encoding" in headers:
            said = await asyncio.to_thread(_replied, answer, headers)
        else:
            said = _replied(answer, headers)
        await said.send(send)
        if answer.shadows:
            self._shadows.offer(answer.shadows, ask, answer.record, caller.actor, "rest")

    def _asked(self, body: bytes, headers: dict[bytes, bytes]) -> Ask:
        length = headers.get(b"inference-header-content-length")
        ask = Ask(body, None if length is None else _length(length))
        if len(headers) > 1:
            _tell_story(ask, headers)
        return ask

    def _spooled(self, answer: Answer) -> int | None:
        """The record's number; None where it is dropped, as the settings allow when the spool is full."""
        try:
            return self._spool.append(answer.record.to_spool())
        except SpoolFull as full:
            self._refuse_or_drop(answer, full)
            return None

    async def _durable(self, answer: Answer, seq: int) -> None:
        try:
            await self._spool.durable(seq)
        except SpoolFull as full:
            self._refuse_or_drop(answer, full)

    def _refuse_or_drop(self, answer: Answer, full: SpoolFull) -> None:
        if self._settings.spool_full == "refuse":
            answer.account.refuse(full)
            raise full
        self._counters.dropped += 1

    def refuse_strangers(self, authorization: bytes) -> None:
        """Before anything is read of a request that comes another way. Raises Unauthorized, which is counted."""
        try:
            self._caller({b"authorization": authorization})
        except Refusal as refusal:
            self._counters.refused(refusal.status)
            raise

    def _caller(self, headers: dict[bytes, bytes]) -> Caller:
        header = headers.get(b"authorization", b"")
        known = self._callers.get(header)
        if known is not None and known[1] > time.monotonic():
            return known[0]
        caller = self._verifier.bearer(header.decode("latin-1"))
        if len(self._callers) >= _CALLERS:
            self._callers.clear()
        self._callers[header] = caller, time.monotonic() + _TRUSTED_S
        return caller

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        body = await read_body(receive, self._limit)
        plain = self._quickly(headers, body)
        if plain is None:
            plain = await asyncio.to_thread(inflate, body, headers[b"content-encoding"], self._limit)
        return plain

    def _quickly(self, headers: dict[bytes, bytes], body: bytes) -> bytes | None:
        """A body as it was before it was compressed; None where to inflate it would hold up others."""
        encoding = headers.get(b"content-encoding")
        return body if encoding is None else inflate_little(body, encoding, self._limit)

    # Everything else

    async def _route(
        self, scope: Scope, path: str, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:  # fmt: skip
        method, parts = scope["method"], [part for part in path.split("/") if part]
        _refuse_other_methods(method, "/" + "/".join(parts))
        match (method, parts):
            case ("GET" | "HEAD", ["livez"] | ["v2", "health", "live"]):
                await reply(send, 200, b'{"live":true,"status":"live"}')
            case ("GET" | "HEAD", ["readyz"]):
                await self._ready(send, self._health.problems(), detailed=True)
            case ("GET" | "HEAD", ["v2", "health", "ready"]):
                await self._ready(send, self._health.problems(), detailed=False)
            case ("GET", ["metrics"]):
                await self._metrics(scope, headers, send)
            case ("GET", ["openapi.json"]):
                await reply(send, 200, orjson.dumps(openapi.document(version())))
            case ("GET", ["asyncapi.json"]):
                await reply(send, 200, orjson.dumps(asyncapi.document("scorer", version())))
            case ("POST", ["invocations", name]):
                await self._invoke(scope, name, headers, receive, send)
            case (_, ["v1", "models", *rest]):
                await self._v1(scope, rest, headers, receive, send)
            case (_, ["v1", "batches" | "explanations" | "inferences", *_]):
                caller = self._verifier.presented(headers.get(b"authorization", b"").decode("latin-1"))
                await self._batches(scope, receive, send, caller.actor)
            case (_, ["v2", *rest]):
                await self._v2(method, rest, headers, receive, send)
            case _:
                raise NotFound("there is nothing at this path")

    async def _v1(
        self, scope: Scope, parts: list[str], headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:  # fmt: skip
        """KServe's older protocol: `instances` in and `predictions` out, as MLflow's have them."""
        match (scope["method"], parts):
            case ("POST", [target]) if target.endswith(":predict"):
                await self._invoke(scope, target.removesuffix(":predict"), headers, receive, send)
            case ("GET", []):
                known = repository.index(self._plane, self._caller(headers), ready_only=False)
                await reply(send, 200, orjson.dumps({"models": list(dict.fromkeys(each["name"] for each in known))}))
            case ("GET", [name]) if ":" not in name:
                endpoint = self._plane.find(name, self._caller(headers))
                await reply(send, 200, orjson.dumps(repository.ready(endpoint, endpoint.away)))
            case _:
                raise NotFound("there is nothing at this path; decisions are explained at /v1/explanations")

    async def _v2(
        self, method: str, parts: list[str], headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:  # fmt: skip
        caller = self._caller(headers)
        match (method, parts):
            case ("GET", []):
                await reply(send, 200, orjson.dumps({"name": _NAME, "version": version(), "extensions": _EXTENSIONS}))
            case ("POST", ["repository", "index"]):
                asked = await self._body(headers, receive)
                ready_only = flag_in(parse_object(asked), "ready") if asked else False
                await reply(send, 200, orjson.dumps(repository.index(self._plane, caller, ready_only=ready_only)))
            case ("GET", ["models", name, *rest]):
                endpoint = self._plane.find(name, caller)
                await reply(send, 200, orjson.dumps(self._model(endpoint, rest)))
            case _:
                raise NotFound("there is nothing at this path")

    def _model(self, endpoint: Endpoint, rest: list[str]) -> dict[str, Any]:
        match rest:
            case []:
                return repository.metadata(endpoint, endpoint.champion)
            case ["ready"]:
                return repository.ready(endpoint, endpoint.away)
            case ["versions", version]:
                return repository.metadata(endpoint, endpoint.choose(_version(version)))
            case ["versions", version, "ready"]:
                return repository.ready(endpoint, endpoint.choose(_version(version)).lane.away)
            case _:
                raise NotFound("there is nothing at this path")

    async def _ready(self, send: Send, problems: dict[str, str], *, detailed: bool) -> None:
        said: dict[str, Any] = {"ready": not problems, "status": "not ready" if problems else "ready"}
        if detailed:
            said |= {"problems": problems, "delayed": self._health.delays()}
        await reply(send, 503 if problems else 200, orjson.dumps(said))

    async def _metrics(self, scope: Scope, headers: dict[bytes, bytes], send: Send) -> None:
        client = scope.get("client")
        forwarded = b"forwarded" in headers or b"x-forwarded-for" in headers
        if forwarded or not client or not ipaddress.ip_address(client[0]).is_loopback:
            self._caller(headers)
        page = metrics.page(self._settings.run_folder, self._process)
        await reply(send, 200, page, [(b"content-type", metrics.CONTENT_TYPE)])


@lru_cache(1024)
def _who(version: int, variant: str) -> tuple[tuple[bytes, bytes], ...]:
    """Who answered; V2's body says it, too, MLflow's has no place for it."""
    return (b"fairlead-model-version", b"%d" % version), (b"fairlead-variant", variant.encode())


def _replied(answer: Answer, headers: dict[bytes, bytes]) -> Reply:
    extra = [
        JSON if answer.json_length is None else _BINARY,
        (b"fairlead-inference-id", answer.inference_id.encode()),
        *_who(answer.version, answer.variant),
    ]
    if answer.json_length is not None:
        extra.append((b"inference-header-content-length", b"%d" % answer.json_length))
    body = answer.body
    if b"accept-encoding" in headers:
        body, encoding = deflate(body, headers[b"accept-encoding"])
        if encoding:
            extra.append((b"content-encoding", encoding))
    return Reply(200, body, extra)


def _entity(headers: dict[bytes, bytes]) -> str | None:
    """Of a protocol whose body cannot say it. Raises BadInput where it is no short text."""
    said = headers.get(b"fairlead-entity")
    return None if said is None else name_in({"Fairlead-Entity": said.decode(errors="replace")}, "Fairlead-Entity")


def _tell_story(ask: Ask, headers: dict[bytes, bytes]) -> None:
    ask.traceparent = _story(headers, b"traceparent", 55)
    ask.correlation_id = _story(headers, b"fairlead-correlation-id", 64)
    if HEADER in headers:
        ask.limit_s = limit_of(headers[HEADER])


def _refuse_other_methods(method: str, path: str) -> None:
    """Raises NotAllowed where there is something at a path, for other methods."""
    for pattern, methods in _METHODS:
        if pattern.fullmatch(path) and method not in methods.split(", "):
            raise NotAllowed(methods)


def _target(target: str) -> tuple[str, int | None]:
    name, _, rest = target.partition("/")
    if not rest:
        return name, None
    word, _, version = rest.partition("/")
    if word != "versions":
        raise NotFound("there is nothing at this path")
    return name, _version(version)


def _version(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise NotFound(f"{text[:40]!r} is not a version: versions are whole numbers from 1")
    return int(text)


def _length(text: bytes) -> int:
    if not text.isdigit() or len(text) > 10:
        raise BadInput("Inference-Header-Content-Length is not a number of bytes")
    return int(text)


def _story(headers: dict[bytes, bytes], name: bytes, longest: int) -> str | None:
    """An id of the caller's story, where it is one that can be passed on."""
    value = headers.get(name)
    if value is None or not 8 <= len(value) <= longest or not value.replace(b"-", b"").isalnum():
        return None
    return value.decode() if value.isascii() else None
