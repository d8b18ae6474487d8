"""How an operation talks: a generator of requests, driven by a blocking or an asynchronous client."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import update_wrapper, wraps
from typing import IO, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload
from uuid import uuid4

import httpx
import orjson

from .errors import FairleadError, Invalid, Unreachable, error_of
from .where import Place


@dataclass(frozen=True)
class Request:
    """One HTTP request of an operation, independent of how it is sent."""

    method: str
    path: str
    params: Mapping[str, Any] | None = None
    body: Any = None
    """Sent as JSON; numpy arrays are taken as they are."""
    form: Mapping[str, str] | None = None
    files: Mapping[str, tuple[str, IO[bytes]]] | None = None
    timeout_s: float | None = None
    key: str = field(default_factory=lambda: str(uuid4()))
    """The `Idempotency-Key` of a write: sent again, the same request has no second effect."""

    def to_httpx(self, place: Place) -> dict[str, Any]:
        """The keyword arguments of httpx's `request`."""
        headers = {"Authorization": f"Bearer {place.bearer()}", "Accept": "application/json"}
        arguments: dict[str, Any] = {"method": self.method, "url": place.url + self.path, "headers": headers}
        if self.params:
            arguments["params"] = {name: value for name, value in self.params.items() if value is not None}
        if self.method != "GET":
            headers["Idempotency-Key"] = self.key
        if self.body is not None:
            arguments["content"] = _json(self.body)
            headers["Content-Type"] = "application/json"
        if self.files is not None:
            for _, file in self.files.values():
                file.seek(0)  # it may have been sent before
            arguments |= {"files": dict(self.files), "data": dict(self.form or {})}
        if self.timeout_s is not None:
            arguments["timeout"] = self.timeout_s
        return arguments


def _json(body: Any) -> bytes:
    try:
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        raise Invalid(f"this cannot be sent as JSON: {error}") from error


@dataclass(frozen=True)
class Pause:
    """Wait before the next step of an operation."""

    seconds: float


P = ParamSpec("P")
R = TypeVar("R")
Flow = Generator[Request | Pause, httpx.Response, R]
"""An operation's steps: it yields what to send and is handed the answer; what it returns is the result."""


class Blocking(Protocol):
    """A client whose operations return when they are done."""

    def perform(self, flow: Flow[R], /) -> R:
        """Run the steps of an operation."""
        ...


class Awaiting(Protocol):
    """A client whose operations are awaited."""

    def perform(self, flow: Flow[R], /) -> Awaitable[R]:
        """Run the steps of an operation."""
        ...


class operation(Generic[P, R]):  # noqa: N801 — it reads as a decorator
    """A method written once as a flow: it blocks on `Fairlead` and is awaited on `AsyncFairlead`."""

    def __init__(self, steps: Callable[Concatenate[Any, P], Flow[R]]) -> None:
        self._steps = steps
        update_wrapper(cast(Any, self), steps)

    @overload
    def __get__(self, client: None, owner: type) -> "operation[P, R]": ...
    @overload
    def __get__(self, client: Blocking, owner: type | None = None) -> Callable[P, R]: ...
    @overload
    def __get__(self, client: Awaiting, owner: type | None = None) -> Callable[P, Awaitable[R]]: ...
    def __get__(self, client: Any, owner: type | None = None) -> Any:
        if client is None:
            return self

        @wraps(self._steps)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.perform(self._steps(client, *args, **kwargs))

        return call


def drive(flow: Flow[R], http: httpx.Client, place: Place) -> R:
    """Run an operation to its end, blocking."""
    step = _begin(flow)
    while not isinstance(step, Done):
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            step = _next(flow)
            continue
        try:
            response = http.request(**step.to_httpx(place))
        except httpx.RequestError as problem:
            step = _throw(flow, unreachable(place, problem))
        else:
            step = _answer(flow, response)
    return step.result


async def drive_async(flow: Flow[R], http: httpx.AsyncClient, place: Place) -> R:
    """Run an operation to its end on the event loop."""
    step = _begin(flow)
    while not isinstance(step, Done):
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            step = _next(flow)
            continue
        try:
            response = await http.request(**step.to_httpx(place))
        except httpx.RequestError as problem:
            step = _throw(flow, unreachable(place, problem))
        else:
            step = _answer(flow, response)
    return step.result


@dataclass(frozen=True)
class Done(Generic[R]):
    """The end of a flow."""

    result: R


def _advance(step: Callable[[], Request | Pause]) -> Any:
    try:
        return step()
    except StopIteration as end:
        return Done(end.value)


def _begin(flow: Flow[R]) -> Request | Pause | Done[R]:
    return _advance(lambda: next(flow))


_next = _begin


def _throw(flow: Flow[R], error: FairleadError) -> Request | Pause | Done[R]:
    return _advance(lambda: flow.throw(error))


def _answer(flow: Flow[R], response: httpx.Response) -> Request | Pause | Done[R]:
    if response.status_code >= 300:
        return _throw(flow, error_of(response))
    return _advance(lambda: flow.send(response))


def unreachable(place: Place, problem: Exception) -> Unreachable:
    """The platform did not answer: where it was looked for, and why."""
    reason = str(problem) or type(problem).__name__
    error = Unreachable(f"no answer from the platform at {place.url} ({reason}). Is it up? (make status)")
    error.maybe_done = not isinstance(problem, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))
    return error
