"""V2's gRPC calls, answered by the scorer's own HTTP application without a connection in between."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote

import grpc
import grpc.aio
import orjson

from services.kit.errors import Refusal

from ..asgi import ScorerApp
from ..patience import HEADER
from ..v2 import BadInput
from . import translate
from .messages import CALLS, SERVICE, message

_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT, 401: grpc.StatusCode.UNAUTHENTICATED, 403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND, 413: grpc.StatusCode.RESOURCE_EXHAUSTED, 422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED, 503: grpc.StatusCode.UNAVAILABLE, 504: grpc.StatusCode.DEADLINE_EXCEEDED,
}  # fmt: skip
_PASSED_ON = ("authorization", "traceparent", "fairlead-correlation-id")
_ENDLESS_S = 1e9
Context = grpc.aio.ServicerContext


@dataclass
class Answered:
    """What the application sent."""

    status: int = 500
    headers: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    body: bytes = b""


class Calls:
    """One method for each call; what is refused ends the call with a status and the application's own words."""

    def __init__(self, app: ScorerApp) -> None:
        self._app = app

    def handler(self) -> grpc.GenericRpcHandler:
        """All of them, for a server."""
        return grpc.method_handlers_generic_handler(SERVICE, {name: self._handler(name) for name in CALLS})

    def _handler(self, name: str) -> "grpc.RpcMethodHandler[Any, Any]":
        asked, answer = message(f"{name}Request"), message(f"{name}Response")
        call: Callable[[Any, Context, Any], Awaitable[Any]] = getattr(self, f"_{name}")

        async def answering(request: Any, context: Context) -> Any:
            return await call(request, context, answer)

        return grpc.unary_unary_rpc_method_handler(answering, asked.FromString, answer.SerializeToString)

    async def _ServerLive(self, request: Any, context: Context, answer: Any) -> Any:  # noqa: N802 - the protocol's names
        return answer(live=True)

    async def _ServerReady(self, request: Any, context: Context, answer: Any) -> Any:  # noqa: N802
        return answer(ready=(await self._ask("GET", "/v2/health/ready", context)).status == 200)

    async def _ServerMetadata(self, request: Any, context: Context, answer: Any) -> Any:  # noqa: N802
        return answer(**await self._told("GET", "/v2", context))

    async def _ModelReady(self, request: Any, context: Context, answer: Any) -> Any:  # noqa: N802
        said = await self._ask("GET", f"{_path(request.name, request.version)}/ready", context)
        if said.status != 503:
            await _refuse(said, context)
        return answer(ready=said.status == 200)

    async def _ModelMetadata(self, request: Any, context: Context, answer: Any) -> Any:  # noqa: N802
        said = await self._told("GET", _path(request.name, request.version), context)
        return answer(**{name: said[name] for name in ("name", "versions", "platform", "inputs", "outputs")})

    async def _RepositoryIndex(self, request: Any, context: Context, answer: Any) -> Any:  # noqa: N802
        asked = orjson.dumps({"ready": request.ready})
        return answer(models=await self._told("POST", "/v2/repository/index", context, asked))

    async def _ModelInfer(self, request: Any, context: Context, answer: Any) -> Any:  # noqa: N802
        await self._refuse_strangers(context)
        try:
            body, json_length = translate.request(request)
        except BadInput as refusal:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, refusal.message)
        path = f"{_path(request.model_name, request.model_version)}/infer"
        said = await self._ask("POST", path, context, body, {b"inference-header-content-length": b"%d" % json_length})
        await _refuse(said, context)
        length = said.headers.get(b"inference-header-content-length")
        typed = not request.raw_input_contents
        return translate.response(said.body, None if length is None else int(length), typed=typed)

    async def _refuse_strangers(self, context: Context) -> None:
        """Before a request of any size is worked on."""
        given = dict(_given(context))
        try:
            self._app.refuse_strangers(given.get(b"authorization", b""))
        except Refusal as refusal:
            await _abort(refusal.status, refusal.message, context)

    async def _told(self, method: str, path: str, context: Context, body: bytes = b"") -> Any:
        said = await self._ask(method, path, context, body)
        await _refuse(said, context)
        return orjson.loads(said.body)

    async def _ask(
        self, method: str, path: str, context: Context, body: bytes = b"", more: dict[bytes, bytes] | None = None
    ) -> Answered:
        """The application's answer to a request that bears the call's own token and story."""
        headers = _given(context) + list((more or {}).items())
        left = cast("float | None", context.time_remaining())  # grpc's own annotation forgets calls without a deadline
        if left is not None and left < _ENDLESS_S:
            headers.append((HEADER, b"%.6f" % max(left, 1e-6)))
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": headers, "client": None,
        }  # fmt: skip
        answered = Answered()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(event: dict[str, Any]) -> None:
            if event["type"] == "http.response.start":
                answered.status, answered.headers = event["status"], dict(event["headers"])
            else:
                answered.body += event.get("body", b"")

        await self._app(scope, receive, send)
        return answered


def _given(context: Context) -> list[tuple[bytes, bytes]]:
    """Of the call's metadata, what the application reads as headers."""
    metadata = context.invocation_metadata() or ()
    return [(key.encode(), _text(value)) for key, value in metadata if key in _PASSED_ON]


async def _refuse(said: Answered, context: Context) -> None:
    """Ends the call where the application refused."""
    if said.status == 200:
        return
    try:
        told = orjson.loads(said.body)
        reason = str(told.get("error") or told.get("detail"))
    except (orjson.JSONDecodeError, AttributeError):
        reason = "the scorer failed"
    await _abort(said.status, reason, context)


async def _abort(status: int, reason: str, context: Context) -> None:
    await context.abort(_STATUS.get(status, grpc.StatusCode.INTERNAL), reason[:2000])


def _path(name: str, version: str) -> str:
    path = f"/v2/models/{quote(name, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def _text(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1", "replace")
