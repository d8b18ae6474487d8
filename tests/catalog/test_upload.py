"""Uploads are written as they come, capped before they are in memory, and refused by name."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from services.catalog.upload import Pace, Upload, receive
from services.kit.errors import Invalid, Refusal, TooLarge, TooSlow

TYPE = "multipart/form-data; boundary=x"


def part(name: str, data: bytes, *, filename: str = "") -> bytes:
    file = f'; filename="{filename}"' if filename else ""
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--x--\r\n"


MODEL = part("package", b"bytes\r\n--not-a-boundary", filename="../../etc/model.onnx")


class Body:
    """A request body in chunks, which counts what was taken of it."""

    def __init__(self, data: bytes, chunk: int = 7) -> None:
        self.chunks = [data[index : index + chunk] for index in range(0, len(data), chunk)] or [b""]
        self.taken = 0

    async def __call__(self) -> dict[str, Any]:
        self.taken += 1
        more = self.taken < len(self.chunks)
        return {"type": "http.request", "body": self.chunks[self.taken - 1], "more_body": more}


async def sent(body: Body | bytes, path: Path, *, kind: str = TYPE, max_bytes: int = 10_000) -> Upload:
    receive_body = body if isinstance(body, Body) else Body(body)
    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}
    return await receive(Request(scope, receive_body), path / "upload", max_bytes)


@pytest.mark.parametrize("chunk", [1, 2, 13, 10_000])
async def test_the_file_and_the_fields_arrive_whatever_the_chunks(chunk: int, tmp_path: Path) -> None:
    fields = (part("name", "krédit".encode()), part("tags", b"a, b,"), part("columns", b'[{"name": "A"}]'))
    got = await sent(Body(form(*fields[:1], MODEL, *fields[1:]), chunk), tmp_path)
    assert got.path.read_bytes() == b"bytes\r\n--not-a-boundary"
    assert got.fields == {"name": "krédit", "tags": ["a", "b"], "columns": [{"name": "A"}]}
    assert [path.name for path in tmp_path.iterdir()] == ["upload"]


BAD: list[tuple[bytes, str, type[Refusal], str]] = [
    (form(MODEL), "application/json", Invalid, "multipart"),
    (form(MODEL), "multipart/form-data", Invalid, "multipart"),
    (form(part("name", b"a")), TYPE, Invalid, "no field `package`"),
    (form(MODEL, MODEL), TYPE, Invalid, "twice"),
    (form(part("name", b"a"), part("name", b"b"), MODEL), TYPE, Invalid, "twice"),
    (MODEL, TYPE, Invalid, "cut off"),
    (b"hello", TYPE, Invalid, "cannot be read"),
    (b"", TYPE, Invalid, "cut off"),
    (form(MODEL, part("columns", b"{")), TYPE, Invalid, "columns: this is not JSON"),
    (form(MODEL, part("name", b"\xff")), TYPE, Invalid, "name: this is not UTF-8"),
    (form(MODEL, part("name", b"a" * 300_000)), TYPE, TooLarge, "name: larger"),
    (form(MODEL, *(part(f"f{index}", b"") for index in range(41))), TYPE, TooLarge, "more than 40"),
    (b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n", TYPE, Invalid, "without a name"),
    (b"--x\r\nA: " + b"b" * 20_000 + b"\r\n\r\n", TYPE, Invalid, "header size"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "kind", "error", "message"), BAD)
async def test_a_bad_form_is_refused_by_name(
    body: bytes, kind: str, error: type[Refusal], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        await sent(Body(body, 1000), tmp_path, kind=kind)


async def test_the_cap_holds_while_the_body_streams(tmp_path: Path) -> None:
    body = Body(form(part("package", b"x" * 1_000_000)), 1000)
    with pytest.raises(TooLarge, match="10000 bytes"):
        await sent(body, tmp_path)
    assert body.taken < 20, "the rest of the body was not even read"
    assert (tmp_path / "upload").stat().st_size <= 10_000


@settings(max_examples=100, deadline=None)
@given(noise=st.binary(max_size=200), place=st.integers(0, 300), chunk=st.integers(1, 50))
async def test_no_body_crashes_the_reader(
    noise: bytes, place: int, chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    good = form(part("name", b"a"), MODEL)
    try:
        got = await sent(Body(good[:place] + noise + good[place + len(noise) :], chunk), tmp_path_factory.mktemp("f"))
    except Refusal:
        return
    assert got.path.is_file()


async def test_a_body_that_drips_is_given_up(tmp_path: Path) -> None:
    begin = iter([form(MODEL).partition(b"bytes")[0]])

    async def drip() -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": next(begin, b"y"), "more_body": True}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", TYPE.encode())]}
    with pytest.raises(TooSlow, match="too slowly"):
        await receive(Request(scope, drip), tmp_path / "upload", 10_000, Pace(grace_s=0.2, bytes_s=1_000_000))


async def test_a_text_with_a_nul_is_refused_by_its_field(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as refused:
        await sent(form(part("description", b"a\0b"), MODEL), tmp_path)
    assert refused.value.field == "description"
