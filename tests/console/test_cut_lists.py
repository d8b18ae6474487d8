"""Lists that are longer than what a page shows of them say so, and short ones do not."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from services.console.gateway import Answer
from services.console.pages.shell import Shell

AT = "2026-03-02T09:00:00Z"
ENDPOINT = {"endpoint": "credit", "unit": "retail", "state": "serving", "model": "credit", "version": 1,
            "use_case": "limits", "revision": 1, "changed_at": AT}  # fmt: skip
APPROVAL = {"id": "a-1", "model": "credit", "version": 1, "endpoint": "credit", "state": "granted", "gates": [],
            "decided_at": AT, "requested_at": AT, "requested_by": "admin"}  # fmt: skip
ALERT = {"id": "a-1", "severity": "critical", "title": "Drift", "subject": "credit", "detail": "", "todo": "Look.",
         "state": "resolved", "raised_at": AT}  # fmt: skip
FEATURE = {"name": "income", "effect": 0.5, "interval": [0.4, 0.6], "tolerance": 0.1, "unit": "sd"}
DRIFT = {"time": AT, "data": {"endpoint": "credit", "model": "credit", "version": 1, "since": AT, "statistic": 20.0,
                              "budget_rows": 1_000_000, "features": [FEATURE] * 10}}  # fmt: skip
SILENCE = {"kind": "drift", "endpoint": "credit"}
NONE = Answer({"items": []})


def page(template: str, **context: Any) -> str:
    """As text, without its tags."""
    nobody: Any = SimpleNamespace(address=str)
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": []})
    made = Shell(nobody, nobody, nobody, nobody).page(request, template, **context)
    text = re.sub(r"<[^>]*>", " ", bytes(made.body).decode())
    return re.sub(r"\s+", " ", text.replace("\u202f", " ")).replace(" ,", ",").replace(" :", ":")


def listed(item: dict[str, Any], many: int, more: bool) -> Answer:
    return Answer({"items": [item] * many, "next": "cursor" if more else None})


@pytest.mark.parametrize("more", [False, True])
def test_endpoints_deployments_approvals_and_alerts_say_that_there_are_more(more: bool) -> None:
    drift = {"credit": Answer({"drifting": False})}
    endpoints, deployments = listed(ENDPOINT, 3, more), listed(APPROVAL, 2, more)
    told = page("endpoint_list.html", endpoints=endpoints, deployments=deployments, drift=drift)
    assert ("more than these 3 by name" in told, "more than these 2, the last asked for" in told) == (more, more)
    told = page("approval_list.html", pending=listed(APPROVAL, 5, more), decided=[APPROVAL], earlier=deployments)
    assert ("more than these 5 that wait" in told, "Of the newest 2 requests" in told) == (more, more)
    alerts, messages = listed(ALERT, 4, more), listed({}, 7, more)
    told = page("alert_list.html", alerts=alerts, messages=messages, silences=NONE, told={},
                drifts=Answer([DRIFT] * (30 if more else 29)), most=30)  # fmt: skip
    assert ("more than these 4, the newest" in told, "of the newest 7 messages" in told) == (more, more)
    assert ("with their evidence, the newest 30" in told) is more and "and 2 more" in told


def test_more_silences_than_are_named_are_counted() -> None:
    silences = listed(SILENCE, 7, False)
    told = page("alert_list.html", alerts=NONE, messages=NONE, silences=silences, drifts=Answer([]), most=30)
    assert "7 silences hold now" in told and "and 2 more" in told


@pytest.mark.parametrize("many", [6, 9])
def test_the_overview_says_how_much_more_needs_attention(many: int) -> None:
    alerts, approvals = listed(ALERT, many, True), listed(APPROVAL, many, False)
    context = dict.fromkeys(("models", "endpoints", "retrainings", "topics"), NONE)
    context |= dict.fromkeys(("letters", "lag"), Answer(0))
    told = page("overview_live.html", **context, alerts=alerts, fresh=alerts.items, approvals=approvals, topic={},
                services=[], away=[], serving=[], unseen=[])  # fmt: skip
    assert ("and 3+ more alerts" in told, "and 3 more approvals" in told) == (many > 6, many > 6)


@pytest.mark.parametrize("many", [12, 13])
def test_groups_beyond_the_dozen_that_moved_most_are_said(many: int) -> None:
    group = {"segment": "region", "group": "north", "rows": 500}
    moved = [(group, {"name": "income", "effect": 0.5, "interval": [0.3, 0.7]})] * many
    told = page("endpoint_groups.html", told=Answer({"confidence": 0.99, "windows": 60}), moved=moved, name="credit")
    assert told.count("income") == 12 and ("more moved than these" in told) is (many > 12)


@pytest.mark.parametrize("many", [16, 20])
def test_columns_beyond_those_shown_are_counted(many: int) -> None:
    found = Answer({"model": "credit", "version": 1, "state": "serving", "monitor": {}, "variants": [], "replicas": []})
    drift = Answer({"features": [FEATURE] * many, "statistic": 1.0, "threshold": 2.0, "budget_rows": 1_000})
    told = page("endpoint_live.html", found=found, drift=drift, latest={}, deployments=NONE, name="credit")
    assert ("The first 16 of 20 features." in told) is (many > 16)
