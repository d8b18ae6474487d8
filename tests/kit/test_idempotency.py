"""What an `Idempotency-Key` stands for: the bytes that were sent, however they came."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count, pairwise
from pathlib import Path

import httpx
import pytest
from fastapi import Response
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from contracts import ModelRetired, Service
from services.kit.auth import Verifier
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.http import Who, make_app
from services.kit.idempotency import Asked, spent
from services.kit.service import router
from services.kit.settings import Settings

Asking = Callable[..., Awaitable[httpx.Response]]


async def digest(body: bytes, cuts: list[int], boundary: str = "", kind: str = "multipart/form-data") -> str:
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    pieces = [body[start:end] for start, end in pairwise(places)]

    async def receive() -> Message:
        piece = pieces.pop(0) if pieces else b""
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    content_type = f"{kind}; boundary={boundary}" if boundary else kind
    headers = [(b"content-type", content_type.encode()), (b"host", b"catalog")]
    scope = {"type": "http", "method": "POST", "path": "/v1/models", "query_string": b"", "headers": headers}
    asked = Asked(Request(scope, receive))
    await asked.read()
    return asked.digest()


def test_no_two_callers_share_a_key() -> None:
    assert spent("ann", "x y") != spent("ann x", "y")


async def test_a_key_of_nobody_is_looked_up_nowhere() -> None:
    """There is no database here: a look-up would fail."""
    routes = router()

    @routes.post("/v1/asks")
    async def ask(caller: Who) -> None: ...

    app = make_app("catalog", "1", [routes], Verifier(Settings()), Progress(), max_body_bytes=1000)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://catalog") as http:
        assert (await http.post("/v1/asks", headers={"Idempotency-Key": "k"})).status_code == 401


@pytest.fixture
async def asking(service_db: Callable[[Service], Database], home: Path) -> AsyncIterator[Asking]:
    """Sends a write under one key to a service whose every write retires another version."""
    db, routes, versions = service_db("catalog"), router(), count(1)

    @routes.post("/v1/asks", status_code=202)
    async def ask(caller: Who, response: Response, fail: bool = False) -> dict[str, int]:
        async with db.transaction(unit="retail") as tx:
            made = ModelRetired(model="credit", version=next(versions), retired_by=caller.actor, reason="old")
            tx.emit(made)
        await asyncio.sleep(0)
        if fail:
            raise ConnectionResetError
        response.headers["location"] = f"/v1/asks/{made.version}"
        return {"version": made.version}

    app = make_app("catalog", "1", [routes], Verifier(Settings(home=home)), Progress(), max_body_bytes=1000)
    app.state.db = db
    token = (home / "tokens" / "engineer.jwt").read_text().strip()
    headers = {"Idempotency-Key": "k", "Authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://catalog", headers=headers) as http:
        yield lambda **params: http.post("/v1/asks", params=params)


async def test_a_request_without_an_answer_had_no_effect_and_is_done_when_it_is_sent_again(asking: Asking) -> None:
    assert (await asking(fail=True)).status_code == 503
    done, again = await asking(), await asking()
    assert done.status_code == again.status_code == 202
    assert "idempotency-replayed" not in done.headers and again.headers["idempotency-replayed"] == "true"
    assert again.json() == done.json() and again.headers["location"] == done.headers["location"]


async def test_repeats_that_overtake_the_answer_wait_for_it(asking: Asking) -> None:
    answers = await asyncio.gather(*(asking() for _ in range(6)))
    assert len({(answer.status_code, answer.content) for answer in answers}) == 1
    assert answers[0].status_code == 202
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1


def form(boundary: str, content: bytes) -> bytes:
    mark = b"--" + boundary.encode()
    return mark + b'\r\nContent-Disposition: form-data; name="package"\r\n\r\n' + content + b"\r\n" + mark + b"--\r\n"


@given(st.binary(max_size=200), st.lists(st.integers(0, 400)), st.lists(st.integers(0, 400)))
async def test_pieces_and_boundaries_do_not_matter(content: bytes, cuts: list[int], others: list[int]) -> None:
    first = await digest(form("aaaabbbbcccc", content), cuts, "aaaabbbbcccc")
    assert await digest(form("0123456789", content), others, "0123456789") == first


@given(st.binary(min_size=1, max_size=50), st.integers(0, 49), st.sampled_from(["", "aaaabbbbcccc"]))
async def test_another_content_of_the_same_length_does(content: bytes, place: int, boundary: str) -> None:
    place %= len(content)
    other = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    one, two = (form(boundary, each) if boundary else each for each in (content, other))
    assert await digest(one, [], boundary) != await digest(two, [], boundary)
