"""Inputs that no database could take: refused once, for every service, with the field's name."""

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import httpx
import orjson
import pytest
from fastapi import APIRouter, Query
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator

from services.kit.auth import Verifier
from services.kit.errors import Invalid
from services.kit.health import Progress
from services.kit.http import Body, make_app
from services.kit.inputs import (
    Version,
    as_cursor,
    check_texts,
    from_cursor,
    moment,
    moment_of,
    name,
    position,
    uuid,
    version,
)
from services.kit.service import router
from services.kit.settings import Settings


class Line(Body):
    text: str
    tags: dict[str, str] = {}


def _odd(number: int) -> int:
    if number % 2 == 0:
        raise ValueError("it is even")
    return number


class Share(Body):
    part: Annotated[int, AfterValidator(_odd)]


class Ask(Body):
    name: str
    lines: list[Line] = []
    label: float | str | None = None
    share: Share | None = None
    facts: dict[str, Any] = {}


def routes() -> APIRouter:
    made = router()

    @made.post("/v1/asks")
    async def ask(body: Ask) -> str:
        return body.name

    @made.get("/v1/things/{name}/{number}")
    async def thing(name: str, number: Version, query: Annotated[str | None, Query()] = None) -> str:
        return f"{name}{number}{query}"

    return made


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    app = make_app("catalog", "1", [routes()], Verifier(Settings()), Progress(), max_body_bytes=100_000)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://catalog") as client:
        yield client


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (rb'{"name": "a\u0000b"}', "name"),
        (rb'{"name": "\ud800"}', "name"),
        (rb'{"name": "a", "lines": [{"text": "b"}, {"text": "\u0000"}]}', "lines.1.text"),
        (rb'{"name": "a", "lines": [{"text": "b", "tags": {"c": "\udfff"}}]}', "lines.0.tags.c"),
        (rb'{"name": "a", "lines": [{"text": "b", "tags": {"c\u0000": "d"}}]}', "lines.0.tags.c?"),
        (rb'{"name": "a", "\u0000": 1}', "?"),
        (b'{"name": ' + b"[" * 300 + b"]" * 300 + b"}", "body"),
        (b'{"name": "a", "name": "b"}', "name"),
        (b'{"name": "a", "lines": [{"text": "b", "text": "b"}]}', "text"),
        (b'{"name": 1' + b"0" * 30 + b"}", "body"),
    ],
)
async def test_a_text_that_cannot_be_stored_is_refused_by_its_field(
    http: httpx.AsyncClient, body: bytes, field: str
) -> None:
    answer = await http.post("/v1/asks", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"] == field
    assert len(answer.content) <= 2048


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"name": "a", "share": {"part": 2}}', "share.part: it is even"),
        (b'{"name": "a", "share": {"part": 2}, "lines": 7}', "lines: Input should be a valid list (and 1 more)"),
        (b'{"name": "a", "label": []}', "label: Input should be a valid number, or Input should be a valid string"),
        (b'{"name": "a", "lines": [{"text": "b"}, {}]}', "lines.1.text: Field required"),
        (b'{"name": "a", "lines": [{"text": "b", "odd": 1}]}', "lines.0.odd: Extra inputs are not permitted"),
        (b'{"name": "a", "facts": {"b": [1, {"c": NaN}]}}', "facts.b.1.c: NaN is no JSON"),
        (b'{"name": -Infinity}', "name: -Infinity is no JSON"),
        (
            b'{"name": "a",}',
            "body: it is not valid JSON: Expecting property name enclosed in double quotes (line 1, column 14)",
        ),
        (b'{"name": "\xff"}', "body: it is not text in UTF-8 (byte 10)"),
        (b'{"name": ' + b"9" * 5000 + b"}", "body: a whole number is out of range (64 bits)"),
        (b'{"name": ' + b"[" * 40_000 + b"]" * 40_000 + b"}", "body: the JSON is nested too deep"),
        (b"", "body: Field required"),
    ],
)
async def test_a_refusal_says_what_is_wrong_and_where(http: httpx.AsyncClient, body: bytes, detail: str) -> None:
    answer = await http.post("/v1/asks", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"] == detail
    assert answer.json()["field"] == detail.partition(":")[0]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
async def test_a_body_that_is_not_sent_as_json_is_refused_by_its_header(http: httpx.AsyncClient, kind: str) -> None:
    answer = await http.post("/v1/asks", content=b'{"name": "a"}', headers={"content-type": kind})
    assert answer.status_code == 422
    assert answer.json()["detail"] == f"Content-Type: send application/json; it says {kind}"
    assert answer.json()["field"] == "Content-Type"


async def test_the_six_characters_that_only_look_like_one_are_taken(http: httpx.AsyncClient) -> None:
    assert (await http.post("/v1/asks", json={"name": "a\\u0000 \U0001f600"})).json() == "a\\u0000 \U0001f600"


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/things/a%00/1", "path"),
        ("/v1/things/a/1?query=%00", "query"),
        ("/v1/things/a/1?stranger=b%00c", "stranger"),
        ("/v1/nothing%00", "path"),
        ("/v1/things/a/2147483648", "number"),
        (f"/v1/things/a/1{'0' * 40}", "number"),
    ],
)
async def test_a_path_or_query_that_cannot_be_stored_is_refused(http: httpx.AsyncClient, path: str, field: str) -> None:
    answer = await http.get(path)
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"] == field


def test_a_cursor_gives_back_what_it_was_made_of() -> None:
    at, id = datetime(2026, 3, 2, 9, 30, 0, 17, UTC), UUID(int=7)
    assert from_cursor(as_cursor(at, id), moment, uuid) == (at, id)
    assert from_cursor(as_cursor("credit"), name) == ("credit",)
    assert from_cursor(as_cursor(2**40), position) == (2**40,)
    assert from_cursor(None, name) is None


FOREIGN: list[Any] = [
    [], [1], ["a", "b"], "a", {"a": 1}, None, ["2026-03-02", str(UUID(int=1))], ["2026-03-02T00:00:00Z", 7],
    ["0001-01-01T00:00:00+23:00", str(UUID(int=1))], ["9999-12-31T23:59:59-23:00", str(UUID(int=1))],
    [1, 2], ["2026-03-02T00:00:00Z", "{"],
]  # fmt: skip


@pytest.mark.parametrize("content", FOREIGN)
def test_a_cursor_of_another_list_is_refused(content: Any) -> None:
    with pytest.raises(Invalid) as refused:
        from_cursor(as_cursor("x") if content is None else _coded(orjson.dumps(content)), moment, uuid)
    assert refused.value.field == "cursor"


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


@pytest.mark.parametrize("cursor", ["", "x", "bm90IGpzb24", "WzFd", "e30", "é", "A" * 5000])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(Invalid):
        from_cursor(cursor, name)


@pytest.mark.parametrize("text", ["\0", "a\ud800"])
def test_a_text_of_a_cursor_can_be_stored(text: str) -> None:
    with pytest.raises(Invalid):
        from_cursor(_coded(rb'["\u0000"]' if text == "\0" else rb'["a\ud800"]'), name)


@pytest.mark.parametrize(("kind", "beyond"), [(version, 2**31), (position, 2**63)])
def test_a_number_of_a_cursor_fits_its_column(kind: Any, beyond: int) -> None:
    assert from_cursor(as_cursor(beyond - 1), kind) == (beyond - 1,)
    for wrong in (beyond, -1, True, 1.0, "1"):
        with pytest.raises(Invalid):
            from_cursor(_coded(orjson.dumps([wrong])), kind)


@given(st.text() | st.binary().map(_coded) | st.recursive(st.none() | st.integers(-(2**60), 2**60) | st.text(
    st.characters(exclude_categories=["Cs"])), st.lists).map(lambda made: _coded(orjson.dumps(made))))  # fmt: skip
def test_no_cursor_breaks_a_list(cursor: str) -> None:
    try:
        from_cursor(cursor, moment, name)
    except Invalid as refused:
        assert refused.field == "cursor"


@pytest.mark.parametrize("said", ["yesterday", "0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-01:00", "1969", ""])
def test_a_time_that_overflows_is_refused_by_its_field(said: str) -> None:
    with pytest.raises(Invalid) as refused:
        moment_of(said, "from")
    assert refused.value.field == "from"


def test_a_time_without_a_zone_is_in_utc() -> None:
    assert moment_of("2026-03-02T09:30:00", "from") == datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    assert moment_of("2026-03-02T09:30:00 01:00", "from") == datetime(2026, 3, 2, 8, 30, tzinfo=UTC)


def test_texts_are_checked_whatever_stands_beside_them() -> None:
    assert check_texts({1: datetime(2026, 1, 1, tzinfo=UTC), "a": [b"x", {"b"}]})
