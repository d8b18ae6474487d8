"""How far the truth moved from that of the training rows: the world changed then, whatever the features say."""

from collections import Counter
from math import isfinite

import numpy as np

from contracts.profile import CategoricalProfile, ColumnProfile, NumericProfile
from services.kit.groups import class_name

from ..effects import stability_index
from .intervals import LEAST_ROWS, mean
from .labelled import Task
from .performance import Statistic
from .tally import Tally

NAME = "label shift"


def label_shift(tally: Tally, task: Task, reference: ColumnProfile | None) -> Statistic:
    """Of the labelled rows of a tally: the population stability index of their classes, or how many of the reference's
    standard deviations the mean of their numbers moved. The interval is of the live rows and, for classes, of both."""
    if reference is None:
        return Statistic(NAME, None, None, None, tally.labelled, "the baseline has no labels")
    if task == "regression":
        return _numbers(tally, reference)
    return _classes(tally, reference)


def _classes(tally: Tally, reference: ColumnProfile) -> Statistic:
    if not isinstance(reference, CategoricalProfile):
        return Statistic(NAME, None, None, None, tally.labelled, "the baseline's labels are numbers")
    if tally.labelled < LEAST_ROWS:
        return Statistic.told(NAME, None, tally.labelled)
    live = Counter[str]()
    for (_, label), cell in tally.cells.items():
        live[label] += cell.rows
    known = Counter(dict(zip(map(class_name, reference.classes), reference.counts, strict=True)))
    names = [name for name in known if tally.tells(name)]
    others = live.total() - sum(live[name] for name in names)
    rest = known.total() - sum(known[name] for name in names)
    before = np.array([*(known[name] for name in names), rest + reference.unseen])
    size, low, high = stability_index(before, np.array([*(live[name] for name in names), others]))
    return Statistic(NAME, None, size, (low, high), tally.labelled)


def _numbers(tally: Tally, reference: ColumnProfile) -> Statistic:
    if not isinstance(reference, NumericProfile) or not (isfinite(reference.sd) and reference.sd > 0):
        return Statistic(NAME, None, None, None, tally.labelled, "the baseline's labels are no numbers that vary")
    found = mean(tally.errors.truth)
    if found is None:
        return Statistic.told(NAME, None, tally.labelled)
    low, size, high = ((end - reference.mean) / reference.sd for end in (found.low, found.value, found.high))
    return Statistic(NAME, None, size, (low, high), found.rows)
