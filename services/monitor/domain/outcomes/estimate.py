"""What can be expected of decisions whose truth is not known yet, from their scores alone or from their errors so far.

Classes: confidence-based performance estimation (NannyML's CBPE, 2022): with the calibrated chance of each row the
expected confusion matrix follows. Numbers: the errors of labelled rows by group of the prediction, weighted as the
groups are in the rows at hand, a small form of direct loss estimation (NannyML's DLE, 2022). Both hold as long as rows
that look alike turn out alike: a changed mix of rows is seen, a changed meaning of them (concept drift) is not.

The interval is for what the labels of these very rows will show. It has the doubt from the rows' own chance, and from
the labels that the calibration, or the errors, were learned from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibration import SCORES, Calibration
from .confusion import Cells, Confusion
from .decided import BINS, NUMBERS, Counts, by_bin
from .intervals import LEAST_ROWS, z_ever
from .labelled import Task, in_order
from .learned import RIGHT, WRONG, Learned
from .performance import Statistic, completed
from .sums import Moments
from .tally import FINE

Array = NDArray[Any]
_FEW = f"fewer than {LEAST_ROWS} rows"


@dataclass(frozen=True)
class Estimate:
    """Of all rows of a span that have a score or a predicted number, labelled or not."""

    rows: int
    learned: int
    """Labelled rows of the version behind the calibration, or the errors."""
    calibrated: bool
    """False: too few labels so far; scores are taken at their word, and the intervals do not doubt them."""
    statistics: Sequence[Statistic]


class Estimator:
    """What a version's labels so far say of its decisions; each span of them is then estimated by itself."""

    def __init__(self, task: Task, classes: Sequence[str], learned: Learned, cells: Cells | None = None) -> None:
        """`cells`: labelled rows of the version, for what wrong decisions among several classes turn out to be."""
        self._task: Task = task
        self._classes = list(classes)
        self._losses, self._cells = learned.losses, cells or {}
        self._calibration = Calibration.of(*_hits(task, self._classes, learned))

    def of(self, counts: Counts) -> Estimate | None:
        """None where nothing in the rows can be estimated from."""
        rows = sum(sum(bins.values()) for bins in counts.values())
        if not rows or (self._task == "binary" and len(self._classes) != 2):
            return None
        if self._task == "regression":
            learned = sum(moments.rows for moments in self._losses.values())
            return Estimate(rows, learned, learned >= LEAST_ROWS, _errors(counts.get(NUMBERS, {}), self._losses))
        names = [*self._classes, *(name for name in counts if name not in self._classes)]
        confusion = Confusion.of(names, self._cells) if self._task == "classes" else None
        bins = np.array([by_bin(counts.get(name, {})) for name in names])
        told = _Classes(bins, names, self._calibration, confusion)
        return Estimate(rows, self._calibration.rows, self._calibration.calibrated, told.figures(self._task))


def classes_for(declared: Sequence[str], learned: Learned) -> list[str]:
    """The classes of a model in the order of its probabilities: those of the baseline, where these are not two also
    those that turned out; of one that has a usual complement, both."""
    if len(declared) == 2:
        return in_order(declared)
    return in_order(completed({*declared, *learned.scores} - {RIGHT, WRONG}))


def _hits(task: Task, classes: Sequence[str], learned: Learned) -> tuple[Array, Array]:
    """Labelled rows [BINS] for which what the score is the chance of came true, and the others."""
    hit = RIGHT if task == "classes" else classes[1] if len(classes) == 2 else ""
    kinds = [by_bin(learned.scores.get(hit, {})), np.zeros(BINS, np.int64)]
    for name, bins in learned.scores.items():
        if name != hit and (task != "classes" or name == WRONG):
            kinds[1] = kinds[1] + by_bin(bins)
    return kinds[0], kinds[1]


@dataclass(frozen=True)
class _Classes:
    """Rows [classes, BINS] by what was decided and by score, with the chances of the scores."""

    counts: Array
    names: Sequence[str]
    calibration: Calibration
    confusion: Confusion | None = None

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def figures(self, task: Task) -> list[Statistic]:
        """Of two classes a hit is the second one, of more that the decision is right."""
        return self._of_two() if task == "binary" else self._of_many()

    def told(self, name: str, of: str | None, value: float, slopes: Array, unknown: float = 0.0) -> Statistic:
        """A figure of what each row turns out to be; `slopes`, as `counts`, is what one row adds when it is a hit.

        `unknown` is what the bins hide of it; that the scores of a bin are not one and the same is added here.
        """
        chance = self.calibration.chances
        doubt = chance * (1 - chance)
        by_score = (self.counts * slopes).sum(axis=0)
        of_rows = float((self.counts * slopes**2).sum(axis=0) @ doubt)
        learned = self.calibration.variance(by_score)
        spread = z_ever(self.total) ** 2 * of_rows + z_ever(max(LEAST_ROWS, self.calibration.rows)) ** 2 * learned
        error = sqrt(spread) + float(np.abs(by_score) @ doubt) / (2 * FINE) + unknown
        return Statistic(name, of, value, (max(0.0, value - error), min(1.0, value + error)), self.total)

    def _of_two(self) -> list[Statistic]:
        if self.total < LEAST_ROWS:
            return [Statistic("accuracy", None, None, None, self.total, _FEW)]
        chance, rows = self.calibration.chances, self.counts.sum(axis=0)
        said = np.array([[name == self.names[1]] for name in self.names])
        right = np.where(said, chance, 1 - chance)
        right[2:] = 0.0  # a class that is neither
        signs = np.where(said, 1.0, -1.0) * np.ones((1, BINS))
        signs[2:] = 0.0
        found = [self.told("accuracy", None, float((self.counts * right).sum()) / self.total, signs / self.total)]
        found += [statistic for hit in (False, True) for statistic in self._of_class(hit)]
        found = sorted(found, key=lambda s: ("accuracy", "precision", "recall", "f1").index(s.name))
        brier = float(rows @ (SCORES**2 * (1 - chance) + (1 - SCORES) ** 2 * chance)) / self.total
        return [
            *found, self._roc_auc(rows),
            self.told("brier", None, brier, np.ones_like(signs) * (1 - 2 * SCORES) / self.total),
        ]  # fmt: skip

    def _of_class(self, hit: bool) -> list[Statistic]:
        """Precision, recall and F1 of the second class (`hit`) or the first one."""
        of, here = self.names[int(hit)], np.zeros((len(self.names), 1))
        here[int(hit)] = 1.0
        chance = self.calibration.chances if hit else 1 - self.calibration.chances
        sign = 1.0 if hit else -1.0  # a hit more is one row of the first class less
        decided = int(self.counts[int(hit)].sum())
        right, true = float(self.counts[int(hit)] @ chance), float(self.counts.sum(axis=0) @ chance)
        flat = np.ones((1, BINS))

        def ratio(name: str, rows: float, top: float, bottom: float, slopes: Array) -> Statistic:
            if rows < LEAST_ROWS:
                return Statistic(name, of, None, None, self.total, f"{_FEW} expected")
            return self.told(name, of, top / bottom, sign * slopes * flat)

        return [
            ratio("precision", decided, right, decided, here / max(1, decided)),
            ratio("recall", true, right, true, here / true - right / true**2),
            ratio(
                "f1", true, 2 * right, decided + true, 2 * here / (decided + true) - 2 * right / (decided + true) ** 2
            ),
        ]

    def _roc_auc(self, rows: Array) -> Statistic:
        """As `performance.roc_auc` counts it, of expected rows; two rows of one bin count as half, or as either."""
        up, down = rows * self.calibration.chances, rows * (1 - self.calibration.chances)
        ones, zeros = float(up.sum()), float(down.sum())
        if min(ones, zeros) < LEAST_ROWS:
            return Statistic("roc auc", None, None, None, self.total, f"{_FEW} of a class expected")
        below = np.cumsum(down) - down / 2
        above = ones - np.cumsum(up) + up / 2
        value = float(up @ below) / (ones * zeros)
        slopes = (below - above) / (ones * zeros) - value / ones + value / zeros
        unknown = float(up @ down) / (2 * ones * zeros)
        return self.told("roc auc", None, value, np.tile(slopes, (len(self.names), 1)), unknown)

    def _of_many(self) -> list[Statistic]:
        chance, rows = self.calibration.chances, self.counts.sum(axis=0)
        if self.total < LEAST_ROWS:
            return [Statistic("accuracy", None, None, None, self.total, _FEW)]
        flat = np.ones((len(self.names), BINS))
        found = [self.told("accuracy", None, float(rows @ chance) / self.total, flat / self.total)]
        for place, name in enumerate(self.names):
            if (decided := int(self.counts[place].sum())) >= LEAST_ROWS:
                here = np.zeros((len(self.names), 1))
                here[place] = 1 / decided
                found.append(self.told("precision", name, float(self.counts[place] @ chance) / decided, here * flat))
        brier = float(rows @ (SCORES**2 * (1 - chance) + (1 - SCORES) ** 2 * chance)) / self.total
        return [
            *found, *self._of_truths(self.confusion),
            self.told("brier", None, brier, flat * (1 - 2 * SCORES) / self.total),
        ]  # fmt: skip

    def _of_truths(self, confusion: Confusion | None) -> list[Statistic]:
        """Recall and F1 by class, and their means over all classes that are decided on or expected."""
        if confusion is None:
            why = f"fewer than {LEAST_ROWS} labelled wrong decisions"
            return [Statistic(f"macro {name}", None, None, None, self.total, why) for name in ("recall", "f1")]
        chance, decided = self.calibration.chances, self.counts.sum(axis=1)
        right, wrong = self.counts @ chance, self.counts @ (1 - chance)
        true = right + wrong @ confusion.shares
        one = np.eye(len(self.names))
        found: list[Statistic] = []
        for name, top, bottom in (("recall", 1.0, true), ("f1", 2.0, decided + true)):
            # By class [classes]: the value, what it loses by a row more of its truth, what a hit of each decision adds.
            here = np.maximum(bottom, 1e-9)
            values, by_truth = top * right / here, -top * right / here**2
            slopes = top * one / here + by_truth * (one - confusion.shares)
            told = [place for place in range(len(self.names)) if true[place] >= LEAST_ROWS]
            for place in told:
                error = confusion.error(wrong, by_truth * one[place])
                found.append(self._told_flat(name, self.names[place], values[place], slopes[:, place], error))
            if told and float(true[told].sum()) >= true.sum() - LEAST_ROWS:
                error = confusion.error(wrong, np.where(np.isin(np.arange(len(true)), told), by_truth, 0) / len(told))
                mean = float(values[told].mean())
                found.append(self._told_flat(f"macro {name}", None, mean, slopes[:, told].mean(axis=1), error))
            else:
                found.append(Statistic(f"macro {name}", None, None, None, self.total, f"{_FEW} of a class expected"))
        return found

    def _told_flat(self, name: str, of: str | None, value: float, slopes: Array, unknown: float) -> Statistic:
        """A figure to which a hit adds the same at every score."""
        return self.told(name, of, float(value), slopes[:, None] * np.ones((1, BINS)), unknown)


# Numbers


def _errors(groups: Mapping[int, int], losses: Mapping[int, Moments]) -> list[Statistic]:
    rows, learned = sum(groups.values()), sum(moments.rows for moments in losses.values())
    if min(rows, learned) < LEAST_ROWS:
        why = _FEW if rows < LEAST_ROWS else f"fewer than {LEAST_ROWS} labelled rows"
        return [Statistic(name, None, None, None, rows, why) for name in ("mae", "rmse")]
    value, low, high = _loss(groups, losses, 1)
    square = [sqrt(max(0.0, each)) for each in _loss(groups, losses, 2)]
    return [
        Statistic("mae", None, value, (max(0.0, low), high), rows),
        Statistic("rmse", None, square[0], (square[1], square[2]), rows),
    ]


def _loss(groups: Mapping[int, int], losses: Mapping[int, Moments], power: int) -> tuple[float, float, float]:
    """The mean of a power of the errors' size, and its interval. A group counts one row like all rows in its favour, so
    that one without labels is as uncertain as a single row."""
    whole = Moments(4)
    for moments in losses.values():
        whole.merge(moments)
    total = sum(groups.values())
    value = of_rows = learned = 0.0
    for group, rows in groups.items():
        mine = losses.get(group, Moments(4))
        first, second = (
            (mine.rows * mine.mean(each) + whole.mean(each)) / (mine.rows + 1) for each in (power, 2 * power)
        )
        variance, weight = max(0.0, second - first**2), rows / total
        value += weight * first
        of_rows += weight * variance / total
        learned += weight**2 * variance / (mine.rows + 1)
    error = sqrt(z_ever(total) ** 2 * of_rows + z_ever(whole.rows) ** 2 * learned)
    return value, value - error, value + error
