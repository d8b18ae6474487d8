"""An endpoint's service level, performance and fairness as pages: what the monitor answers, made by its own code."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from services.console import views
from services.console.gateway import Answer
from services.console.pages import endpoints, figures
from services.console.pages.shell import Shell
from services.monitor.api.performance import AttributeView, FairnessView, PerformanceView
from services.monitor.api.service import ServiceView
from services.monitor.api.slices import SearchView, SlicesView
from services.monitor.domain.latency import LatencyCounts
from services.monitor.domain.outcomes.estimate import Estimate
from services.monitor.domain.outcomes.fairness import fairness as measures_of
from services.monitor.domain.outcomes.labelled import Labelled, Task
from services.monitor.domain.outcomes.performance import Statistic, classes_of
from services.monitor.domain.outcomes.performance import performance as statistics_of
from services.monitor.domain.outcomes.slices import Losses, worst
from services.monitor.domain.outcomes.tally import Groups, Tally, add_to_groups
from services.monitor.domain.service.costs import Prices, Used
from services.monitor.domain.service.figures import Seen
from services.monitor.domain.service.figures import figures as told_of
from services.monitor.domain.service.objectives import Promise
from services.monitor.domain.service.slots import Counts
from services.monitor.domain.service.spans import Span
from services.monitor.usecases.outcomes import Attribute, Figures, Performance
from services.monitor.usecases.serving import Service
from services.monitor.usecases.slicing import Sought

from .conftest import Client, Peer

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
DAY = Span(NOW - timedelta(days=1), NOW)
ENDPOINT: Any = SimpleNamespace(
    endpoint="credit", use_case="limits", budget_rows=1_000_000, settings=SimpleNamespace(outcome_window_s=3600.0)
)
PROMISE = Promise(50.0, 0.999)


def shown(page: str, told: Answer, **context: Any) -> str:
    """The part of a page as text, without its tags."""
    nobody: Any = SimpleNamespace(address=str)
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": []})
    shell = Shell(nobody, nobody, nobody, nobody)
    name = f"endpoint_{page}.html" if page == "groups" else f"endpoint_{page}_part.html"
    made = shell.page(request, name, told=told, name="credit", **context)
    text = re.sub(r"<[^>]*>", " ", bytes(made.body).decode())
    return re.sub(r"\s+", " ", text.replace("\u202f", " "))


async def test_a_page_stands_while_the_monitor_is_away_and_says_so(as_: Client, home: Path, deployer: Peer) -> None:
    token = (home / "tokens" / "engineer.jwt").read_text()
    deployer.endpoints = {"credit": token}
    browser = as_("")
    await browser.post("/login", data={"token": token})
    for page in ("service?span=7d", "performance", "fairness"):
        for headers in ({}, {"hx-request": "true"}):
            answer = await browser.get(f"/endpoints/credit/{page}", headers=headers)
            assert answer.status_code == 200
            assert "The monitor does not answer at the moment." in answer.text
            assert ('aria-label="About this endpoint"' in answer.text) == (not headers)
        assert (await browser.get(f"/endpoints/none-of-yours/{page}")).status_code == 404
    series = (await browser.get("/endpoints/credit/performance/series")).json()
    assert series == {"problem": "The monitor does not answer at the moment.", "windows": []}


# Service level


def seen(answers: int, slow: int = 0, used: Used | None = None) -> Seen:
    """So many answers in 10 ms, but so many of them in 80."""
    latency = LatencyCounts.of([80.0] * slow + [10.0] * (answers - slow))
    return Seen({"rest": Counts(answers, answers, latency)}, DAY.start, used or Used())


def service(one: Seen, promise: Promise | None = PROMISE, prices: Prices | None = None) -> str:
    found = told_of(one, DAY, promise, prices)
    view = ServiceView.of(Service(ENDPOINT, DAY, promise, prices, found, {("credit", 3): found}, found, {}))
    return shown("service", Answer(view.model_dump(mode="json", by_alias=True)))


def test_a_service_level_tells_what_is_promised_kept_and_left() -> None:
    page = service(seen(1000, slow=4, used=Used(1, 1000, refused=7, faults=3)))
    assert "99 % of requests within 50 ms" in page
    assert "99.60 % of requests" in page and "4 of 10.00 bad requests spent, 6.000 left" in page
    assert "Burn rate 0.400 lasts for its time" in page
    assert "99.90 % of requests answered" in page and "3 of 1.003 bad requests spent, −1.997 left" in page
    assert "2.991 spends it before its time" in page
    assert page.count("kept") == 1 and page.count("broken") == 1
    assert "Refused 4 their callers" in page and "Failed 3 were right" in page


def test_what_nobody_measured_is_a_dash_with_its_reason_and_never_a_zero() -> None:
    page = service(seen(5))
    assert "Failed – no scorer host has reported usage in this span" in page
    assert "Availability – no scorer host has reported usage in this span" in page
    assert "Cost of 1 000 inferences – no prices are set" in page
    assert "Promise of availability not known – no scorer host has reported usage in this span" in page
    assert "Failed 0" not in page
    page = service(seen(0, used=Used(1)), promise=None)
    assert "Latency p99 – nobody waited for an answer" in page
    assert page.count("– the use case&#39;s service level has not been heard of") == 2


def test_a_promise_of_everything_has_no_burn_rate() -> None:
    page = service(seen(10, used=Used(1, 10, refused=1, faults=1)), promise=Promise(50.0, 1.0))
    assert "– all requests are promised, and 1 was bad" in page


def test_costs_are_told_by_version_at_the_prices_of_the_installation() -> None:
    page = service(seen(4, used=Used(1, 4, model_cpu_s=2.0)), prices=Prices("EUR", 0.01, None))
    assert "Cost of 1 000 inferences 5.000 EUR" in page
    assert page.endswith("5.000 EUR ")
    page = service(seen(0, used=Used(1)), prices=Prices("EUR", 0.01, None))
    assert "Cost of 1 000 inferences – no inference was made" in page


# Performance and fairness


def tallied(rows: Mapping[tuple[str, str, str], int]) -> tuple[Tally, Groups]:
    """Counts of so many rows by decision, truth and group."""
    tally, groups = Tally(), Groups()
    for (prediction, label, group), count in rows.items():
        for _ in range(count):
            tally.add(add_to_groups(groups, Labelled(prediction, label, None, None, {}, {"SEX": group})))
    return tally, groups


def variant(version: int, tally: Tally, start: datetime, decided: int | None) -> Figures:
    found = statistics_of(tally, "binary", classes_of(tally))
    return Figures(version, "champion", "binary", start, start + timedelta(hours=1), decided, tally.rows,
                   tally.labelled, found, {})  # fmt: skip


def performance(**context: Any) -> tuple[str, dict[str, Any]]:
    calm, _ = tallied({("1", "1", "F"): 90, ("0", "1", "F"): 10})
    few, _ = tallied({("1", "1", "F"): 3})
    known = [variant(2, few, NOW, None), variant(1, calm, NOW - timedelta(hours=1), 200)]
    view = PerformanceView.of(Performance(ENDPOINT, known, known, [], 2.0, ["SEX"]))
    told = view.model_dump(mode="json", by_alias=True)
    facts = {"figure": "accuracy", "pick": figures.pick, "rows": figures.compared(told["overall"]),
             "groups": figures.by_group(told["overall"]),
             "segments": told["segments"], "sliced": Answer({"searches": []}),
             "settings": Answer({"settings": {"expected_error": None}})}  # fmt: skip
    return shown("performance", Answer(told), **(facts | context)), told


def test_figures_stand_with_their_intervals_the_rows_behind_them_or_the_reason_why_not() -> None:
    page, _ = performance()
    interval = re.search(r"Accuracy .*?0\.900 (0\.\d{3} to 0\.\d{3}) 100 rows", page)
    assert interval, page
    assert "100 50.0 % of 200 decided" in page
    assert "3 those decided are not known" in page
    assert "Recall of 0 – no such rows – no such rows" in page
    assert f"2026-03-02 08:30:00 v1 champion 0.900 {interval[1]} – 100 50.0 %" in page
    assert "Expected without labels" not in page
    assert "not worse" in page and "to err no more than before" in page and "Evidence 2.0 of 15.4: no alarm" in page


def test_what_is_expected_of_decisions_without_a_label_stands_beside_what_was_measured() -> None:
    estimate = Estimate(5_000, 1_200, True, [Statistic("accuracy", None, 0.814, (0.78, 0.85), 5_000)])
    early = replace(estimate, learned=3, calibrated=False)
    waiting = replace(variant(2, Tally(), NOW, 5_000), statistics=[], estimated=early)
    known = [waiting, replace(variant(1, tallied({("1", "1", "F"): 90})[0], NOW, None), estimated=estimate)]
    told = PerformanceView.of(Performance(ENDPOINT, known, known, [], 0.0, [])).model_dump(mode="json", by_alias=True)
    assert figures.headlines([told["overall"][0]]) == ["accuracy"]
    expected = figures.compared([each["estimated"] for each in told["overall"]])
    page = shown(
        "performance", Answer(told), figure="accuracy", pick=figures.pick, rows=figures.compared(told["overall"]),
        groups=[], settings=Answer({"settings": {"expected_error": None}}), expected=expected,
    )  # fmt: skip
    assert "Learned from 3 labelled rows are too few: scores at their word 1 200 labelled rows" in page
    assert "Accuracy 0.814 0.780 to 0.850 5 000 rows 0.814" in page
    assert re.search(r"v2 champion – – no row with a label 0\.814 0\.780 to 0\.850 0", page), page


def test_a_figure_stands_by_group_of_the_attribute_that_is_chosen() -> None:
    page, _ = performance(by="")
    assert "Accuracy by group" in page and "Choose a segment." in page
    page, _ = performance(by="SEX")
    assert "No outcome of a decision that names its SEX yet." in page
    told = {"version": 1, "variant": "champion", "statistics": [], "labelled": 0, "groups": [
        {"group": "F", "labelled": 40, "statistics": [
            {"name": "accuracy", "of": None, "value": 0.75, "interval": [0.5, 0.9], "rows": 40, "why": None}]},
        {"group": "M", "labelled": 0, "statistics": []},
    ]}  # fmt: skip
    page, _ = performance(by="SEX", groups=figures.by_group([told, told | {"groups": []}]))
    assert re.search(r"F 0\.750 0\.500 to 0\.900 40 rows – not told of this version", page), page
    assert "M – not told of this version – not told of this version" in page


def sought(task: Task, factor: float = 1.0) -> Answer:
    """4,000 rows, a tenth of them in a slice that is worse, as the monitor tells it."""
    losses = Losses()
    for place in range(4_000):
        bad = place % 10 == 0
        wrong = place % 20 == 0 if bad else place % 20 == 1
        groups = {"SEX": "F" if bad else "M"}
        decided: Any = "1" if task == "binary" else factor * wrong
        label: Any = "0" if wrong else "1"
        row = Labelled(decided, label if task == "binary" else 0.0, segments=groups, paired=groups)
        losses.add(row)
    worse, looked_at = worst(losses, task, 2)
    found = Sought(
        2, "champion", task, NOW, NOW + timedelta(days=1), 4_000, losses.whole.mean, ["SEX"], 2, looked_at, worse
    )
    view = SlicesView(endpoint="credit", confidence=0.99, searches=[SearchView.of(found, 12)])
    return Answer(view.model_dump(mode="json", by_alias=True))


def test_the_worst_slices_stand_in_words_with_how_much_worse_they_are() -> None:
    page, _ = performance(sliced=sought("binary"))
    assert "10.0 % of the decisions are wrong, of 4 000 rows. 1 of 2 slices is surely worse than the rest." in page
    assert re.search(r"Wrong decisions too many 1 SEX F 400 50.0 % 5.6 % 44.4 % [\d.]+ % to [\d.]+ % 178", page), page
    page, _ = performance(sliced=sought("regression", 7.0))
    assert "0.700 is the mean error" in page and "Mean absolute error here" in page
    page, _ = performance(sliced=Answer({}, 503, "The monitor does not answer at the moment."))
    assert "Where it is worst" in page and "This part cannot be shown." in page
    page, _ = performance()
    assert "No outcome is counted by group yet" in page
    page, _ = performance(segments=[])
    assert "Where it is worst" not in page


def test_what_moved_within_groups_stands_with_its_group_the_surest_first() -> None:
    def column(name: str, low: float) -> dict[str, Any]:
        return {"name": name, "effect": low + 0.2, "interval": [low, low + 0.4], "beyond": low > 0.1}

    told = {"windows": 60, "rows": 900, "tolerance": 0.1, "confidence": 0.99, "groups": [
        {"segment": "region", "group": "north", "rows": 500, "columns": [column("income", 0.3), column("age", 0.05)]},
        {"segment": "region", "group": "south", "rows": 400, "columns": [column("age", 0.5)]},
    ]}  # fmt: skip
    moved = endpoints.moved_in_groups(told)
    assert [(group["group"], each["name"]) for group, each in moved] == [("south", "age"), ("north", "income")]
    page = shown("groups", Answer(told), moved=moved)
    assert "region south 400 age 0.700 0.500 to 0.900 region north 500 income 0.500 0.300 to 0.700" in page
    assert "surely beyond the tolerance of 0.100." in shown("groups", Answer(told), moved=[])
    assert shown("groups", Answer({}, 409, "no baseline with segments"), moved=[]).strip() == ""
    assert "cannot be shown" in shown("groups", Answer({}, 503, "The monitor does not answer."), moved=[])


def test_numbers_among_groups_stand_by_their_size() -> None:
    told = {"groups": [{"group": name} for name in ("over 60", "30 to 60", "up to 30")]}
    assert [name for name, _ in figures.by_group([told])] == ["up to 30", "30 to 60", "over 60"]


def test_an_accepted_error_is_what_was_expected() -> None:
    page, _ = performance(settings=Answer({"settings": {"expected_error": 0.125}}))
    assert "at most 12.5 % wrong decisions" in page
    page, _ = performance(settings=Answer({}, 503, "The monitor does not answer at the moment."))
    assert "Expected not known now" in page


def test_the_chart_takes_the_windows_in_order_with_gaps_where_nothing_is_told() -> None:
    _, told = performance()
    assert figures.headlines(told["overall"])[0] == "accuracy"
    assert figures.chosen(["accuracy"], "nonsense") == "accuracy" and figures.chosen([], "x") == ""
    first, second = figures.points_of(told["windows"], "recall of 0")
    assert (first["version"], first["rows"], first["value"], first["low"]) == (1, 100, None, None)
    assert second["version"] == 2
    accuracy = figures.points_of(told["windows"], "accuracy")[0]
    assert accuracy["low"] < accuracy["value"] == 0.9 < accuracy["high"]


@pytest.mark.parametrize("page", ["performance", "fairness"])
def test_without_outcomes_a_page_says_what_to_do(page: str) -> None:
    assert "POST /v1/outcomes" in shown(page, Answer({"overall": [], "attributes": []}))


@pytest.mark.parametrize("page", ["service", "performance", "fairness"])
def test_what_the_monitor_refuses_is_told_as_elsewhere(page: str) -> None:
    assert "Not watched yet" in shown(page, Answer({}, 404, "there is no monitor of credit"))
    assert "Not for your roles. it takes" in shown(page, Answer({}, 403, "it takes monitor.read"))
    assert "This part cannot be shown. The monitor" in shown(page, Answer({}, 503, "The monitor does not answer"))


def fairness(rows: Mapping[tuple[str, str, str], int], favourable: str | None = "1") -> str:
    tally, groups = tallied(rows)
    measures = measures_of(groups["SEX"], favourable) if favourable else []
    why = None if favourable else "which class is favourable is not declared"
    one = Attribute(3, "champion", "SEX", favourable, tally.labelled, measures, why)
    view = FairnessView(endpoint="credit", confidence=0.99,
                        attributes=[AttributeView.model_validate(one, from_attributes=True)])  # fmt: skip
    return shown("fairness", Answer(view.model_dump(mode="json")), version=3, groups_of=figures.groups_of)


def test_verdicts_of_fairness_stand_in_words_with_the_rates_behind_them() -> None:
    page = fairness({("1", "1", "F"): 40, ("0", "0", "F"): 160, ("1", "1", "M"): 160, ("0", "0", "M"): 40,
                     ("1", "1", "X"): 5})  # fmt: skip
    assert "breached the whole interval is above 0.1" in page
    assert "breached the whole interval is below 0.8" in page
    assert "undecided 0.1 lies inside the interval: more outcomes will tell" in page
    assert re.search(r"F 20\.0 % \d+\.\d % to \d+\.\d % 200 rows", page), page
    assert "X – fewer than 30 rows" in page and "A group counts with at least 30 rows" in page


def test_an_attribute_of_which_nothing_is_told_says_why() -> None:
    assert "which class is favourable is not declared" in fairness({("1", "1", "F"): 1}, favourable=None)


def test_groups_of_a_number_stand_by_its_size_those_of_a_class_by_name() -> None:
    def ordered(*names: str) -> list[str]:
        return figures.groups_of({"measures": [{"rates": [{"group": names[0]}], "too_few": list(names[1:])}]})

    assert ordered("over 75.5", "26.9 to 51.7", "up to 2", "2 to 26.9") == [
        "up to 2", "2 to 26.9", "26.9 to 51.7", "over 75.5",
    ]  # fmt: skip
    assert ordered("10", "M", "2", "1.2.3", "F") == ["1.2.3", "2", "10", "F", "M"]


def test_figures_of_any_size_are_legible() -> None:
    assert [views.measured(n) for n in (0, 0.5, -12.345, 1234567.8, 2.3e-05, 0.0098, None, True)] == [
        "0", "0.500", "−12.35", "1\u202f234\u202f568", "0.000023", "0.0098", "–", "–",
    ]  # fmt: skip
    assert views.measured(float("1e-12")) == "1.0e−12"
    assert views.between((0.25, 0.5)) == "0.250 to 0.500" and views.between(None) == "–"


def test_less_than_all_never_reads_as_all() -> None:
    assert [views.percent(n) for n in (1, 0.99999, 0, 0.000004, 0.5, None)] == [
        "100.00\u202f%", "99.999\u202f%", "0.00\u202f%", "0.0004\u202f%", "50.00\u202f%", "–",
    ]  # fmt: skip
