"""Groups are compared only where there are enough rows, and judged by the interval, not by the figure."""

from math import inf

import numpy as np
import pytest

from services.monitor.domain.outcomes.fairness import Measure, fairness
from services.monitor.domain.outcomes.labelled import Labelled
from services.monitor.domain.outcomes.tally import Tally


def group(random: np.random.Generator, rows: int, selected: float, true: float = 0.5) -> Tally:
    tally = Tally()
    for _ in range(rows):
        tally.add(Labelled(str(int(random.random() < selected)), str(int(random.random() < true))))
    return tally


def exact(hits: int, false_alarms: int, misses: int, rejections: int) -> Tally:
    tally = Tally()
    given = {("1", "1"): hits, ("1", "0"): false_alarms, ("0", "1"): misses, ("0", "0"): rejections}
    for (prediction, label), rows in given.items():
        for _ in range(rows):
            tally.add(Labelled(prediction, label))
    return tally


def told(groups: dict[str, Tally]) -> dict[str, Measure]:
    return {measure.name: measure for measure in fairness(groups, "1")}


def test_every_definition_is_the_arithmetic_of_the_tables() -> None:
    found = told({"a": exact(60, 20, 20, 100), "b": exact(20, 20, 30, 130)})
    assert found["demographic parity difference"].value == pytest.approx(0.4 - 0.2)
    assert found["four-fifths ratio"].value == pytest.approx(0.5)
    assert found["equal opportunity difference"].value == pytest.approx(0.75 - 0.4)
    assert found["equalized odds difference"].value == pytest.approx(0.35)
    assert found["predictive parity difference"].value == pytest.approx(0.75 - 0.5)


def test_nothing_is_said_of_a_group_with_too_few_rows() -> None:
    found = told({"a": exact(60, 20, 20, 100), "b": exact(20, 20, 30, 130), "c": exact(0, 5, 5, 10)})
    parity = found["demographic parity difference"]
    assert parity.too_few == ("c",) and parity.value == pytest.approx(0.2)
    alone = told({"a": exact(60, 20, 20, 100), "c": exact(0, 5, 5, 10)})["four-fifths ratio"]
    assert alone.value is None and alone.verdict == "undecided" and alone.why == "fewer than two groups with 30 rows"


def test_a_breach_is_told_once_the_interval_leaves_no_doubt() -> None:
    random = np.random.default_rng(1)
    some = told({"a": exact(30, 30, 20, 20), "b": exact(20, 25, 30, 25)})["four-fifths ratio"]
    assert some.value is not None and some.value < 0.8 and some.verdict == "undecided"
    many = told({"a": group(random, 9_000, 0.6), "b": group(random, 9_000, 0.42)})["four-fifths ratio"]
    assert many.verdict == "breached"
    same = told({"a": group(random, 9_000, 0.6), "b": group(random, 9_000, 0.6)})
    assert all(measure.verdict == "within" for measure in same.values())


def test_equal_groups_are_called_unequal_no_more_often_than_the_confidence_says() -> None:
    random, wrong = np.random.default_rng(2), 0
    for _ in range(60):
        rates = (0.3, 0.5)
        groups = {name: exact(0, 0, 0, 0) for name in "abc"}
        outside = False
        for _ in range(10):
            for tally in groups.values():
                tally.merge(group(random, 40, rates[0], rates[1]))
            parity = told(groups)["demographic parity difference"]
            low, _ = parity.interval or (-inf, inf)
            outside |= low > 0
        wrong += outside
    assert wrong <= 3
