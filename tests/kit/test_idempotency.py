"""What an `Idempotency-Key` stands for: the bytes that were sent, however they came."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from services.kit.idempotency import Asked


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
