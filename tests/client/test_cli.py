"""The command line: exit codes that scripts can trust, tables for people, JSON for programs."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from typer.testing import CliRunner, Result

from fairlead.cli import app

GATE = {"name": "scan", "passed": True, "rule": "true", "facts": {}}
APPROVAL = {
    "id": "a-1", "state": "pending", "endpoint": "credit", "model": "credit", "version": 2, "use_case": "limits",
    "requested_by": "engineer", "gates": [GATE, GATE | {"name": "bias", "passed": False}],
}  # fmt: skip
DEPLOYMENT = {"id": "d-1", "endpoint": "credit", "state": "rejected", "model": "credit", "version": 2, "reason": "no"}
TOPIC = {
    "topic": "inference.logged", "records": 12_345, "rate": 2.5, "bytes": 2048, "partitions": 4, "dead_letters": 1,
    "groups": [{"group": "monitor", "lag": 7}],
}  # fmt: skip
SERVICE = {"service": "scorer", "url": "http://127.0.0.1:1", "ready": False, "problems": {"bus": "Kafka is away"}}
ANSWERS: dict[str, Any] = {
    "/v1/models": {"items": [], "next": None},
    "/v1/approvals": {"items": [APPROVAL], "next": None},
    "/v1/deployments": DEPLOYMENT,
    "/v1/topics": {"items": [TOPIC, TOPIC | {"topic": "dlq.inference.logged"}]},
    "/v1/platform": {"ready": False, "services": [SERVICE]},
    "/v1/dead-letters/replay": {"topic": "dlq.x", "replayed": 2},
    "/v1/batches": {"id": "b-1", "endpoint": "credit", "state": "running", "rows_total": 10, "rows_done": 3},
    "/v1/deployments/d-2": DEPLOYMENT | {"id": "d-2", "state": "waiting"},
    "/v1/decisions/i-1": {
        "inference_id": "i-1", "endpoint": "credit", "model": "credit", "version": 2,
        "decided": [{"row": 0, "prediction": "granted", "score": 0.75, "features": {"income": 1200}}],
        "outcomes": [{"row": 0, "label": "repaid", "value": 17, "reported_by": "bank", "reported_at": "2026-01-01"}],
    },
    "/v1/outcomes": {"accepted": 1, "new": 1},
    "/v2/models/page": "<html>",
}  # fmt: skip
ENDPOINT = {
    "endpoint": "credit", "state": "serving", "model": "credit", "version": 1,
    "variants": [
        {"name": "champion", "role": "live", "model": "credit", "version": 1, "weight": 0.8},
        {"name": "canary", "role": "live", "model": "credit", "version": 2, "weight": 0.2},
        {"name": "challenger", "role": "shadow", "model": "credit", "version": 3, "weight": 0.0},
    ],
}  # fmt: skip
ANSWERS.update({f"/v1/endpoints/credit/{move}": ENDPOINT for move in ("weight", "promote", "rollback")})
ANSWERS["/v1/replays"] = {"id": "p-1", "state": "requested", "endpoint": "credit", "model": "credit", "version": 2}
ANSWERS["/v1/replays/p-1"] = ANSWERS["/v1/replays"] | {
    "state": "replayed", "reason": "400 recorded rows: both decide alike in 81.25%",
    "result": {"rows": 400, "agreement": 0.8125, "labelled": 300, "by_version": {"1": 400},
               "comparison": {"champion": {"accuracy": 0.81}, "candidate": {"accuracy": 0.98}}},
}  # fmt: skip
ANSWERS["/v1/batches/b-1"] = ANSWERS["/v1/batches"]
ANSWERS["/v1/batches/b-1/cancel"] = ANSWERS["/v1/batches"] | {"state": "cancelled", "reason": "cancelled by engineer"}
SCHEDULE = {
    "id": "s-1", "order": {"endpoint": "credit", "arrives": {"connection": "incoming", "prefix": "new"}},
    "state": "active", "missed": 0, "runs": [{"key": "new/a.csv@1", "batch": "b-1", "at": "2026-01-01T00:00:00Z"}],
}  # fmt: skip
ANSWERS["/v1/batches/schedules/s-1"] = SCHEDULE
ANSWERS["/v1/batches/schedules/s-1/pause"] = SCHEDULE | {"state": "paused"}
BUDGET = {"objective": 0.99, "good": 0.98, "allowed": 1.0, "spent": 2, "left": -1.0, "burn_rate": 2.0}
LEVELS = {
    "inferences": 101, "rows": 700, "requests": 100, "refused": None, "failed": None, "availability": None,
    "latency": {"p50_ms": 0.8, "p95_ms": 1.5, "p99_ms": 321.0}, "budgets": {"latency": BUDGET, "availability": None},
    "cost": {"currency": "CHF", "total": 0.0125, "per_1000_inferences": 0.125},
    "unknown": {"availability": "no scorer host has reported usage in this span"},
}  # fmt: skip
ANSWERS["/v1/monitors/credit/service"] = {
    "endpoint": "credit", "use_case": "limits", "total": LEVELS, "last_hour": LEVELS["budgets"],
    "window": {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"},
    "versions": [LEVELS | {"model": "credit", "version": 2}],
    "alarms": [{"objective": "latency", "severity": "critical", "since": "2026-01-01T00:00:00Z", "detail": "too slow"}],
}  # fmt: skip
TRIAL: dict[str, Any] = {
    "budget_rows": 1_000_000, "tolerance": 0.1, "season_s": None, "alarms": [],
    "notes": [{"kind": "note", "at": "2026-01-01T00:01:40Z", "since": "2026-01-01T00:00:00Z", "statistic": 15.0,
               "rows_watched": 300}],
}  # fmt: skip
MOVED = {"name": "income", "effect": -0.4, "interval": [-0.6, -0.2], "tolerance": 0.2, "unit": "sd"}
ANSWERS["/v1/monitors/credit/dry-run"] = {
    "endpoint": "credit", "version": 2, "from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z", "windows": 60,
    "rows": 6_000, "labels": 250, "present": TRIAL,
    "proposed": TRIAL | {"season_s": 86_400.0, "alarms": [TRIAL["notes"][0] | {"kind": "alarm", "features": [MOVED]}]},
}  # fmt: skip
FIGURE = {"value": 0.4, "interval": [0.3, 0.5], "rows": 300}
PRODUCT = {"segment": "product", "group": "3"}
SLICE = {
    "where": [PRODUCT, {"segment": "region", "group": "north"}], "loss": FIGURE,
    "rest": FIGURE | {"value": 0.1}, "difference": FIGURE | {"value": 0.3}, "excess": 90.0, "like": None,
}  # fmt: skip
SEARCH = {
    "window": {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z", "rows": 9_000}, "version": 2,
    "variant": "champion", "task": "binary", "metric": "error rate", "loss": 0.11, "segments": ["product", "region"],
    "possible": 24, "looked_at": 20, "worse": 2,
    "slices": [SLICE, SLICE | {"where": [PRODUCT], "like": 1}],
}  # fmt: skip
ANSWERS["/v1/monitors/credit/slices"] = {"endpoint": "credit", "confidence": 0.99, "searches": [SEARCH]}
AGREEMENT = {"name": "agreement", "of": None, "value": 0.9, "interval": [0.85, 0.94], "rows": 220, "why": None}
COMPARED = {
    "window": {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z", "rows": 220},
    "answers": {
        "requests": 23, "rows": 220, "unknown": 10, "failed": 4, "failures": {"ModelFailed": 4}, "answered": 240,
        "statistics": [AGREEMENT], "cells": [{"told": "0", "said": "1", "rows": 22}],
        "groups": [{"segment": "region", "group": "north", "rows": 40, "statistic": AGREEMENT | {"value": 0.71}}],
        "told_latency": {"p50_ms": 0.8, "p95_ms": 1.1, "p99_ms": 2.0}, "said_latency": None,
    },
    "outcomes": {
        "rows": 200, "unknown": 0, "both_right": 160, "only_told_right": 3, "only_said_right": 30, "both_wrong": 7,
        "verdict": "better", "groups": [],
        "statistics": [AGREEMENT | {"name": "accuracy gained", "value": 0.135, "interval": [0.07, 0.2]}],
    },
}  # fmt: skip
BESIDE = {"version": 3, "variant": "challenger", "against": 2, "task": "binary", "overall": COMPARED, "windows": []}
ANSWERS["/v1/monitors/credit/comparison"] = {
    "endpoint": "credit", "confidence": 0.99, "window_s": 3600.0, "comparisons": [BESIDE],
}  # fmt: skip
ANSWERS["/v1/monitors/plain/comparison"] = ANSWERS["/v1/monitors/credit/comparison"] | {"comparisons": []}
RULE = {
    "name": "limit", "must": "amount <= limit", "tolerance": 0.01, "severity": "critical", "rows": 900, "broken": 27,
    "undecided": 0, "not_looked_at": 100, "share": 0.03, "by_row": False, "why": "x is [not] a column", "alarmed": True,
    "since": "2026-01-01T00:00:00Z",
    "examples": [{"inference_id": "0192-aa", "row": 3, "received_at": "2026-01-01T00:00:01Z"}],
}  # fmt: skip
ANSWERS["/v1/monitors/credit/rules"] = {
    "endpoint": "credit", "start": None, "end": None, "windows": 60, "rows": 1_000, "rules": [RULE],
}  # fmt: skip
ANSWERS["/v1/monitors/plain/slices"] = {"endpoint": "plain", "confidence": 0.99, "searches": []}
ANSWERS["/v1/monitors/credit/drift/segments"] = {
    "endpoint": "credit", "version": 2, "confidence": 0.99, "tolerance": 0.1, "start": None, "end": None, "windows": 60,
    "rows": 6_000, "groups": [
        {"segment": "product", "group": "3", "rows": 900, "why": None, "columns": [
            {"name": "income", "effect": 0.52, "interval": [0.3, 0.74], "beyond": True}]},
        {"segment": "product", "group": "other", "rows": 7, "why": "fewer than 100 rows", "columns": []},
    ],
}  # fmt: skip
INFLUENCE = {"column": "income", "before": 0.66, "now": 0.35, "effect": -0.31, "interval": [-0.4, -0.2], "beyond": True}
ANSWERS["/v1/monitors/credit/drift/attributions"] = {
    "endpoint": "credit", "version": 2, "attributions": "exact", "state": "alarmed", "why": None, "drifting": True,
    "since": "2026-01-01T00:00:00Z", "statistic": 21.0, "threshold": 16.8, "budget_rows": 1_000_000, "tolerance": 0.05,
    "method": "trees", "scale": "log-odds", "output": "probabilities[1]", "reference_rows": 400, "windows": 15,
    "rows": 240, "columns": [INFLUENCE], "alarms": [], "notes": [],
}  # fmt: skip
ANSWERS["/v1/monitors/plain/drift/attributions"] = ANSWERS["/v1/monitors/credit/drift/attributions"] | {
    "endpoint": "plain", "state": "waiting", "why": "no window of explained decisions is counted yet",
    "drifting": False, "since": None, "output": None, "rows": 0, "windows": 0,
    "columns": [INFLUENCE | {"now": None, "effect": None, "interval": None, "beyond": False}],
}  # fmt: skip
KEPT = {
    "inference_id": "i-1", "endpoint": "credit", "model": "credit", "version": 2, "variant": "canary", "mode": "rest",
    "entity": "customer-17", "received_at": "2026-01-01T00:00:00Z", "outcomes": [{"label": "repaid"}],
}  # fmt: skip
ANSWERS["/v1/decisions"] = {"items": [KEPT], "next": None}
ERASURE = {
    "id": "e-1", "state": "running", "problem": None, "decisions": 0, "left": 3,
    "elsewhere": [{"what": "records", "where": "topic inference.logged", "by": "2026-01-09T00:00:00Z", "how": "ends"}],
}  # fmt: skip
ANSWERS["/v1/erasures"] = ERASURE
ANSWERS["/v1/erasures/e-1"] = ERASURE | {"state": "done", "decisions": 3, "left": 0}
ANSWERS["/v1/explanations"] = {
    "id": "x-1", "inference_id": "i-1", "row": 0, "endpoint": "credit", "model": "credit", "version": 2,
    "decided": "granted", "method": "exact", "scale": "probability", "output": "scores[1]", "explained": "refused",
    "base": 0.2, "value": 0.3, "contributions": [{"column": "income", "value": 1, "contribution": 0.1, "error": None}],
    "counterfactual": None, "no_counterfactual": "no row is refused",
}  # fmt: skip
ANSWERS["/v1/retrainings/r-1"] = {"id": "r-1", "state": "candidate_won", "model": "credit"}


ASKED: list[tuple[str, str, dict[str, str], bytes]] = []
"""Method, path, query and body of what was asked."""


PAGES: dict[tuple[str, str | None], dict[str, Any]] = {}
"""Answers by path and cursor, while a test has some."""


async def answer(request: Request) -> Response:
    ASKED.append((request.method, request.url.path, dict(request.query_params), await request.body()))
    if request.headers.get("authorization") != "Bearer a-token":
        return JSONResponse({"detail": "the token is not valid"}, 401)
    if request.url.path.endswith("/decision"):
        return JSONResponse({"detail": "engineer asked for this and cannot grant it"}, 403)
    if request.url.path == "/v1/endpoints/away/rollback":
        return JSONResponse({"detail": "the deployer is away"}, 503)
    if (page := PAGES.get((request.url.path, request.query_params.get("cursor")))) is not None:
        return JSONResponse(page)
    return JSONResponse(ANSWERS[request.url.path])


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    methods = ["GET", "POST"]
    server = uvicorn.Server(
        uvicorn.Config(Starlette(routes=[Route("/{rest:path}", answer, methods=methods)]), port=0, log_config=None)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def run(url: str, *arguments: str, token: str = "a-token") -> Result:
    environment = {"FAIRLEAD_URL": url, "FAIRLEAD_TOKEN": token, "FAIRLEAD_HOME": "/nonexistent"}
    return CliRunner().invoke(app, list(arguments), env=environment)


def test_a_list_is_a_table_for_people_and_json_for_programs(url: str) -> None:
    table = run(url, "approvals")
    assert table.exit_code == 0
    assert "1/2 passed; failed: bias" in table.stdout
    assert json.loads(run(url, "approvals", "--json").stdout)["items"][0]["id"] == "a-1"


def model(number: int) -> dict[str, Any]:
    return {"model": f"model-{number}", "latest_version": 1, "state": "registered", "unit": "retail", "tags": []}


@pytest.fixture
def paged() -> Iterator[Callable[..., None]]:
    """Lets a path answer its items in pages of a size; the last one may lead on to where it is said."""

    def page(path: str, items: list[dict[str, Any]], size: int, after: str | None = None) -> None:
        starts = range(0, len(items), size)
        for at in starts:
            following = str(at + size) if at + size < len(items) else after
            PAGES[path, str(at) if at else None] = {"items": items[at : at + size], "next": following}

    yield page
    PAGES.clear()


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_list_is_walked_to_its_end_page_by_page(url: str, paged: Callable[..., None], size: int) -> None:
    paged("/v1/models", [model(n) for n in range(5)], size)
    asked = len(ASKED)
    shown = run(url, "models", "scoring", "--tag", "a")
    assert [n for n in range(6) if f"model-{n} " in shown.stdout] == [0, 1, 2, 3, 4] and shown.stderr == ""
    queries = [query for _, path, query, _ in ASKED[asked:] if path == "/v1/models"]
    assert [query.pop("cursor", None) for query in queries] == [None, *map(str, range(size, 5, size))]
    assert all(query == {"query": "scoring", "tag": "a"} for query in queries), "each page is of the same list"
    document = json.loads(run(url, "models", "--json").stdout)
    assert [each["model"] for each in document["items"]] == [f"model-{n}" for n in range(5)]
    assert document["next"] is None


def test_a_list_without_an_end_is_walked_to_a_thousand_and_says_that_it_is_not_all(
    url: str, paged: Callable[..., None]
) -> None:
    paged("/v1/approvals", [APPROVAL | {"id": f"a-{n}"} for n in range(1_200)], 100)
    shown = run(url, "approvals", "--json")
    document = json.loads(shown.stdout)
    assert (len(document["items"]), document["next"]) == (1_000, "1000"), "a program can go on"
    assert "not all, but 1000 of it" in shown.stderr


def test_a_list_that_leads_back_ends_with_an_error(url: str, paged: Callable[..., None]) -> None:
    paged("/v1/models", [model(n) for n in range(4)], 2, after="2")
    done = run(url, "models")
    assert done.exit_code == 1 and "leads back to its page '2'" in done.stderr


def test_one_page_of_a_list_with_a_limit_says_that_there_is_more(url: str, paged: Callable[..., None]) -> None:
    paged("/v1/decisions", [KEPT | {"inference_id": f"i-{n}"} for n in range(9)], 3)
    done = run(url, "decisions", "--limit", "3")
    assert "i-2" in done.stdout and "i-3" not in done.stdout and "not all, but 3 of it" in done.stderr
    PAGES.clear()
    assert run(url, "decisions").stderr == ""


def test_a_report_in_pages_says_how_to_go_on(url: str, paged: Callable[..., None]) -> None:
    PAGES["/v1/reports/history", None] = {"markdown": "# first", "next": "p-2"}
    PAGES["/v1/reports/history", "p-2"] = {"markdown": "# second", "next": None}
    first = run(url, "report", "history", "--model", "credit")
    assert "first" in first.stdout and "--filter cursor=p-2" in first.stderr
    second = run(url, "report", "history", "--model", "credit", "--filter", "cursor=p-2")
    assert "second" in second.stdout and second.stderr == ""


def test_why_not_another_decision_is_asked_and_told(url: str) -> None:
    shown = run(url, "explain", "i-1", "--decision", "refused").stdout
    assert json.loads(ASKED[-1][3])["decision"] == "refused"
    assert "what speaks for refused instead" in shown and "Contribution to scores[1]" in shown


def test_another_share_is_answered_with_who_has_which(url: str) -> None:
    shown = run(url, "weight", "credit", "0.2").stdout
    assert "80.00%" in shown and "20.00%" in shown
    assert "shadow" in shown and " 0.00%" not in shown


def test_topics_show_lag_and_size_and_keep_dead_letters_in_their_column(url: str) -> None:
    shown = run(url, "topics").stdout
    assert "12,345" in shown
    assert "2.0 KiB" in shown
    assert "dlq." not in shown


def test_service_shows_levels_budgets_and_what_is_not_known(url: str) -> None:
    shown = run(url, "service", "credit", "--span", "7d").stdout
    for told in ("credit v2", "321", "99.000%", "98.000%", "-1", "0.0125 CHF", "critical: too slow", "no scorer host"):
        assert told in shown, shown
    found = json.loads(run(url, "service", "credit", "--json").stdout)
    assert found["total"]["failed"] is None and found["window"]["from"] == "2026-01-01T00:00:00Z"


def test_a_dry_run_shows_both_settings_and_what_would_have_moved(url: str) -> None:
    shown = run(url, "dry-run", "credit", "--season", "86400").stdout
    assert "season none; 1 notes" in shown and "No alarm." in shown
    assert "season 86400 s" in shown and "income -0.4 sd" in shown and "250" in shown
    assert json.loads(run(url, "dry-run", "credit", "--tolerance", "0.2", "--json").stdout)["windows"] == 60


def test_business_rules_say_how_many_rows_broke_them_and_which_was_the_first(url: str) -> None:
    shown = run(url, "rules", "credit").stdout
    assert "3.000%" in shown and "27" in shown and "limit cannot be evaluated: x is [not] a column" in shown
    assert json.loads(run(url, "rules", "credit", "--json").stdout)["rules"][0]["examples"][0]["row"] == 3


def test_the_worst_slices_say_where_how_much_and_of_how_many(url: str) -> None:
    shown = run(url, "slices", "credit", "--version", "2").stdout
    assert "20 of 24 slices of product, region have enough rows, 2 are worse" in shown
    first = next(line for line in shown.splitlines() if "north" in line)
    assert "product 3 and region north" in first and "40.0%" in first and "30.0%" in first
    assert "segments" in run(url, "slices", "plain").stdout
    assert json.loads(run(url, "slices", "credit", "--json").stdout)["searches"][0]["looked_at"] == 20


def test_a_shadow_is_told_by_how_often_it_would_differ_where_and_who_was_right(url: str) -> None:
    shown = " ".join(run(url, "compare", "credit", "--limit", "3").stdout.split())
    assert "v3 challenger beside v2: 220 of 240 rows compared, 4 not answered by it, 10 not known" in shown
    assert "of 200 with an outcome it is better" in shown and "0.07 … 0.2" in shown
    assert "both 160, only v2 3, only v3 30, none 7" in shown and "region north: agreement 0.71" in shown
    assert "No shadow" in run(url, "compare", "plain").stdout
    assert json.loads(run(url, "compare", "credit", "--json").stdout)["comparisons"][0]["against"] == 2


def test_drift_within_groups_says_what_moved_in_which(url: str) -> None:
    shown = run(url, "drift", "credit", "--segments").stdout
    moved = next(line for line in shown.splitlines() if "income" in line)
    assert "product" in moved and "0.3 … 0.74" in moved and "yes" in moved
    assert "product other: fewer than 100 rows (7)" in shown
    assert json.loads(run(url, "drift", "credit", "--segments", "--json").stdout)["groups"][0]["group"] == "3"


def test_drift_of_attributions_says_whose_influence_moved_or_why_it_is_not_known(url: str) -> None:
    shown = run(url, "drift", "credit", "--attributions").stdout
    moved = next(line for line in shown.splitlines() if "income" in line)
    assert all(said in moved for said in ("66.0%", "35.0%", "-31.0%", "-40.0% … -20.0%", "yes")), moved
    assert "alarmed" in shown and "probabilities[1]" in shown
    shown = run(url, "drift", "plain", "--attributions").stdout
    assert "no window of explained decisions" in shown and "66.0%" in shown and "yes" not in shown
    assert json.loads(run(url, "drift", "credit", "--attributions", "--json").stdout)["columns"][0]["now"] == 0.35
    both = run(url, "drift", "credit", "--attributions", "--segments")
    assert both.exit_code == 2 and "not both" in both.output


def test_a_cancelled_batch_says_who_did_it(url: str) -> None:
    assert "cancelled by engineer" in run(url, "cancel-batch", "b-1").stdout


def test_an_empty_list_says_what_to_do(url: str) -> None:
    assert "fairlead register" in run(url, "models").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["approve", "a-1", "--reason", "mine"], 1, "cannot grant it"),
        (["approve", "a-1"], 2, "--reason"),
        (["nonsense"], 2, "nonsense"),
        (["dlq", "replay", "dlq.x", "--at", "one"], 2, "partition:offset"),
        (["schedules", "show", "s-1"], 0, "new/a.csv@1"),
        (["schedules", "pause", "s-1"], 0, "paused"),
        (["schedules", "add", "credit", "--arrives", "incoming"], 1, "connection/path"),
        (["batch", "credit", "--from", "incoming/a.csv", "--wait", "0"], 0, "b-1"),
        (["batch", "credit", "--from", "incoming/a.csv", "-v", "3", "--wait", "0"], 0, "b-1"),
        (["batch", "credit", __file__, "-v", "0"], 2, "--version"),
        (["batch", "credit"], 2, "--from"),
        (["slices", "credit", "-v", "0"], 2, "--version"),
        (["register", "/nonexistent.onnx"], 2, "nonexistent"),
        (["register", __file__, "--field", "label"], 2, "name=value"),
        (["register", __file__, "--field", "unit=retail"], 2, "option of its own"),
        (["report", "history", "--filter", "kind=x"], 2, "option of its own"),
        (["report", "history", "-f", "a=1", "-f", "a=2"], 2, "given twice"),
        (["deploy", "credit", "-u", "limits", "-m", "credit", "-v", "2", "--wait", "-1"], 2, "--wait"),
        (["follow", "deployment", "d-2", "--wait", "0.1"], 4, "fairlead follow deployment d-2"),
        (["follow", "deployment", "d-2", "--wait", "nan"], 2, "--wait"),
        (["follow", "deployment", "d-2", "--wait", "0"], 0, "waiting"),
        (["follow", "retraining", "r-1"], 0, "candidate_won"),
        (["follow", "nothing", "d-2"], 2, "deployment"),
        (["follow", "replay", "p-1"], 0, "81.25%"),
        (["replay", "credit", "-m", "credit", "-v", "2", "--wait", "5"], 0, "0.98"),
        (["replay", "credit", "-m", "credit", "-v", "2"], 0, "requested"),
        (["score", "page", "[[1]]"], 1, "does not speak"),
        (["score", "credit", "/dev/null"], 1, "not JSON"),
        (["approvals", "--state", "waiting"], 2, "all"),
        (["score", "credit", "/"], 2, "cannot read"),
        (["score", "credit", "{"], 1, "not JSON"),
        (["score", "credit", "/nonexistent.json"], 2, "cannot read"),
        (["rollback", "away"], 3, "deployer is away"),
        (["rollback", "credit", "--variant", "canary"], 0, "version 1"),
        (["promote", "credit"], 0, "moves on to credit version 1"),
        (["weight", "credit", "much"], 2, "share"),
        (["deploy", "credit", "-u", "l", "-m", "credit", "-v", "2", "--strategy", "half"], 2, "canary"),
        (["status"], 1, ""),
        (["deploy", "credit", "-u", "limits", "-m", "credit", "-v", "2"], 1, ""),
    ],
)
def test_exit_codes_tell_refused_from_wrong_use_from_away(
    url: str, arguments: list[str], code: int, sentence: str
) -> None:
    done = run(url, *arguments)
    assert done.exit_code == code, done.output
    assert sentence in done.output.replace("\n", " ")


def test_a_batch_that_takes_longer_than_the_wait_says_how_to_go_on(url: str) -> None:
    done = run(url, "batch", "credit", __file__, "--wait", "0.1", "--json")
    assert done.exit_code == 4
    assert json.loads(done.stdout)["id"] == "b-1", "a script needs the id to go on"
    assert "fairlead follow batch b-1" in done.stderr
    assert run(url, "batch", "credit", __file__, "--wait", "0").exit_code == 0


def test_a_decision_shows_what_was_decided_and_what_followed(url: str) -> None:
    shown = run(url, "decision", "i-1").stdout
    for told in ("granted", "0.75", "income", "repaid", "bank"):
        assert told in shown


def test_decisions_are_listed_by_what_is_asked_for(url: str) -> None:
    shown = run(url, "decisions", "--entity", "customer-17", "--outcome", "known", "--limit", "7", "-v", "2")
    assert shown.exit_code == 0, shown.output
    assert ASKED[-1][:3] == (
        "GET", "/v1/decisions", {"entity": "customer-17", "outcome": "known", "limit": "7", "version": "2"}
    )  # fmt: skip
    for told in ("i-1", "credit v2", "canary", "repaid"):
        assert told in shown.stdout
    assert json.loads(run(url, "decisions", "--json").stdout)["items"][0]["entity"] == "customer-17"
    assert run(url, "decisions", "--limit", "0").exit_code == 2
    assert run(url, "decisions", token="another").exit_code == 1


def test_an_entity_is_erased_and_what_lies_elsewhere_is_told(url: str) -> None:
    shown = run(url, "erase", "customer-17", "--reason", "article 17", "--use-case", "limits")
    assert shown.exit_code == 0, shown.output
    (asked,) = [json.loads(body) for method, path, _, body in ASKED if (method, path) == ("POST", "/v1/erasures")]
    assert asked == {"entity": "customer-17", "reason": "article 17", "use_case": "limits"}
    assert "done" in shown.stdout and "inference.logged" in shown.stdout
    assert "customer-17" not in shown.stdout
    at_once = json.loads(run(url, "erase", "customer-17", "--reason", "x", "--wait", "0", "--json").stdout)
    assert (at_once["state"], at_once["left"]) == ("running", 3)
    assert run(url, "erase", "customer-17").exit_code == 2, "a reason is needed"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("inference_id,row,label\ni-1,0,1\ni-2,x,1\n", "row 2, column row"),
        ("inference_id,row,label\ni-1,-1,1\n", "row 1, column row"),
        ("inference_id,row,value\ni-1,0,much\n", "row 1, column value"),
        ("inference_id,row,value\ni-1,0,nan\n", "row 1, column value"),
        ("inference_id,row,label\n,0,1\n", "row 1, column inference_id"),
        ("id,label\ni-1,1\n", "row 1, column inference_id"),
        ("inference_id,row,label,value\ni-1,0,,\n", "row 1, column label"),
        ("inference_id,row,label\ni-1,0\n", "row 1, column label"),
        ("inference_id,row,label\ni-1,0,1,2\n", "more cells"),
        (b"inference_id,label\n\xff\xfe,1\n", "not CSV in UTF-8"),
        ('inference_id,label\n"i-1,1\n', "not CSV"),
    ],
)
def test_a_wrong_outcome_is_named_by_row_and_column(
    url: str, tmp_path: Path, content: str | bytes, sentence: str
) -> None:
    path = tmp_path / "outcomes.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = run(url, "outcomes", str(path))
    assert done.exit_code == 1, done.output
    assert sentence in done.stderr


def test_outcomes_from_a_spreadsheet_are_taken_with_its_byte_order_mark(url: str, tmp_path: Path) -> None:
    path = tmp_path / "outcomes.csv"
    path.write_bytes(b"\xef\xbb\xbfinference_id,row,label\r\ni-1,0,1\r\n")
    assert run(url, "outcomes", str(path)).exit_code == 0


@pytest.mark.parametrize("token", ["two words", "tok€n", "line\nbreak"])
def test_what_is_no_token_is_wrong_use(url: str, token: str) -> None:
    done = run(url, "models", token=token)
    assert done.exit_code == 2
    assert "holds no token" in done.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "nonsense", "http://", "ftp://x"])
def test_what_is_no_address_is_wrong_use(address: str) -> None:
    done = run(address, "models")
    assert done.exit_code == 2
    assert "not the address of a platform" in done.stderr


def test_a_platform_that_does_not_answer_is_exit_code_3() -> None:
    done = run("http://127.0.0.1:9", "models")
    assert done.exit_code == 3
    assert "http://127.0.0.1:9" in done.stderr


def test_a_bad_token_is_refused(url: str) -> None:
    assert run(url, "models", token="wrong").exit_code == 1


def test_status_says_why_a_service_is_not_ready(url: str) -> None:
    assert "Kafka is away" in run(url, "status").stdout


def test_a_replay_tells_how_many(url: str) -> None:
    assert "Replayed 2" in run(url, "dlq", "replay", "dlq.x", "--at", "0:7").stdout


def test_an_altered_ledger_fails_the_offline_verification(tmp_path: Path, url: str) -> None:
    (tmp_path / "keys").mkdir()
    key = Ed25519PrivateKey.generate().public_key()
    (tmp_path / "keys" / "governor-1.pem").write_bytes(
        key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    record = {"position": 1, "hash": "sha256:" + "0" * 64, "record": json.dumps({"service": "catalog", "number": 1})}
    (tmp_path / "records.jsonl").write_text(json.dumps(record) + "\n")
    (tmp_path / "checkpoints.jsonl").write_text("")
    files = ["--records", str(tmp_path / "records.jsonl"), "--checkpoints", str(tmp_path / "checkpoints.jsonl")]
    done = run(url, "audit", "verify", *files, "--keys", str(tmp_path / "keys"))
    assert done.exit_code == 1
    assert "from record 1" in done.stdout
    assert run(url, "audit", "verify", "--records", files[1], "--keys", str(tmp_path / "keys")).exit_code == 2
