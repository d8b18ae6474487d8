"""Odd input at every route of every service: refused by name, never a fault of the service's own."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from .conftest import Edge

ID = "018f3c2a-0000-7000-8000-000000000000"
AWAY = 503
"""What a part that is away answers: here no other service runs, and no Kafka."""

BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{'a': 1}",
    "cut off": b'{"a": ',
    "a list": b"[]",
    "a text": b'"a"',
    "null": b"null",
    "a key twice": b'{"a": 1, "a": 2}',
    "NaN": b'{"a": {"b": [1, NaN]}}',
    "infinity": b'{"a": -Infinity}',
    "too deep": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep": b'{"a": ' + b"[" * 500 + b"]" * 500 + b"}",
    "no UTF-8": b'{"a": "\xff\xfe"}',
    "half a surrogate pair": b'{"a": "\\ud800"}',
    "a NUL": b'{"a": "\\u0000"}',
    "a NUL in a key": b'{"a\\u0000": 1}',
    "a raw NUL": b'{"a": "\x00"}',
    "a huge integer": b'{"a": ' + b"9" * 5000 + b"}",
    "an integer of 65 bits": b'{"a": 36893488147419103232}',
    "a stranger": b'{"no-such-field": 1}',
}
TEXTS = {
    "NUL": "%00", "a tail of NUL": "a%00", "no UTF-8": "%ff", "half a surrogate pair": "%ed%a0%80", "a slash": "%2f",
    "up": "..", "up, quoted": "%2e%2e", "long": "a" * 5000, "huge": "9" * 400, "negative": "-1", "quote": "'%3b--",
    "line feed": "a%0ab", "emoji": "%f0%9f%98%80", "brackets": "%7b%7d", "spaces": "%20%20",
}  # fmt: skip


def operations(edge: Edge) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in edge.document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def filled(path: str, value: str = "") -> str:
    """The path with usual values, or with `value` in each place."""
    usual = {"id": ID, "version": "1", "kind": "history", "name": "endpoint"}
    parts = path.split("/")
    return "/".join((value or usual.get(p[1:-1], "a")) if p.startswith("{") else p for p in parts)


def check(edge: Edge, what: str, answer: httpx.Response, *, may_pass: bool) -> None:
    """A client's fault is told as one, in words that say which."""
    said = f"{edge.service} {answer.request.method} {answer.request.url.path[:80]} with {what}: {answer.text[:300]}"
    if answer.status_code < 400:
        assert may_pass, said
        return
    assert answer.headers["content-type"] == "application/problem+json", said
    assert answer.status_code < 500 or answer.status_code == AWAY, said
    assert len(answer.content) <= 2048, said
    told = answer.json()
    assert told["detail"], said
    for inside in ("Value error", "There was an error parsing the body", "Traceback"):
        assert inside not in told["detail"], said


async def test_an_odd_body_is_refused(edge: Edge) -> None:
    for method, path, operation in operations(edge):
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" not in content:
            continue
        required = operation["requestBody"].get("required", False)
        for what, body in BODIES.items():
            for key in ({}, {"idempotency-key": f"{path}{what}"}):
                headers = {"content-type": "application/json", **key}
                answer = await edge.http.request(method, filled(path), content=body, headers=headers)
                check(edge, what, answer, may_pass=not required and what in ("nothing", "null"))


async def test_a_body_of_another_kind_is_refused_by_its_header(edge: Edge) -> None:
    for method, path, operation in operations(edge):
        if set(operation.get("requestBody", {}).get("content", {})) != {"application/json"}:
            continue
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/xml", "a/b/c", ";"):
            answer = await edge.http.request(method, filled(path), content=b"{}", headers={"content-type": kind})
            check(edge, kind, answer, may_pass=False)
            assert answer.status_code == AWAY or answer.json()["field"] == "Content-Type", (path, kind, answer.text)


async def test_an_odd_path_is_refused(edge: Edge) -> None:
    for method, path, _ in operations(edge):
        if "{" not in path:
            continue
        for what, value in TEXTS.items():
            answer = await edge.http.request(method, filled(path, value))
            check(edge, f"path: {what}", answer, may_pass=what in ("up", "up, quoted", "a slash"))


async def test_an_odd_query_is_refused(edge: Edge) -> None:
    for method, path, operation in operations(edge):
        required = [p for p in operation.get("parameters", []) if p["in"] == "query" and p.get("required")]
        for parameter in operation.get("parameters", []):
            if parameter["in"] != "query" or path == "/v1/events":  # an event stream has no end
                continue
            for what, value in TEXTS.items():
                name = parameter["name"]
                others = "".join(f"&{p['name']}=a" for p in required if p != parameter)
                answer = await edge.http.request(method, f"{filled(path)}?{name}={value}{others}")
                check(edge, f"{name}: {what}", answer, may_pass=True)
                if answer.status_code == 422 and method == "GET":
                    assert name in answer.json().get("field", name), (path, what, answer.text)


@pytest.mark.parametrize("key", ["", "a" * 201, "a\tb", "\u00e9\u0080"])
async def test_an_odd_idempotency_key_is_refused(edge: Edge, key: str) -> None:
    for method, path, operation in operations(edge):
        takes = [p for p in operation.get("parameters", []) if p["name"] == "Idempotency-Key"]
        if takes:
            headers = [(b"idempotency-key", key.encode("latin-1"))]
            answer = await edge.http.request(method, filled(path), content=b"{}", headers=headers)
            check(edge, "an odd key", answer, may_pass=False)


async def test_two_authorization_headers_are_refused(edge: Edge) -> None:
    token = edge.http.headers.pop("authorization")
    for method, path, operation in operations(edge):
        if not operation.get("security"):
            continue
        headers = [("authorization", token), ("authorization", token)]
        answer = await edge.http.request(method, filled(path), headers=headers)
        check(edge, "two tokens", answer, may_pass=False)
        assert answer.status_code in (401, 422), answer.text
