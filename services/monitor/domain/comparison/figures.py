"""What the counts say: would the other version have decided differently, how often, where, and was it better?

Intervals hold with 99 % at all looks together (`outcomes.intervals`). That of a difference of accuracies uses the
pairs: each row counts 1, 0 or -1, by who alone was right, as in McNemar's test (Psychometrika 12, 1947), so that rows
that both decide rightly or wrongly add no doubt.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from ..outcomes.intervals import ALPHA, Interval, about, mean, share
from ..outcomes.performance import Statistic
from .answers import Answers, Group
from .near import Near, Spread
from .verdicts import Right

Counted = TypeVar("Counted", Group, Right)
Verdict = Literal["better", "worse", "undecided"]
"""Of the version that was not told: its interval is beyond nothing, or is not."""


@dataclass(frozen=True)
class Row:
    """One group of a segment with the figure that it is told by."""

    segment: str
    group: str
    rows: int
    statistic: Statistic


def agreement(answers: Answers) -> list[Statistic]:
    """How far both agree: of classes, as decisions and as scores; of numbers."""
    if answers.task is None:
        return []
    if answers.task == "regression":
        return _numbers(answers.near, "")
    found = [Statistic.told("agreement", share(answers.equal, answers.rows), answers.rows)]
    return found + (_numbers(answers.near, "score ") if answers.near.rows else [])


def _numbers(near: Near, of: str) -> list[Statistic]:
    rows = near.rows
    found = [
        Statistic.told(f"mean {of}difference", _mean(near.difference), rows),
        Statistic.told(f"mean absolute {of}difference", _mean(near.size), rows),
    ]
    plain = [
        (f"median absolute {of}difference", near.size_quantile(0.5) if rows else None),
        (f"95th percentile of the absolute {of}difference", near.size_quantile(0.95) if rows else None),
        (f"{of}correlation", near.correlation),
    ]
    return found + [
        Statistic(name, None, value, None, rows, None if value is not None else "one of both never changes")
        for name, value in plain
    ]


def _mean(spread: Spread, alpha: float = ALPHA) -> Interval | None:
    return about(spread.mean, spread.variance, spread.rows, alpha)


def agreement_by_group(answers: Answers) -> list[Row]:
    """Where they differ most comes first: the doubt is shared out over all groups."""
    groups = _flat(answers.groups)
    alpha = ALPHA / max(1, len(groups))
    found = [Row(*place, each.rows, _of_group(answers, each, alpha)) for place, each in groups.items()]
    sign = 1 if answers.task == "regression" else -1
    return sorted(found, key=lambda row: (-sign * (row.statistic.value or 0.0), row.segment, row.group))


def _of_group(answers: Answers, group: Group, alpha: float) -> Statistic:
    if answers.task == "regression":
        return Statistic.told("mean absolute difference", _mean(group.size, alpha), group.rows)
    return Statistic.told("agreement", share(group.equal, group.rows, alpha), group.rows)


def improvement(right: Right, alpha: float = ALPHA) -> Statistic:
    """By how much the other version is better: accuracy gained, or error that it makes less."""
    if right.more.rows:
        found = mean(right.more, alpha=alpha)
        less = found and Interval(-found.value, -found.high, -found.low, found.rows)
        return Statistic.told("absolute error saved", less, right.rows)
    rows = right.rows
    value = (right.said - right.told) / rows if rows else 0.0
    spread = (right.said + right.told) / rows - value * value if rows else 0.0
    return Statistic.told("accuracy gained", about(value, spread, rows, alpha), rows)


def performance(right: Right) -> list[Statistic]:
    """Of both on the same rows, then the difference."""
    rows = right.rows
    if not rows:
        return []
    if right.more.rows:
        told, said = right.told_error.mean(), right.said_error.mean()
        both = [("mae of what was told", told), ("mae of the other version", said)]
        return [*(Statistic(name, None, value, None, rows) for name, value in both), improvement(right)]
    return [
        Statistic.told("accuracy of what was told", share(right.both + right.told, rows), rows),
        Statistic.told("accuracy of the other version", share(right.both + right.said, rows), rows),
        improvement(right),
    ]


def verdict(right: Right) -> Verdict:
    """By the interval of the improvement."""
    found = improvement(right).interval
    if found is None or found[0] <= 0 <= found[1]:
        return "undecided"
    return "better" if found[0] > 0 else "worse"


def improvement_by_group(groups: Mapping[str, Mapping[str, Right]]) -> list[Row]:
    """Where it is worst comes first."""
    flat = _flat(groups)
    alpha = ALPHA / max(1, len(flat))
    found = [Row(*place, each.rows, improvement(each, alpha)) for place, each in flat.items()]
    return sorted(found, key=lambda row: (row.statistic.value or 0.0, row.segment, row.group))


def _flat(groups: Mapping[str, Mapping[str, Counted]]) -> dict[tuple[str, str], Counted]:
    return {(segment, name): each for segment, of in groups.items() for name, each in of.items() if each.rows}
