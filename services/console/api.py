"""HTTP in: the console's own paths, and everything else passed on to its service."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from services.kit.errors import Invalid, NotFound, Unavailable
from services.kit.http import Body, Page, Who
from services.kit.letters import Letter
from services.kit.strict import StrictRoute

from .gateway import Gateway
from .routing import service_of
from .usecases import Console, Told, preview

Limit = Annotated[int, Query(ge=1, le=500)]
Topic = Annotated[str, Query(max_length=249)]
Cursor = Annotated[str, Query(max_length=16_000)]
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]
_TOPICS_LIMIT = 40
_SILENCE_S = 10.0


class ServiceView(BaseModel):
    """Where a service is, and whether it is ready."""

    service: str
    url: str
    ready: bool
    problems: dict[str, str]


class PlatformView(BaseModel):
    """Who is where."""

    ready: bool
    services: list[ServiceView]


class LagView(BaseModel):
    """How many records a consumer group has still to read."""

    group: str
    lag: int


class TopicView(BaseModel):
    """A topic as the broker sees it."""

    topic: str
    speaker: str | None
    open: bool
    compacted: bool
    partitions: int
    records: int
    rate: float
    bytes: int | None
    dead_letters: int | None
    """That wait and that the caller may see; null where their roles open none."""
    groups: list[LagView]


class LetterView(BaseModel):
    """A record that could not be handled, and why."""

    topic: str
    partition: int
    offset: int
    source: str
    source_partition: str
    source_offset: str
    service: str
    error: str
    reason: str
    unit: str
    key: str | None
    at: datetime
    replayed: bool
    value: str
    """The beginning of the record's value."""

    @classmethod
    def of(cls, letter: Letter) -> "LetterView":
        record, why = letter.record, "__connect.errors."
        return cls(
            topic=record.topic, partition=record.partition, offset=record.offset, source=letter.source,
            source_partition=record.header(f"{why}partition"), source_offset=record.header(f"{why}offset"),
            service=letter.service, error=record.header(f"{why}exception.class.name"),
            reason=record.header(f"{why}exception.message"), unit=record.header("ce_unit"),
            key=record.key.decode(errors="replace") if record.key else None, at=record.at,
            replayed=letter.replayed, value=preview(record),
        )  # fmt: skip


class Place(Body):
    """Where a dead letter lies."""

    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]


class Replay(Body):
    """Which dead letters to give out again; without `records` all that wait."""

    topic: Annotated[str, Field(max_length=249)]
    records: Annotated[list[Place], Field(max_length=1000)] | None = None


class Replayed(BaseModel):
    """How many were given out again, and how many wait that cannot be from here."""

    topic: str
    replayed: int
    left: int


def router(console: Console, gateway: Gateway) -> APIRouter:
    """What the console answers itself under `/v1`."""
    api = APIRouter(prefix="/v1", tags=["console"], route_class=StrictRoute)

    @api.get("/platform")
    async def platform(caller: Who) -> PlatformView:
        services = [ServiceView.model_validate(s, from_attributes=True) for s in await gateway.states()]
        return PlatformView(ready=all(s.ready for s in services), services=services)

    @api.get("/topics")
    async def topics(caller: Who, request: Request) -> Page[TopicView]:
        found = await console.topics(caller, request)
        return Page(items=[TopicView.model_validate(t, from_attributes=True) for t in found])

    @api.get("/dead-letters")
    async def dead_letters(
        caller: Who, request: Request, topic: Topic | None = None, limit: Limit = 50, cursor: Cursor | None = None
    ) -> Page[LetterView]:
        found, following = await console.dead_letters(caller, request, topic, limit, cursor)
        return Page(items=[LetterView.of(letter) for letter in found], next=following)

    @api.post("/dead-letters/replay")
    async def replay(caller: Who, request: Request, asked: Replay) -> Replayed:
        places = None if asked.records is None else [(r.partition, r.offset) for r in asked.records]
        replayed, left = await console.replay(caller, request, asked.topic, places)
        return Replayed(topic=asked.topic, replayed=replayed, left=left)

    @api.get("/events")
    async def events(
        caller: Who,
        request: Request,
        topic: Annotated[str, Query(max_length=2000)],
        since: Literal["now", "start"] = "now",
        last_event_id: Annotated[str | None, Header(max_length=16_000)] = None,
    ) -> StreamingResponse:
        names = [name for name in dict.fromkeys(topic.split(",")) if name]
        if not 0 < len(names) <= _TOPICS_LIMIT:
            raise Invalid(f"name between 1 and {_TOPICS_LIMIT} topics", "topic")
        told = console.events(caller, request, names, last_event_id, from_start=since == "start")
        first = await anext(told, None)  # what is refused is refused before the stream begins
        if first is None:
            raise Unavailable("the token or the console came to its end before the stream began")
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_messages(first, told), media_type="text/event-stream", headers=headers)

    return api


async def _messages(first: Told, told: AsyncGenerator[Told]) -> AsyncIterator[bytes]:
    """Server-sent events; a comment says that the stream lives."""
    yield b"id: %b\n\n" % first.position.encode()
    said = time.monotonic()
    async with aclosing(told) as rest:
        async for one in rest:
            if one.document is not None:
                yield b"id: %b\ndata: %b\n\n" % (one.position.encode(), orjson.dumps(one.document))
            elif time.monotonic() - said > _SILENCE_S:
                yield b": still here\n\n"
            else:
                continue
            said = time.monotonic()


def passing(gateway: Gateway) -> APIRouter:
    """Every other path of the platform's surface; it comes last."""
    api = APIRouter(include_in_schema=False)

    async def pass_on(request: Request) -> Response:
        service = service_of(request.scope["path"])
        if service is None:
            raise NotFound("no service of this platform answers here")
        return await gateway.pass_on(request, service)

    for path in ("/v1/{rest:path}", "/v2", "/v2/{rest:path}", "/invocations/{rest:path}", "/.well-known/{rest:path}"):
        api.add_api_route(path, pass_on, methods=_METHODS)
    return api
