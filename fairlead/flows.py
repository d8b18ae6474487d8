"""The steps that operations are made of: read, send, wait until settled."""

import time
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from .errors import Failed, Invalid, NotFound, TimedOut
from .wire import Flow, Pause, Request

A = TypeVar("A")
Document = dict[str, Any]
_POLL_S = 0.25


def read(kind: type[A], path: str, **params: Any) -> Flow[A]:
    return parse(kind, (yield Request("GET", path, params=params)))


def send(kind: type[A], method: str, path: str, body: Document) -> Flow[A]:
    return parse(kind, (yield Request(method, path, body=body)))


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
    return value.isoformat() if isinstance(value, datetime) else value
