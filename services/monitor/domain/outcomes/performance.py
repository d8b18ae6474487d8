"""What the counts say of a model: how right it is, each figure with its interval and the rows behind it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts import ValueMatrix

from .apart import is_known, rest_of, told
from .intervals import ALPHA, LEAST_ROWS, Interval, about, mean, share, z_ever
from .labelled import Task, in_order, kpi_key
from .sums import Moments, real
from .tally import GROUPS, Scores, Tally

Array = NDArray[Any]

_COMPLEMENT = {"0": "1", "1": "0", "true": "false", "false": "true", "True": "False", "False": "True"}


@dataclass(frozen=True)
class Statistic:
    """One figure; where there is none, why."""

    name: str
    of: str | None
    """The class that it is about; None for the model as a whole."""
    value: float | None
    interval: tuple[float, float] | None
    """99 %, at all looks together."""
    rows: int
    """That it is estimated from."""
    why: str | None = None

    @classmethod
    def told(cls, name: str, found: Interval | None, rows: int = 0, of: str | None = None) -> "Statistic":
        """As an interval says it."""
        if found is None:
            return cls(name, of, None, None, rows, _why_unknown(rows))
        return cls(name, of, found.value, (found.low, found.high), found.rows)


def _why_unknown(rows: int) -> str:
    if rows < LEAST_ROWS:
        return f"fewer than {LEAST_ROWS} rows"
    return "too small for its interval to be known: another unit would do"


def classes_of(tally: Tally) -> list[str]:
    """Predicted or true and told apart, in the order of a model's probabilities; of one that has a usual complement,
    both."""
    return in_order(completed({name for place in tally.cells for name in told(place)}))


def completed(names: set[str]) -> set[str]:
    """With its complement, where there is one name that has a usual one."""
    return names | {_COMPLEMENT[name] for name in names if name in _COMPLEMENT} if len(names) == 1 else names


def performance(tally: Tally, task: Task, classes: Sequence[str]) -> list[Statistic]:
    """Of the rows of a tally; `classes` are those of the version, in order."""
    if task == "regression":
        return _regression(tally)
    if not tally.cells:
        return []
    found = [_accuracy(tally), *_by_class(tally, classes)]
    return found + _of_scores(tally, classes if task == "binary" and len(classes) == 2 else None)


def _accuracy(tally: Tally) -> Statistic:
    known = sum(cell.rows for place, cell in tally.cells.items() if is_known(place))
    found = Statistic.told("accuracy", share(_rows(tally, lambda p, t: p == t), known))
    unknown = sum(cell.rows for cell in tally.cells.values()) - known
    if not unknown:
        return found
    why = f"of {unknown} more rows an earlier release counted neither class apart"
    return replace(found, why=why) if known else Statistic("accuracy", None, None, None, 0, why)


def _rows(tally: Tally, wanted: Callable[[str, str], bool]) -> int:
    return sum(cell.rows for (prediction, label), cell in tally.cells.items() if wanted(prediction, label))


def _by_class(tally: Tally, classes: Sequence[str]) -> list[Statistic]:
    """Precision, recall and F1 of each class, then their means over the classes, with the doubt shared out."""
    found: list[Statistic] = []
    for name, of in (("precision", _precision), ("recall", _recall), ("f1", _f1)):
        each = {c: of(tally, c, ALPHA) for c in classes}
        found += [
            Statistic.told(name, interval, of=c) if interval.rows else Statistic(name, c, None, None, 0, "no such rows")
            for c, interval in each.items()
        ]
        shared = [of(tally, c, ALPHA / len(classes)) for c in classes if each[c].rows]
        if shared:
            value, low, high = (float(np.mean([getattr(i, end) for i in shared])) for end in ("value", "low", "high"))
            rest = rest_of({place: cell.rows for place, cell in tally.cells.items()})
            why = f"over {len(classes)} classes; {rest} rows are of others, which are not told apart" if rest else None
            found.append(Statistic(f"macro {name}", None, value, (low, high), tally.labelled, why))
    return found


def _precision(tally: Tally, c: str, alpha: float) -> Interval:
    right = _rows(tally, lambda p, t: p == c and t == c)
    return share(right, _rows(tally, lambda p, _: p == c), alpha)


def _recall(tally: Tally, c: str, alpha: float) -> Interval:
    right = _rows(tally, lambda p, t: p == c and t == c)
    return share(right, _rows(tally, lambda _, t: t == c), alpha)


def _f1(tally: Tally, c: str, alpha: float) -> Interval:
    """F1 is 2 J / (1 + J) of the share J of hits among the rows that are or are called this class, and so is its
    interval."""
    right = _rows(tally, lambda p, t: p == c and t == c)
    found = share(right, _rows(tally, lambda p, t: c in (p, t)), alpha)
    return Interval(_harmonic(found.value), _harmonic(found.low), _harmonic(found.high), found.rows)


def _harmonic(jaccard: float) -> float:
    return 2 * jaccard / (1 + jaccard)


# Business


def business(
    tally: Tally, matrix: ValueMatrix | None, favourable: str | None, kpis: Mapping[str, str]
) -> list[Statistic]:  # fmt: skip
    """What a row was worth on average: by the value matrix, as outcomes reported it, and by each KPI."""
    found: list[Statistic] = []
    if matrix and favourable is not None and not tally.tells(favourable):
        found.append(Statistic("value", None, None, None, 0, f"the class {favourable} is not told apart"))
    elif matrix and favourable is not None and tally.cells:
        found.append(Statistic.told("value", _worth(tally, matrix, favourable), tally.labelled))
    if tally.value.rows:
        found.append(Statistic.told("reported value", mean(tally.value), tally.value.rows))
    for name, expression in kpis.items():
        key = kpi_key(name, expression)
        moments = tally.kpis.get(key, Moments(2))
        told = Statistic.told("kpi", mean(moments), moments.rows, name)
        if untold := tally.untold.get(key, 0):
            told = replace(told, why="; ".join(filter(None, (told.why, f"no number for {untold} more rows"))))
        found.append(told)
    return found


def _value(matrix: ValueMatrix, favourable: str, prediction: str, label: str) -> float:
    if prediction == favourable:
        return matrix.true_positive if label == favourable else matrix.false_positive
    return matrix.false_negative if label == favourable else matrix.true_negative


def worth_of_being_right(tally: Tally, matrix: ValueMatrix, favourable: str) -> float | None:
    """How much more a right decision was worth on average than a wrong one; None where there was none of either."""
    sums: dict[bool, tuple[int, float]] = {True: (0, 0.0), False: (0, 0.0)}
    for (prediction, label), cell in tally.cells.items():
        rows, total = sums[prediction == label]
        sums[prediction == label] = rows + cell.rows, total + cell.rows * _value(matrix, favourable, prediction, label)
    (right, gained), (wrong, lost) = sums[True], sums[False]
    return gained / right - lost / wrong if right and wrong else None


def _worth(tally: Tally, matrix: ValueMatrix, favourable: str) -> Interval | None:
    first = second = 0.0
    for (prediction, label), cell in tally.cells.items():
        value = _value(matrix, favourable, prediction, label)
        first, second = first + cell.rows * value, second + cell.rows * value**2
    rows = max(1, tally.labelled)
    return about(first / rows, second / rows - (first / rows) ** 2, tally.labelled)


# Scores


def _of_scores(tally: Tally, two: Sequence[str] | None) -> list[Statistic]:
    """Of two classes the score is the probability of the second one, of more that the decision is right."""
    hits, misses = Scores(), Scores()
    for (prediction, label), cell in tally.cells.items():
        if is_known((prediction, label)):
            (hits if (label == two[1] if two else prediction == label) else misses).merge(cell.scores)
    rows = hits.score.rows + misses.score.rows
    if not rows:
        return []
    found = [
        Statistic.told("brier", _brier(hits, misses), rows),
        Statistic.told("log loss", _log_loss(hits, misses), rows),
        calibration(hits, misses),
    ]
    return [roc_auc(hits, misses), *found] if two else found


def _brier(hits: Scores, misses: Scores) -> Interval | None:
    """Brier, *Verification of forecasts expressed in terms of probability* (1950): the mean of (score - truth)^2."""
    rows = hits.score.rows + misses.score.rows
    s1, s2, s3, s4 = (real(each) for each in hits.score.sums)
    n = hits.score.rows
    first = n - 2 * s1 + s2 + real(misses.score.sums[1])
    second = n - 4 * s1 + 6 * s2 - 4 * s3 + s4 + real(misses.score.sums[3])
    return _clipped(about(first / rows, second / rows - (first / rows) ** 2, rows), 0.0, 1.0)


def _log_loss(hits: Scores, misses: Scores) -> Interval | None:
    rows = hits.score.rows + misses.score.rows
    first = -real(hits.log_score.sums[0] + misses.log_rest.sums[0]) / rows
    second = real(hits.log_score.sums[1] + misses.log_rest.sums[1]) / rows
    return _clipped(about(first, second - first**2, rows), 0.0, float("inf"))


def calibration(hits: Scores, misses: Scores) -> Statistic:
    """The mean distance between score and truth over ten groups of scores (the expected calibration error of Naeini,
    Cooper, Hauskrecht 2015), given the scores; each group's share has its own interval, the doubt shared out."""
    rows = hits.score.rows + misses.score.rows
    value = low = high = 0.0
    for place in range(GROUPS):
        (right, one), (wrong, two) = hits.groups.get(place, (0, 0)), misses.groups.get(place, (0, 0))
        if not (count := right + wrong):
            continue
        said, true = real(one + two) / count, share(right, count, ALPHA / GROUPS)
        weight = count / rows
        value += weight * abs(said - true.value)
        low += weight * max(0.0, true.low - said, said - true.high)
        high += weight * max(said - true.low, true.high - said)
    return Statistic("calibration error", None, value, (low, high), rows)


def roc_auc(hits: Scores, misses: Scores) -> Statistic:
    """The chance that a row of the second class has the higher score, from bins of scores.

    Which of two rows of one bin is higher is not known: the value counts them as half, the interval as either. Its
    variance is that of DeLong, DeLong, Clarke-Pearson (Biometrics 44, 1988).
    """
    ones, zeros = hits.score.rows, misses.score.rows
    if not ones or not zeros:
        return Statistic("roc auc", None, None, None, ones + zeros, "one class only")
    places = sorted({*hits.bins, *misses.bins})
    up = np.array([hits.bins.get(place, 0) for place in places], np.float64)
    down = np.array([misses.bins.get(place, 0) for place in places], np.float64)
    below = (np.cumsum(down) - down / 2) / zeros
    above = (ones - np.cumsum(up) + up / 2) / ones
    value = float(up @ below / ones)
    unknown = float(up @ down) / (2 * ones * zeros)
    variance = _of_placements(up, below, value) / ones + _of_placements(down, above, value) / zeros
    if min(ones, zeros) < LEAST_ROWS:
        return Statistic("roc auc", None, value, None, ones + zeros, f"fewer than {LEAST_ROWS} rows of a class")
    error = z_ever(min(ones, zeros)) * sqrt(variance) + unknown
    return Statistic("roc auc", None, value, (max(0.0, value - error), min(1.0, value + error)), ones + zeros)


def _of_placements(rows: Array, placements: Array, value: float) -> float:
    return float(rows @ (placements - value) ** 2 / rows.sum())


# Numbers


def _regression(tally: Tally) -> list[Statistic]:
    errors = tally.errors
    rows = errors.error.rows
    if not rows:
        return []
    square = mean(errors.error, 2)
    root = None if square is None else Interval(
        sqrt(square.value), sqrt(max(0.0, square.low)), sqrt(square.high), rows)  # fmt: skip
    return [
        Statistic.told("mae", _clipped(mean(errors.size), 0.0, float("inf")), rows),
        Statistic.told("rmse", root, rows),
        Statistic.told("bias", mean(errors.error), rows),
        _r2(errors.error, errors.truth),
    ]


def _r2(error: Moments, truth: Moments) -> Statistic:
    """One minus the squared error over the truth's variance; the interval has half of the doubt from each."""
    spread, square = truth.variance, mean(error, 2, ALPHA / 2)
    if square is None or spread == 0:
        why = _why_unknown(error.rows) if square is None else "the truth is the same in all rows"
        return Statistic("r2", None, None, None, error.rows, why)
    apart = about(spread, truth.fourth - spread**2, truth.rows, ALPHA / 2)
    assert apart is not None
    low = 1 - square.high / apart.low if apart.low > 0 else float("-inf")
    high = min(1.0, 1 - max(0.0, square.low) / apart.high)
    value = 1 - square.value / spread
    if low == float("-inf"):
        return Statistic("r2", None, value, None, error.rows, "the truth's variance is not known well enough")
    return Statistic("r2", None, value, (low, high), error.rows)


def _clipped(found: Interval | None, least: float, most: float) -> Interval | None:
    if found is None:
        return None
    return Interval(found.value, max(least, found.low), min(most, found.high), found.rows)
