"""The steps that operations are made of: read, send, wait until settled."""

import time
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from .errors import Failed, Invalid, NotFound, TimedOut, Unreachable
from .wire import Flow, Pause, Request

A = TypeVar("A")
Document = dict[str, Any]
_POLL_S = 0.25
_AGAIN_S = 0.5


def read(kind: type[A], path: str, **params: Any) -> Flow[A]:
    """Ask for something. Raises `Failed` for an answer of another kind."""
    return parse(kind, (yield Request("GET", path, params=params)))


def send(kind: type[A], method: str, path: str, body: Document) -> Flow[A]:
    """Have something done, once. Raises `Failed` for an answer of another kind."""
    return parse(kind, (yield from done(Request(method, path, body=body))))


def done(write: Request) -> Flow[httpx.Response]:
    """A write whose answer was lost is sent again under its own key: it is done once, and the answer is told again."""
    try:
        return (yield write)
    except Unreachable as lost:
        if not lost.maybe_done:
            raise
    yield Pause(_AGAIN_S)
    return (yield write)


def settled(kind: type[A], path: str, wait: float | None, asked: A | None = None) -> Flow[A]:
    """Read something until nothing more happens to it by itself; `asked` stands for it until it is known there."""
    deadline = time.monotonic() + (wait or 0.0)
    while True:
        try:
            answer = yield from read(kind, path)
        except NotFound:
            if asked is None:
                raise
            answer = asked
        if wait is None or getattr(answer, "settled", True):
            return answer
        if not time.monotonic() < deadline:
            late = TimedOut(f"after {wait:g} s it is still {getattr(answer, 'state', 'under way')!r}")
            late.so_far = answer
            raise late
        yield Pause(_POLL_S)


def parse(kind: type[A], answer: httpx.Response) -> A:
    """The answer's body as what it should be. Raises `Failed` where it is something else."""
    try:
        return TypeAdapter(kind).validate_json(answer.content)
    except ValidationError as error:
        first = error.errors()[0]
        where = f" at {'.'.join(map(str, first['loc']))}" if first["loc"] else ""
        raise Failed(
            f"the platform's answer to {answer.request.url.path[:200]} is not as expected: {first['msg']}{where}",
            status=answer.status_code,
        ) from error


def part(name: str) -> str:
    """A name as one part of a path, whatever is in it. Raises `Invalid` for what would be another path."""
    if name in ("", ".", ".."):
        raise Invalid(f"{name!r} is no name")
    return quote(name, safe="")


def text(value: Any) -> Any:
    """A moment in ISO 8601; anything else as it is."""
    return value.isoformat() if isinstance(value, datetime) else value
