"""The part of an endpoint's page about what its decisions rest on: the monitor's own answers as HTML."""

import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request

from contracts import DriftDetected, InfluenceEvidence, MonitorSettings, Window
from services.console.gateway import Answer
from services.console.pages.shell import Shell
from services.governor.domain import evidence
from services.kit.ids import uuid7
from services.monitor.api.influences import AttributionsView
from services.monitor.domain.effects import effects
from services.monitor.domain.influence import Influence
from services.monitor.store import FindingRow
from services.monitor.store.influences import Known
from services.monitor.usecases.influences import Column, Influences, State

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
ENDPOINT: Any = SimpleNamespace(endpoint="credit", version=2, settings=MonitorSettings(), budget_rows=1_000_000)


def shown(told: Answer) -> str:
    """As text, without its tags."""
    nobody: Any = SimpleNamespace(address=str)
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": []})
    made = Shell(nobody, nobody, nobody, nobody).page(request, "endpoint_influence.html", told=told, name="credit")
    text = re.sub(r"<[^>]*>", " ", bytes(made.body).decode())
    return re.sub(r"\s+", " ", text.replace("\u202f", " "))


def page(state: State, why: str | None = None, findings: list[FindingRow] | None = None) -> str:
    random = np.random.default_rng(0)
    influence = Influence.of(("income", "age"), random.normal(size=(400, 2)) * (2.0, 1.0))
    assert influence is not None
    counts = influence.block(random.normal(size=(300, 2)) * (1.0, 1.0), 0.0).counts
    found = [Column(e.track.name, 0.5, e) for e in effects(influence.reference, counts)]
    known = Known({"method": "trees", "scale": "log-odds", "output": "probabilities[1]"}, influence, NOW)
    told = Influences(ENDPOINT, None, findings or [], state, why, known, found, 300, 15)
    return shown(Answer(AttributionsView.of(told).model_dump(mode="json", by_alias=True)))


def alarm() -> FindingRow:
    effect = evidence.FeatureEvidence(
        name="influence of income", effect=-0.31, interval=(-0.4, -0.2), tolerance=0.05, unit="share"
    )
    event = DriftDetected(
        endpoint="credit", use_case="limits", model="credit", version=2,
        window=Window(**{"from": NOW, "to": NOW + timedelta(seconds=10)}, rows=20), since=NOW, detector="e-detector",
        statistic=21.0, budget_rows=1_000_000, rows_watched=240, features=(effect,), retrain=True,
        attributions=(InfluenceEvidence(column="income", before=0.66, now=0.35),),
    )  # fmt: skip
    return FindingRow(uuid7(), "alarm", NOW, event, None, None)


def test_the_page_shows_each_columns_influence_and_the_alarm() -> None:
    text = page("alarmed", findings=[alarm()])
    assert "What decisions rest on changed" in text and "probabilities[1]" in text
    assert re.search(r"income 50\.0 % 1\d\.\d % −3\d\.\d % beyond", text), text
    assert "income 66.0 % before, 35.0 % since" in text and "of 240 explained decisions" in text
    quiet = page("watching")
    assert "as usual" in quiet and "explained decisions of the last 15 windows" in quiet


@pytest.mark.parametrize(("state", "said"), [("off", "Not watched"), ("impossible", "Cannot be watched")])
def test_the_page_says_plainly_why_nothing_is_watched(state: State, said: str) -> None:
    assert f"{said}: column age is sensitive." in page(state, "column age is sensitive")
    assert shown(Answer(problem="it is away", status=503)).strip()


def test_the_alert_names_who_grew_or_shrank_and_by_how_much() -> None:
    drift = alarm().event
    told = evidence.rests_on(drift.attributions or (), drift.features)
    assert told == (
        "income shrank from 66.0% to 35.0% of all influence (-40.0% to -20.0%, tolerance 5.0%)"
    )  # fmt: skip
