"""What an `Idempotency-Key` stands for: the bytes that were sent, however they came."""

from itertools import pairwise

import httpx
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from services.kit.auth import Verifier
from services.kit.health import Progress
from services.kit.http import Who, make_app
from services.kit.idempotency import Asked, spent
from services.kit.service import router
from services.kit.settings import Settings


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
