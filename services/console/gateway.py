"""The other services' APIs, asked with the person's own token so that units and roles hold."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from contracts import Service
from services.kit.context import current
from services.kit.http import problem
from services.kit.settings import PORT_ORDER, Settings
from services.kit.unanswered import unanswered

from .routing import back, onward

_READ_S = 10.0
Header = tuple[bytes, bytes]
_PASS_ON = httpx.Timeout(600.0, connect=2.0)


@dataclass(frozen=True)
class Answer:
    """What a service said to a page: data, or the sentence that tells why there is none."""

    data: Any = field(default_factory=dict[str, Any])
    status: int = 200
    problem: str | None = None
    tag: str | None = None
    """The entity tag of the data, where they have one."""

    @property
    def ok(self) -> bool:
        """Whether there are data."""
        return self.problem is None

    @property
    def items(self) -> list[dict[str, Any]]:
        """The items of a list; none where the service gave none."""
        found = self.data.get("items", []) if isinstance(self.data, dict) else self.data
        return found if isinstance(found, list) else []

    @property
    def next(self) -> str | None:
        """The cursor of the items that follow."""
        return self.data.get("next") if isinstance(self.data, dict) else None

    def refuses(self, names: Iterable[str]) -> tuple[str, str]:
        """The input that is wrong, of those of a form that are called as the service calls its fields, and why.

        No name where nothing was refused, or not because of one of them.
        """
        field = str(self.data.get("field", "")) if isinstance(self.data, dict) and not self.ok else ""
        within = [name for name in names if field == name or field.startswith(f"{name}.")]
        reason = (self.problem or "").removeprefix(f"{field}: ")
        return max(within, key=len, default=""), reason[:1].upper() + reason[1:]

    @property
    def count(self) -> str:
        """How many items there are, as far as they were asked for."""
        return f"{len(self.items)}{'+' if self.next else ''}"


@dataclass(frozen=True)
class ServiceState:
    """Where a service is, and whether it is ready."""

    service: Service
    url: str
    ready: bool
    problems: dict[str, str]


class Gateway:
    """The way from the console to the other services."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=32)
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(_READ_S, connect=2.0), limits=limits)
        self._states: tuple[float, list[ServiceState]] = (0.0, [])
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def ask(self, request: Request, service: Service, path: str, **params: Any) -> Answer:
        """Read something from a service on behalf of the person who asks."""
        given = {name: value for name, value in params.items() if value not in (None, "")}
        return await self._send(request, service, "GET", path, params=given)

    async def all(self, request: Request, service: Service, path: str) -> list[dict[str, Any]]:
        """Every item of a list, page by page; as far as they were given where the service goes away."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            answer = await self.ask(request, service, path, limit=200, cursor=cursor)
            items += answer.items
            cursor = answer.next
            if not cursor:
                return items

    async def tell(
        self, request: Request, service: Service, path: str, body: Mapping[str, Any], method: str = "POST", *,
        seen: str | None = None, timeout_s: float = _READ_S,
    ) -> Answer:  # fmt: skip
        """Ask a service to do something on behalf of the person who asks; with `seen`, the entity tag of what they saw,
        only if it is still so."""
        condition = [(b"if-match", seen.encode("latin-1", "replace"))] if seen else []
        patience = httpx.Timeout(timeout_s, connect=2.0)
        return await self._send(request, service, method, path, condition, json=dict(body), timeout=patience)

    async def _send(
        self, request: Request, service: Service, method: str, path: str, also: Sequence[Header] = (), **content: Any
    ) -> Answer:
        headers = [(b"authorization", request.headers.get("authorization", "").encode("latin-1")), *_story(), *also]
        try:
            response = await self._http.request(method, self._settings.url(service) + path, headers=headers, **content)
        except httpx.TransportError as error:
            refusal = unanswered(service, method, error)
            more = " Whether it was done is not known: look before you try again." if refusal.status == 502 else ""
            return Answer(status=refusal.status, problem=f"The {service} does not answer at the moment.{more}")
        return _answer(response)

    async def states(self) -> list[ServiceState]:
        """Every service with its readiness, asked at most once a second."""
        async with self._lock:
            if time.monotonic() - self._states[0] > 1.0:
                found = await asyncio.gather(*(self._state(service) for service in PORT_ORDER))
                self._states = (time.monotonic(), found)
            return self._states[1]

    async def _state(self, service: Service) -> ServiceState:
        url = self._settings.url(service)
        try:
            response = await self._http.get(f"{url}/readyz", timeout=2.0)
            return ServiceState(service, url, response.status_code == 200, _answer(response).data.get("problems", {}))
        except httpx.TransportError as error:
            return ServiceState(service, url, False, {"http": f"does not answer ({type(error).__name__})"})

    async def pass_on(self, request: Request, service: Service) -> Response:
        """Hand a request to its service as it is, and the answer back as it comes; bodies are streamed both ways."""
        path = request.scope["raw_path"].decode("latin-1")
        url = httpx.URL(self._settings.url(service) + path, query=request.scope["query_string"] or None)
        has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        asked = self._http.build_request(
            request.method, url, headers=[*onward(request.scope["headers"]), *_story()],
            content=request.stream() if has_body else None, timeout=_PASS_ON,
        )  # fmt: skip
        try:
            answer = await self._http.send(asked, stream=True)
        except httpx.TransportError as error:
            refusal = unanswered(service, request.method, error)
            if path.startswith("/v2"):  # the protocol there has its own shape of errors
                return JSONResponse({"error": refusal.message}, refusal.status, {"Retry-After": "1"})
            return problem(refusal)
        passed = StreamingResponse(_body(answer), answer.status_code)
        passed.raw_headers = back(answer.headers.raw)
        return passed


def _story() -> list[Header]:
    """The story in which a service acts for this request: the one that the console names in its answer."""
    story = current()
    return [
        (b"fairlead-correlation-id", story.correlation_id.encode()),
        (b"traceparent", story.traceparent.encode("latin-1")),
    ]


async def _body(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in answer.aiter_raw():
            yield part
    finally:
        await answer.aclose()


def _answer(response: httpx.Response) -> Answer:
    try:
        data = response.json()
    except ValueError:
        data = {"text": response.text}
    if response.status_code < 400:
        return Answer(data, response.status_code, tag=response.headers.get("etag"))
    told = data if isinstance(data, dict) else {}
    reason = told.get("detail") or told.get("error") or told.get("title") or f"It answered {response.status_code}."
    return Answer(told, response.status_code, str(reason))
