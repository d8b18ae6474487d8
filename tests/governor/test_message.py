"""What people read of an alert: what changed, since when, how much, where, at what cost, and what to do."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import FeatureEvidence, PerformanceEvidence
from services.governor.domain import evidence, message
from services.governor.domain.message import Told
from tests.governor.builders import NOW, drift, some_id

CONSOLE = "https://fairlead.example"
TOLD = Told(
    alert_id=some_id(1), episode=1, unit="retail", subject="credit-live", kind="drift", severity="warning",
    title="credit version 1 sees other data than it learned from", detail="all of it", todo="Look at the drift chart",
    times=1, raised_at=NOW + timedelta(minutes=5), use_case="lending", since=NOW, how_much="AGEP by +0.70 sd",
    segment="SEX = 2", cost="about 1,200 EUR a day",
)  # fmt: skip


def test_a_message_says_what_since_when_how_much_where_at_what_cost_and_what_to_do() -> None:
    assert message.text([TOLD], CONSOLE) == (
        "credit-live (drift, warning, firing)\n"
        "What changed: credit version 1 sees other data than it learned from\n"
        "Since: 2026-03-01 12:00:00 UTC, seen 2026-03-01 12:05:00 UTC\n"
        "How much: AGEP by +0.70 sd\n"
        "Segment: SEX = 2\n"
        "Costs: about 1,200 EUR a day\n"
        "More: all of it\n"
        "What to do: Look at the drift chart\n"
        "Look here: https://fairlead.example/endpoints/credit-live\n"
    )


def test_what_is_not_known_is_not_said() -> None:
    bare = replace(TOLD, since=None, how_much=None, segment=None, cost=None, use_case=None)
    assert message.text([bare], CONSOLE) == (
        "credit-live (drift, warning, firing)\n"
        "What changed: credit version 1 sees other data than it learned from\n"
        "Since: 2026-03-01 12:05:00 UTC\n"
        "How much: all of it\n"
        "What to do: Look at the drift chart\n"
        "Look here: https://fairlead.example/alerts\n"
    )


def test_a_resolution_says_how_it_ended_and_not_what_to_do() -> None:
    over = replace(TOLD, resolved_at=NOW + timedelta(hours=1), resolution="version 2 serves", owner="engineer")
    said = message.text([over], CONSOLE)
    assert "Over: 2026-03-01 13:00:00 UTC: version 2 serves\n" in said
    assert "Taken by: engineer\n" in said and "What to do" not in said
    assert message.title([over]).startswith("[resolved] credit-live: ")


def test_the_title_is_one_line_whatever_an_alert_says() -> None:
    assert message.title([replace(TOLD, title="It answers\r\nslowly")]) == "[warning] credit-live: It answers slowly"


def test_the_title_names_the_worst_that_is_still_open() -> None:
    over = replace(TOLD, severity="critical", title="over", resolved_at=NOW, resolution="x")
    critical, late = replace(TOLD, severity="critical", title="critical"), replace(TOLD, title="late", step=1)
    assert message.title([TOLD, over, critical]) == "[critical] credit-live: critical (and 2 more)"
    assert message.title([over, late]) == "[still open, warning] credit-live: late (and 1 more)"


@given(st.text(), st.text(), st.sampled_from(["webhook", "alertmanager", "email"]))
def test_every_body_is_json_that_holds_each_alert_whatever_it_says(title: str, detail: str, kind: Any) -> None:
    told = [replace(TOLD, title=title, detail=detail), replace(TOLD, alert_id=some_id(2), how_much=None)]
    said = orjson.loads(message.body(kind, some_id(9), told, CONSOLE, NOW))
    holding = {"webhook": lambda: said["text"], "email": lambda: said["text"],
               "alertmanager": lambda: "\n".join(each["annotations"]["description"] for each in said)}  # fmt: skip
    assert holding[kind]().count("What to do: Look at the drift chart") >= 2


def test_a_drift_names_what_moved_most_first_with_its_interval() -> None:
    features = [
        FeatureEvidence(name=f"x{number}", effect=effect, interval=(effect - 0.1, effect + 0.1), tolerance=0.1)
        for number, effect in enumerate((0.2, -0.9, 0.3, 0.4, 0.5, 0.6))
    ]
    said = evidence.moved(features)
    assert said.startswith("x1 by -0.90 sd (-1.00 to -0.80, tolerance 0.1), x5 by +0.60 sd")
    assert said.endswith(", and 1 more") and "x0" not in said
    assert evidence.moved([]) == "no single column"
    event = drift()
    assert evidence.seen(event.window, event.statistic, event.budget_rows) == (
        "seen in a window of 500 rows; log evidence 20.0, at a budget of one false alarm in 1,000,000 rows"
    )


def test_a_drift_says_what_of_a_column_moved() -> None:
    gone = FeatureEvidence(
        name="income", effect=0.31, interval=(0.25, 0.4), tolerance=0.1, unit="psi", measure="missing", before=0.002,
        now=0.09,
    )  # fmt: skip
    assert evidence.moved([gone]) == "income: missing 0.2 % → 9 %, psi 0.31 (+0.25 to +0.40, tolerance 0.1)"
    wider = gone.model_copy(update={"measure": "spread", "unit": "sd", "before": None, "now": None})
    assert evidence.moved([wider]).startswith("income: spread +0.31 sd (")


def test_worse_decisions_are_told_with_what_they_were() -> None:
    found = PerformanceEvidence(metric="error rate", before=0.17, now=0.31, interval=(0.28, 0.34), labelled=900)
    assert evidence.worse(found) == "error rate 0.31 (0.28 to 0.34, 900 labelled rows) instead of 0.17"


@pytest.mark.parametrize("kind", ["alertmanager", "webhook"])
def test_moments_are_told_with_their_zone(kind: Any) -> None:
    said = message.body(kind, some_id(9), [TOLD], CONSOLE, NOW).decode()
    assert "2026-03-01T12:05:00+00:00" in said


def test_what_a_worse_model_costs_is_told_where_a_value_matrix_says_so() -> None:
    worse = PerformanceEvidence(metric="error rate", before=0.1, now=0.3, interval=(0.2, 0.4), labelled=500)
    assert evidence.cost(worse) is None
    priced = worse.model_copy(update={"cost_per_1000": 1_400.0})
    assert evidence.cost(priced) == "1,400.00 in 1,000 decisions, by the value matrix"
    asked = priced.model_copy(update={"rows_a_day": 20_000.0})
    assert evidence.cost(asked) == f"{evidence.cost(priced)}: 28,000.00 a day at 20,000 decisions"
