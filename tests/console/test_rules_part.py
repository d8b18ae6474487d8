"""The part of an endpoint's page about its business rules: the monitor's own answers as HTML."""

import re
from datetime import UTC, datetime
from html import unescape
from types import SimpleNamespace
from typing import Any

from starlette.requests import Request

from contracts import MonitorSettings, Rule
from services.console.gateway import Answer
from services.console.pages.shell import Shell
from services.monitor.api.rules import RulesView
from services.monitor.domain.rules import Evidence, Keeping, Tally
from services.monitor.store.rules import Span
from services.monitor.usecases.rules import Kept, Ruled

AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC).timestamp()


def shown(told: Answer) -> str:
    """As text, without its tags."""
    nobody: Any = SimpleNamespace(address=str)
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": []})
    made = Shell(nobody, nobody, nobody, nobody).page(request, "endpoint_rules.html", told=told, name="credit")
    text = re.sub(r"<[^>]*>", " ", bytes(made.body).decode())
    return re.sub(r"\s+", " ", unescape(text).replace("\u202f", " ")).strip()


def page(*kept: Kept) -> str:
    endpoint: Any = SimpleNamespace(endpoint="credit", settings=MonitorSettings())
    span = Span(1, 1_200, datetime.fromtimestamp(AT, UTC), datetime.fromtimestamp(AT + 10, UTC))
    return shown(Answer(RulesView.of(Ruled(endpoint, span, kept)).model_dump(mode="json")))


def test_the_page_shows_which_rule_is_broken_by_what_decision_and_what_was_not_looked_at() -> None:
    rule = Rule(must="amount <= 5.0", severity="critical")
    tally = Tally.of(1_000, 20, 30, [Evidence(AT, "0192-aa", 4)])
    state = Keeping(rule.must, 0.0, why="broken", since_s=AT, seen=tally)
    limit = Kept("limit", rule, tally, state, by_row=True, why=None)
    text = page(limit, Kept("age", Rule(must="x"), Tally(), None, by_row=False, why="x is no column"))
    assert (
        "limit amount <= 5.0 critical since" in text
        and "20 2.06 %" in text
        and "200 were not: it goes row by row" in text
        and "0192-aa row 4" in text
    )
    assert "age x Cannot be evaluated: x is no column not known" in text


def test_there_is_nothing_where_no_rule_is_set_and_a_word_where_the_monitor_is_away() -> None:
    assert page() == "" and shown(Answer(problem="it is away", status=503))
