"""Fairness by protected attribute: how far groups are apart, with intervals, and nothing of groups that are too small.

The five definitions as in Barocas, Hardt, Narayanan, *Fairness and Machine Learning* (2023), chapter 3; the four-fifths
rule as in the Uniform Guidelines on Employee Selection Procedures, 29 CFR 1607.4 D. Each group's rate has an interval
that holds at all looks (`intervals.share`) with the doubt shared out over the groups, so the interval of a difference
or a ratio holds whichever groups turn out to be the extremes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from .intervals import ALPHA, Interval, share
from .tally import Tally

LEAST_ROWS = 30
"""A group counts with at least so many rows behind its rate."""
FOUR_FIFTHS = 0.8
APART = 0.1
"""A difference of rates beyond it is told as a breach: it has no statute; choose your own for a use case."""

Verdict = Literal["within", "breached", "undecided"]


@dataclass(frozen=True)
class Rate:
    """One rate of one group."""

    group: str
    value: float
    interval: tuple[float, float]
    rows: int


@dataclass(frozen=True)
class Measure:
    """One definition of fairness over all groups; where it is not told, why."""

    name: str
    value: float | None
    interval: tuple[float, float] | None
    bound: float
    """Differences must not be above it, a ratio not below it."""
    verdict: Verdict
    rates: tuple[Rate, ...]
    """Of the groups that are large enough."""
    too_few: tuple[str, ...]
    """Groups of which nothing is told."""
    why: str | None = None


@dataclass(frozen=True)
class Table:
    """One group's rows by decision and truth, of the favourable class against all others."""

    hits: int
    false_alarms: int
    misses: int
    rejections: int

    @classmethod
    def of(cls, tally: Tally, favourable: str) -> "Table":
        """Classes other than the favourable one are one."""
        found = {(False, False): 0, (False, True): 0, (True, False): 0, (True, True): 0}
        for (prediction, label), cell in tally.cells.items():
            found[prediction == favourable, label == favourable] += cell.rows
        return cls(found[True, True], found[True, False], found[False, True], found[False, False])

    @property
    def rows(self) -> int:
        """All of them."""
        return self.hits + self.false_alarms + self.misses + self.rejections


Part = Callable[[Table], tuple[int, int]]
"""Of a table, so many hits among so many rows."""


def _selected(t: Table) -> tuple[int, int]:
    return t.hits + t.false_alarms, t.rows


def _true_positives(t: Table) -> tuple[int, int]:
    return t.hits, t.hits + t.misses


def _false_positives(t: Table) -> tuple[int, int]:
    return t.false_alarms, t.false_alarms + t.rejections


def _precision(t: Table) -> tuple[int, int]:
    return t.hits, t.hits + t.false_alarms


def fairness(groups: Mapping[str, Tally], favourable: str) -> list[Measure]:
    """All five of one attribute. Of labelled rows: who is never labelled (a loan that was refused) is in none."""
    tables = {name: Table.of(tally, favourable) for name, tally in groups.items()}
    return [
        _difference("demographic parity difference", tables, _selected),
        _ratio("four-fifths ratio", tables, _selected),
        _difference("equal opportunity difference", tables, _true_positives),
        _equalized_odds(tables),
        _difference("predictive parity difference", tables, _precision),
    ]


def _rates(
    tables: Mapping[str, Table], part: Part, alpha: float = ALPHA
) -> tuple[list[tuple[str, Interval]], tuple[str, ...]]:
    """Of the groups that are large enough, and the names of the others."""
    found = {name: part(table) for name, table in tables.items()}
    enough = [name for name, (_, rows) in found.items() if rows >= LEAST_ROWS]
    rates = [(name, share(*found[name], alpha / max(1, len(enough)))) for name in enough]
    return rates, tuple(name for name in found if name not in enough)


def _told(
    name: str, bound: float, rates: list[tuple[str, Interval]], too_few: tuple[str, ...],
    between: Callable[[list[Interval]], tuple[float, float, float]], verdict: Callable[[float, float], Verdict],
) -> Measure:  # fmt: skip
    shown = tuple(Rate(group, i.value, (i.low, i.high), i.rows) for group, i in rates)
    if len(rates) < 2:
        why = f"fewer than two groups with {LEAST_ROWS} rows"
        return Measure(name, None, None, bound, "undecided", shown, too_few, why)
    value, low, high = between([interval for _, interval in rates])
    return Measure(name, value, (low, high), bound, verdict(low, high), shown, too_few)


def _apart(rates: list[Interval]) -> tuple[float, float, float]:
    """The highest rate minus the lowest: at least the distance of the intervals' nearer ends, at most of the others."""
    value = max(r.value for r in rates) - min(r.value for r in rates)
    low = max(0.0, max(r.low for r in rates) - min(r.high for r in rates))
    return value, low, max(r.high for r in rates) - min(r.low for r in rates)


def _quotient(rates: list[Interval]) -> tuple[float, float, float]:
    """The lowest rate over the highest; 1 where nobody is selected."""
    most = max(r.value for r in rates)
    value = min(r.value for r in rates) / most if most else 1.0
    high = min(1.0, min(r.high for r in rates) / top) if (top := max(r.low for r in rates)) else 1.0
    return value, min(r.low for r in rates) / max(r.high for r in rates), high


def _at_most(low: float, high: float) -> Verdict:
    return "breached" if low > APART else "within" if high <= APART else "undecided"


def _at_least(low: float, high: float) -> Verdict:
    return "breached" if high < FOUR_FIFTHS else "within" if low >= FOUR_FIFTHS else "undecided"


def _difference(name: str, tables: Mapping[str, Table], part: Part) -> Measure:
    return _told(name, APART, *_rates(tables, part), _apart, _at_most)


def _ratio(name: str, tables: Mapping[str, Table], part: Part) -> Measure:
    return _told(name, FOUR_FIFTHS, *_rates(tables, part), _quotient, _at_least)


def _equalized_odds(tables: Mapping[str, Table]) -> Measure:
    """The larger one of the differences of true and of false positives, half of the doubt for each."""
    name, half = "equalized odds difference", ALPHA / 2
    each = [_told(name, APART, *_rates(tables, part, half), _apart, _at_most)
            for part in (_true_positives, _false_positives)]  # fmt: skip
    for one in each:
        if one.value is None:
            return one
    larger = max(each, key=lambda one: one.value or 0.0)
    ends = [one.interval for one in each if one.interval]
    low, high = max(end[0] for end in ends), max(end[1] for end in ends)
    too_few = tuple(dict.fromkeys(name for one in each for name in one.too_few))
    return Measure(name, larger.value, (low, high), APART, _at_most(low, high), larger.rates, too_few)
