"""What the console decides without asking anybody: routes, sessions, marks, and how values read."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response

from services.console import views
from services.console.gateway import Answer
from services.console.pages.endpoints import points_of
from services.console.pages.shell import Shell, inside
from services.console.routing import back, onward, service_of
from services.console.session import COOKIE, Sessions, secret_of
from services.kit.letters import Mark
from services.kit.topics import contract_of, endpoint_of, scattered


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/v1/models", "catalog"),
        ("/v1/models/credit/versions/1/card", "catalog"),
        ("/v1/use-cases/limits", "catalog"),
        ("/v1/deployments", "deployer"),
        ("/v1/endpoints/credit/rollback", "deployer"),
        ("/v1/approvals", "governor"),
        ("/v1/audit/verify", "governor"),
        ("/v1/alert-routes/on-call", "governor"),
        ("/v1/alert-messages", "governor"),
        ("/v1/alert-silences/7/end", "governor"),
        ("/.well-known/openid-configuration", "governor"),
        ("/v2", "scorer"),
        ("/v2/models/credit/infer", "scorer"),
        ("/invocations/credit", "scorer"),
        ("/v1/models/credit:predict", "scorer"),
        ("/v1/models/credit", "catalog"),
        ("/v1/batches/7", "scorer"),
        ("/v1/monitors/credit/drift", "monitor"),
        ("/v1/retrainings", "retrainer"),
        ("/v1/decisions/7", "recorder"),
        ("/v1/modelsx", None),
        ("/v1/secrets", None),
        ("/v1/models/../../metrics", None),
        ("/metrics", None),
    ],
)
def test_each_path_belongs_to_one_service(path: str, service: str | None) -> None:
    assert service_of(path) == service


def test_headers_of_the_connection_and_of_the_console_are_not_passed_on() -> None:
    given_ = [
        (b"host", b"console"), (b"Cookie", b"fairlead_session=secret"), (b"connection", b"keep-alive, X-Mine"),
        (b"x-mine", b"1"), (b"transfer-encoding", b"chunked"), (b"authorization", b"Bearer t"), (b"x-csrf-token", b"c"),
    ]  # fmt: skip
    assert onward(given_) == [(b"authorization", b"Bearer t"), (b"x-forwarded-for", b"console")]
    assert back([(b"Set-Cookie", b"a=b"), (b"content-type", b"text/plain")]) == [(b"content-type", b"text/plain")]


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", ""]
)
def test_signing_in_never_leads_elsewhere(target: str) -> None:
    assert inside(target) == "/"


def test_signing_in_leads_back_to_the_page() -> None:
    assert inside("/approvals?x=1") == "/approvals?x=1"


def test_a_cookie_proves_its_token_and_a_changed_one_proves_nothing(tmp_path: Path) -> None:
    sessions = Sessions(secret_of(tmp_path))
    response = Response()
    sessions.start(response, "the-token", secure=False)
    header = response.headers["set-cookie"]
    assert "HttpOnly" in header
    assert "SameSite=lax" in header
    cookie = header.partition(f"{COOKIE}=")[2].partition(";")[0]
    assert sessions.token(cookie) == "the-token"
    assert sessions.token(("a" if cookie[0] != "a" else "b") + cookie[1:]) is None
    assert Sessions(b"another key").token(cookie) is None


def test_the_key_of_sessions_is_kept_for_the_next_start_and_private(tmp_path: Path) -> None:
    assert secret_of(tmp_path) == secret_of(tmp_path)
    assert (tmp_path / "secrets" / "console-session.key").stat().st_mode & 0o077 == 0


def test_the_write_token_belongs_to_one_session() -> None:
    sessions = Sessions(b"key")
    assert sessions.csrf("one") != sessions.csrf("two")


@given(st.lists(st.integers(0, 60), max_size=60))
def test_a_mark_covers_exactly_what_was_replayed(offsets: list[int]) -> None:
    mark = Mark()
    for offset in offsets:
        mark = mark.with_([offset])
    assert {n for n in range(70) if mark.covers(n)} == set(offsets)
    assert all(n > mark.below for n in mark.single), "single ones that reach the mark are folded into it"
    assert scattered(mark.noted) == mark.single


def test_a_mark_follows_the_retention_of_its_topic() -> None:
    assert Mark(2, frozenset({5, 6})).from_(5) == Mark(7)


def test_topics_of_endpoints_are_recognised() -> None:
    assert endpoint_of("inference.requested.credit") == "credit"
    assert endpoint_of("dlq.inference.requested.credit") == "credit"
    assert endpoint_of("inference.logged") is None
    assert contract_of("inference.requested.credit") is contract_of("inference.requested")
    assert contract_of("strangers") is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "now"),
        (5, "5 s ago"),
        (90, "2 min ago"),
        (7200, "2 h ago"),
        (86400 * 3, "3 d ago"),
        (86400 * 800, "2 y ago"),
    ],
)
def test_times_read_in_one_unit(seconds: int, text: str) -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    assert views.ago(now - timedelta(seconds=seconds), now) == text


def test_values_read_short_and_never_break_a_page() -> None:
    assert views.short_number(12_345) == "12.3\u202fk"
    assert views.short_number(0.0) == "0"
    assert views.number(1234567) == "1\u202f234\u202f567"
    assert views.size(1536) == "1.5\u202fKiB"
    assert views.signed(-0.5) == "−0.50"
    assert views.brief("sha256:" + "ab" * 32) == "ababababab…"
    assert [f(None) for f in (views.ago, views.number, views.short_number, views.size, views.signed)] == ["–"] * 5


def test_two_versions_in_one_window_are_one_point_of_the_chart() -> None:
    def window(to: str, version: int, rows: int) -> dict[str, object]:
        told = {"statistic": float(version), "threshold": 13.8, "latency": None, "columns": []}
        return {"window": {"from": "", "to": to, "rows": rows}, "version": version, **told}

    points = points_of([window("10:20", 2, 5), window("10:20", 1, 3), window("10:10", 1, 7)])
    assert [(p["to"], p["version"], p["rows"], p["statistic"]) for p in points] == [
        ("10:10", 1, 7, 1.0), ("10:20", 2, 8, 2.0),
    ]  # fmt: skip


def test_an_endpoints_page_tells_how_the_last_rows_came() -> None:
    nobody: Any = SimpleNamespace(address=str)
    shell = Shell(nobody, nobody, nobody, nobody)
    endpoint = {"model": "credit", "version": 1, "state": "serving", "revision": 4, "monitor": {}, "replicas": [],
                "variants": [], "routing": None}  # fmt: skip
    traffic = {"newest_row_at": "2026-03-02T09:30:00Z", "expected_rows": [412.6, 584.1], "volume": "fewer",
               "named_ids": 90, "repeated_ids": 7}  # fmt: skip
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": []})

    def shown(traffic: dict[str, Any] | None) -> str:
        latest = {"window": {"rows": 120}, "latency": None, "columns": [], "traffic": traffic}
        page = shell.page(request, "endpoint_live.html", found=Answer(endpoint), drift=Answer({}, 404),
                          deployments=Answer({"items": []}), latest=latest, name="credit")  # fmt: skip
        return bytes(page.body).decode()

    page = shown(traffic)
    assert "120 rows, fewer than expected (413 to 584); newest " in page
    assert "7 of 90 inferences with a request id" in page
    page = shown(traffic | {"volume": "expected", "repeated_ids": 0})
    assert "120 rows, as expected (413 to 584)" in page and "Repeated ids" not in page
    assert "120 rows;" in shown(traffic | {"volume": None, "expected_rows": None}) and "rows," not in shown(None)


def test_an_endpoints_page_shows_what_stands_beside_its_champion_and_how_to_move_on() -> None:
    nobody: Any = SimpleNamespace(address=str)
    shell = Shell(nobody, nobody, nobody, nobody)
    variants = [
        {"name": "champion", "role": "live", "model": "credit", "version": 1, "weight": 0.9, "granted_by": "ann"},
        {"name": "canary", "role": "live", "model": "credit", "version": 2, "weight": 0.1, "granted_by": "ben"},
        {"name": "challenger", "role": "shadow", "model": "credit", "version": 3, "weight": 0.0, "granted_by": "cat"},
    ]
    endpoint = {"model": "credit", "version": 1, "state": "serving", "revision": 4, "monitor": {}, "replicas": [],
                "variants": variants, "routing": {"strategy": "canary", "since": "2026-03-02T09:30:00Z"}}  # fmt: skip
    nothing = Answer({"items": []})
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": []})
    page = shell.page(request, "endpoint_live.html", found=Answer(endpoint), drift=Answer({}, 404), deployments=nothing,
                      latest={}, name="credit")  # fmt: skip
    shown = bytes(page.body).decode()
    assert "a canary since 2026-03-02" in shown
    assert "10.00 %" in shown and "0.00 %</td>" not in shown.replace("10.00 %", "").replace("90.00 %", "")
    assert "gets copies" in shown
    assert [f"/endpoints/credit/{move}?variant=canary" in shown for move in ("promote", "rollback")] == [True, True]
    assert "variant=champion" not in shown
