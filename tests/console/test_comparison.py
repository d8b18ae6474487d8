"""A shadow beside the champion as a page: what the monitor answers, made by its own code."""

from datetime import timedelta
from typing import Any

import numpy as np

from services.console.gateway import Answer
from services.console.pages import comparison
from services.monitor.api.comparison import ComparisonsView, ComparisonView
from services.monitor.domain.comparison.answers import Answers
from services.monitor.domain.comparison.verdicts import Verdicts
from services.monitor.domain.latency import LatencyCounts
from services.monitor.domain.outcomes.labelled import Labelled
from services.monitor.usecases.paired import Compared, Comparison

from .test_figures import NOW, shown


def told(*comparisons: Comparison) -> Answer:
    view = ComparisonsView(
        endpoint="credit", confidence=0.99, window_s=3600.0, comparisons=[ComparisonView.of(c, 24) for c in comparisons]
    )
    return Answer(view.model_dump(mode="json", by_alias=True))


def page(answer: Answer) -> str:
    return shown("comparison", answer, **comparison.READING)


def of(answers: Answers, verdicts: Verdicts | None = None, answered: int | None = None) -> Comparison:
    whole = Compared(3, "challenger", 2, NOW - timedelta(hours=2), NOW, answers, verdicts or Verdicts(), answered)
    hour = Compared(3, "challenger", 2, NOW - timedelta(hours=1), NOW, answers, verdicts or Verdicts(), answered)
    return Comparison(whole, [hour, hour])


def classes() -> Answers:
    """A tenth is decided otherwise, in the north alone."""
    answers = Answers(requests=100, told_ms=LatencyCounts.of([0.8] * 100), said_ms=LatencyCounts.of([4.0] * 100))
    first, other = np.arange(1_000) % 2, np.arange(1_000) % 2 ^ (np.arange(1_000) % 10 == 0)
    regions = ["north" if place % 5 == 0 else "south" for place in range(1_000)]
    answers.count_classes("binary", first, other, None, {"region": regions})
    return answers


def verdicts(better: int, rows: int) -> Verdicts:
    found = Verdicts()
    for place in range(rows):
        said = "1" if place < better else "0"
        truth = "1" if place < better or place % 10 == 0 else "0"
        row = Labelled(said, truth, segments={"region": "north"}, answered=(2, "0"))
        found.add(row, "binary")
    return found


def test_the_page_says_how_often_a_shadow_would_differ_where_and_whether_it_was_better() -> None:
    answers = classes()
    answers.fail("ModelFailed", 20)
    text = page(told(of(answers, verdicts(80, 400), 1_050)))
    assert "v3 challenger beside v2" in text
    assert "In 10.0 % of the rows (6.6 % to 14.3 %)" in text
    assert "better 92.0 % right instead of 72.0 %: +20.0 points (+12.3 to +27.7), of 400 rows" in text
    assert "v2 right 288 0 v2 wrong 80 32" in text and "0 400 100 1 0 500" in text
    assert "1 000 of 1 050 rows that callers were told of; 20 it did not answer (ModelFailed 20)" in text
    assert "0.8" in text and "4." in text and "several at a time" in text
    north, south = text.index("region north"), text.index("region south")
    assert north < south, "where they differ most comes first"
    assert "50.0 %" in text[north:south]


def test_what_is_not_known_yet_is_said_and_not_shown_as_nothing() -> None:
    assert "Nothing to compare yet" in page(told()) and "--strategy shadow" in page(told())
    empty = page(told(of(Answers())))
    assert "no row could be compared" in empty and "no row that both decided has an outcome" in empty
    few = page(told(of(classes(), verdicts(2, 12))))
    assert "12 rows with an outcome are too few" in few
    even = page(told(of(classes(), verdicts(0, 400))))
    assert "cannot be told yet" in even
    away = page(Answer({}, 503, "The monitor does not answer at the moment."))
    assert "does not answer" in away


def test_numbers_and_many_classes_have_tables_of_their_own() -> None:
    numbers = Answers(requests=1)
    numbers.count_numbers(np.arange(100.0), np.arange(100.0) + 2, {})
    text = page(told(of(numbers)))
    assert (
        "Its numbers are 2.000 away (2.000 to 2.000), and 2.000 higher, on average." in text
        and "Mean absolute difference" in text
    )
    many = Answers(requests=1)
    kinds = np.array([f"k{place % 9}" for place in range(900)], object)
    many.count_classes("classes", kinds, np.roll(kinds, 1), None, {})
    text = page(told(of(many)))
    assert "v3 would have told" in text and "k0 k8 100" in text


def test_the_page_reads_pairs_of_decisions_by_their_names() -> None:
    answers: dict[str, Any] = {"cells": [{"told": "10", "said": "9", "rows": 2}, {"told": "9", "said": "9", "rows": 5}]}
    assert comparison.classes_of(answers) == ["9", "10"]
    assert comparison.cell(answers, "10", "9") == 2 and comparison.cell(answers, "9", "10") == 0
    assert [each["rows"] for each in comparison.differing(answers)] == [2]
