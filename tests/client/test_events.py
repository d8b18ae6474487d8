"""The stream of events: messages, positions, and going on after a broken connection."""

import asyncio
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

import orjson
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from contracts import ModelRetired
from fairlead import AsyncFairlead, Failed, Fairlead, Forbidden
from fairlead.events import Message, Occurrence, _occurrence
from services.kit.testing import eventually

RETIRED = {"model": "credit", "version": 1, "retired_by": "engineer", "reason": "old"}


def message(number: int) -> bytes:
    told = {
        "id": f"e-{number}", "type": "model.retired", "topic": "model.retired", "subject": "credit",
        "time": "2026-01-02T03:04:05+00:00", "unit": "retail", "actor": "engineer", "correlationid": "c",
        "data": RETIRED | {"version": number},
    }  # fmt: skip
    return b": still here\n\nid: model.retired:0:%d\ndata: %s\n\n" % (number, orjson.dumps(told))


async def stream(request: Request) -> Response:
    """Two events and most of a third, then the connection ends; the next goes on behind the position that was given."""
    if request.headers["authorization"] != "Bearer good":
        return JSONResponse({"detail": "engineer may not read model.retired"}, 403)
    start = int(request.headers.get("last-event-id", "x:0:0").rpartition(":")[2])

    async def two() -> AsyncIterator[bytes]:
        for number in (start + 1, start + 2):
            yield message(number)
        yield message(start + 3).removesuffix(b"\n")  # one whose end is lost with the connection

    return StreamingResponse(two(), media_type="text/event-stream")


@pytest.fixture
async def url() -> AsyncIterator[str]:
    app = Starlette(routes=[Route("/v1/events", stream)])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    task = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task


async def test_events_go_on_behind_the_last_one_after_a_broken_connection(url: str) -> None:
    versions: list[int] = []
    async with AsyncFairlead(url, "good") as fl:
        async for event in fl.events("model.retired"):
            assert isinstance(event.fact, ModelRetired)
            versions.append(event.fact.version)
            if len(versions) == 4:
                break
    assert versions == [1, 2, 3, 4]


async def test_a_loop_that_blocks_goes_on_behind_the_last_one_too(url: str) -> None:
    def first_five() -> list[int]:
        with Fairlead(url, "good") as fl:
            return [int(event.data["version"]) for event in islice(fl.events("model.retired"), 5)]

    assert await asyncio.to_thread(first_five) == [1, 2, 3, 4, 5]


def occurrence(**told: Any) -> Occurrence:
    return _occurrence(orjson.dumps({"id": "e", "type": "model.retired", "data": RETIRED} | told).decode())


@pytest.mark.parametrize("time", ["yesterday", "", None, 17, "2026-13-01T00:00:00Z"])
def test_a_time_that_cannot_be_read_is_none(time: Any) -> None:
    """Applications write the headers of open topics: one of them must not end everybody's stream."""
    assert occurrence(time=time).time is None


def test_what_is_no_event_is_named() -> None:
    for document in ("not json", "[]", "{}", '{"id": "e"}'):
        with pytest.raises(Failed, match="no event"):
            _occurrence(document)
    with pytest.raises(Failed, match=r"event e is no model\.retired: version"):
        _ = occurrence(data=RETIRED | {"version": "new"}).fact


async def test_a_stream_that_is_not_allowed_is_refused_at_once(url: str) -> None:
    with pytest.raises(Forbidden, match=r"model\.retired"):
        async for _ in AsyncFairlead(url, "bad").events("model.retired"):
            pytest.fail("no event was expected")


def test_a_message_may_come_in_several_lines() -> None:
    parser = Message()
    lines = ["id: a:0:1", "data: {", 'data: "x": 1}', ": comment", ""]
    assert [parser.feed(line) for line in lines][-1] == '{\n"x": 1}'
    assert parser.id == "a:0:1"
