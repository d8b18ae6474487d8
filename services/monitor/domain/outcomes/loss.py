"""A sequential test of whether a model errs more than before, on labels in the order in which they come.

An e-detector (Shin, Ramdas, Rinaldo 2022) of one track: each bettor bets that the odds of an error (or, for numbers, of
a large error) became so many times what they were. As long as nothing changed, a block of labels is a random sample of
the bag of all labels so far, the block's own included, and by Maclaurin's inequality the mean of `prod f` over such
samples is at most `mean(f)^n`: so `prod f / mean(f)^n` is an e-value without any baseline. Where the accepted share of
errors m is declared, the mean is that under m and the test is the betting test of Waudby-Smith and Ramdas, *Estimating
means of bounded random variables by betting* (2024), of "no more than m". `M <- e (M + n)` sums over all times at which
the change may have begun; the mean of all M passes a budget of rows falsely no more often than once in as many rows.

It bets on increases alone: that a model became better is no alarm. Only the first label of a row counts: a revised one
changes the figures, not a detector's past.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp, inf, log, log2, sqrt
from typing import Any, Literal

from contracts import FeatureEvidence

from .intervals import ALPHA, Interval, about, share
from .labelled import Labelled, Task

NAME = "loss e-detector"

Bins = Mapping[int, int]
"""Rows by loss: 0 right and 1 wrong, or of a number's error the bin of its size."""
Phase = Literal["watching", "doubting", "alarmed"]

_ODDS = (1.25, 1.6, 2.2, 3.5, 7.0)
_FINE, _FAR = 4, 160
"""Sizes of errors are told apart by a quarter of an octave, from 2^-40 to 2^40."""
_WIDTH = (2 ** (0.5 / _FINE) - 2 ** (-0.5 / _FINE)) / sqrt(12)
"""Deviation of errors that are even within a bin, in parts of their mean."""
_DECIDE_ROWS = 5_000
"""So many labels after a change its effect is known well enough to stop waiting for a better interval."""
BLOCK_ROWS = 50
_LEAST_ROWS = 30


def loss_of(row: Labelled) -> int | None:
    """Its bin; None of a row without a label, or whose decision is not known."""
    if row.label is None or row.prediction is None:
        return None
    if isinstance(row.prediction, float) and isinstance(row.label, float):
        size = abs(row.prediction - row.label)
        return -_FAR if size == 0 else max(1 - _FAR, min(_FAR, round(_FINE * log2(size))))
    return int(row.prediction != row.label)


@dataclass(frozen=True)
class LossBlock:
    """Labels that came one after the other."""

    start_s: float
    """When the first of their decisions was made, seconds since the epoch."""
    bins: Bins

    @property
    def rows(self) -> int:
        return sum(self.bins.values())


def blocks_of(losses: Sequence[tuple[float, int]]) -> list[LossBlock]:
    """Of decision times and losses, in order."""
    made: list[LossBlock] = []
    for first in range(0, len(losses), BLOCK_ROWS):
        some = losses[first : first + BLOCK_ROWS]
        made.append(LossBlock(min(at for at, _ in some), _added({}, ((loss, 1) for _, loss in some))))
    return made


@dataclass(frozen=True)
class Bettor:
    """What one bettor has, and what came since the change that it bets on."""

    log_m: float = -inf
    gain: float = 0.0
    began_s: float = 0.0
    since: Bins = field(default_factory=dict[int, int])

    def observe(self, block: LossBlock, won: float) -> "Bettor":
        """After a block that multiplied its stake by e to the `won`."""
        anew = self.gain <= 0
        return Bettor(
            won + _log_add(self.log_m, log(block.rows)), max(self.gain, 0.0) + won,
            block.start_s if anew else self.began_s, _added({} if anew else self.since, block.bins.items()),
        )  # fmt: skip


@dataclass(frozen=True)
class Worse:
    """How much the loss rose: evidence says that, this says whether it matters."""

    metric: Literal["error rate", "mean absolute error"]
    before: float
    now: Interval
    size: float
    """In standard deviations of the loss before."""
    low: float
    high: float

    def beyond(self, tolerance: float) -> bool:
        """It matters. That there is a rise at all is the evidence's to say, which a budget bounds far below 1 %."""
        return self.size > tolerance

    def evidence(self, tolerance: float) -> FeatureEvidence:
        """As it is told."""
        return FeatureEvidence(
            name=self.metric, effect=round(self.size, 6), interval=(round(self.low, 6), round(self.high, 6)),
            tolerance=tolerance, measure="performance",
        )  # fmt: skip


@dataclass(frozen=True)
class LossFinding:
    """The loss rose: an alarm where it matters, a note where it does not."""

    kind: Literal["alarm", "note"]
    since_s: float
    statistic: float
    effect: Worse


@dataclass(frozen=True)
class LossWatch:
    """The state of watching one version's labels. While in doubt or alarmed the bag learns nothing more."""

    task: Task
    phase: Phase = "watching"
    bag: Bins = field(default_factory=dict[int, int])
    bettors: tuple[Bettor, ...] = tuple(Bettor() for _ in _ODDS)
    recent: Bins = field(default_factory=dict[int, int])
    """Since the change began, while in doubt or alarmed."""
    since_s: float = 0.0

    @property
    def statistic(self) -> float:
        """Logarithm of the mean of what the bettors have; an alarm needs the logarithm of the budget."""
        total = -inf
        for bettor in self.bettors:
            total = _log_add(total, bettor.log_m)
        return max(0.0, total - log(len(self.bettors)))

    @property
    def rows(self) -> int:
        """Labels in the bag."""
        return sum(self.bag.values())

    def observe(self, block: LossBlock, threshold: float, expected: float | None) -> "LossWatch":
        """After one more block; `expected` is the accepted share of errors, if one is declared."""
        if self.phase == "alarmed":
            return replace(self, recent=_added(self.recent, block.bins.items()))
        bag = _added(self.bag, block.bins.items())
        bettors = tuple(
            bettor.observe(block, _won(self.task, odds, block.bins, bag, expected))
            for bettor, odds in zip(self.bettors, _ODDS, strict=True)
        )
        if self.phase == "doubting":
            return replace(self, bettors=bettors, recent=_added(self.recent, block.bins.items()))
        seen = replace(self, bag=bag, bettors=bettors)
        if seen.statistic < threshold:
            return seen
        best = max(bettors, key=lambda bettor: bettor.gain)
        before = {loss: rows - best.since.get(loss, 0) for loss, rows in bag.items()}
        return replace(seen, phase="doubting", recent=best.since, since_s=best.began_s, bag=before)

    def judge(self, tolerance: float, expected: float | None) -> tuple["LossWatch", LossFinding | None]:
        """Decide on a doubt: an alarm, a note, or (while the interval leaves both open) nothing yet."""
        if self.phase != "doubting" or not self.recent:
            return self, None
        effect = worse(self.task, self.bag, self.recent, expected)
        if effect is None:
            return self._without_normal(expected), None
        late = sum(self.recent.values()) >= _DECIDE_ROWS
        if effect.beyond(tolerance):
            return replace(self, phase="alarmed"), LossFinding("alarm", self.since_s, self.statistic, effect)
        if late or effect.high < tolerance:
            finding = LossFinding("note", self.since_s, self.statistic, effect)
            return LossWatch(self.task, bag=_added(self.bag, self.recent.items())), finding
        return self, None

    def _without_normal(self, expected: float | None) -> "LossWatch":
        """Itself while too few labels came since; where too few came before, they are a normal with those since."""
        has_normal = expected is not None and self.task != "regression"
        if has_normal or self.rows >= _LEAST_ROWS or sum(self.recent.values()) < _LEAST_ROWS:
            return self
        return LossWatch(self.task, bag=_added(self.bag, self.recent.items()))

    def accepted(self) -> "LossWatch":
        """What came since the change is the new normal."""
        return LossWatch(self.task, bag=self.recent or self.bag)

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        bettors = [[None if b.log_m == -inf else b.log_m, b.gain, b.began_s, _listed(b.since)] for b in self.bettors]
        return {
            "task": self.task, "phase": self.phase, "bag": _listed(self.bag), "bettors": bettors,
            "recent": _listed(self.recent), "since_s": self.since_s,
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "LossWatch":
        """What `to_json` wrote."""
        bettors = tuple(
            Bettor(-inf if log_m is None else log_m, gain, began_s, dict(since))
            for log_m, gain, began_s, since in data["bettors"]
        )
        return cls(data["task"], data["phase"], dict(data["bag"]), bettors, dict(data["recent"]), data["since_s"])


def _won(task: Task, odds: float, bins: Bins, bag: Bins, expected: float | None) -> float:
    """Logarithm of the e-value of a block, with the block in the bag."""
    losses = _losses(task, bag)
    stakes = {loss: 1 + (odds - 1) * losses[loss] for loss in bag}
    if expected is not None and task != "regression":
        fair = 1 + (odds - 1) * expected
    else:
        fair = sum(rows * stakes[loss] for loss, rows in bag.items()) / sum(bag.values())
    return sum(rows * log(stakes[loss]) for loss, rows in bins.items()) - sum(bins.values()) * log(fair)


def _losses(task: Task, bag: Bins) -> dict[int, float]:
    """0 and 1 of classes; of numbers the middle rank of the error's size among all in the bag."""
    if task != "regression":
        return {loss: float(loss) for loss in bag}
    total, passed, ranks = sum(bag.values()), 0, dict[int, float]()
    for loss in sorted(bag):
        ranks[loss] = (passed + bag[loss] / 2) / total
        passed += bag[loss]
    return ranks


def worse(task: Task, before: Bins, now: Bins, expected: float | None) -> Worse | None:
    """How much it rose from `before`, or the accepted share of errors, to `now`; None of too few labels."""
    half = ALPHA / 2
    if task == "regression":
        old, new = (_mean_size(each, half) for each in (before, now))
        if old is None or new is None:
            return None
        # Errors of one bin differ by less than its width; of a model that never erred, an error is all there is.
        sd = max(sqrt(_variance(before)), old.value * _WIDTH) or new.value
        return _as_worse("mean absolute error", old, new, sd) if sd else None
    new = share(now.get(1, 0), sum(now.values()), half)
    rows = sum(before.values())
    if expected is not None:
        old = Interval(expected, expected, expected, 0)
    elif rows >= _LEAST_ROWS:
        old = share(before.get(1, 0), rows, half)
    else:
        return None
    usual = old.value if 0 < old.value < 1 else (old.low + old.high) / 2
    return _as_worse("error rate", old, new, sqrt(max(usual * (1 - usual), 1e-6)))


def _as_worse(metric: Literal["error rate", "mean absolute error"], old: Interval, new: Interval, sd: float) -> Worse:
    low, high = (new.low - old.high) / sd, (new.high - old.low) / sd
    return Worse(metric, old.value, new, (new.value - old.value) / sd, low, high)


def _size(loss: int) -> float:
    return 0.0 if loss == -_FAR else exp(loss / _FINE * log(2))


def _mean_size(bins: Bins, alpha: float) -> Interval | None:
    rows = sum(bins.values())
    mean = sum(count * _size(loss) for loss, count in bins.items()) / max(1, rows)
    return about(mean, _variance(bins), rows, alpha)


def _variance(bins: Bins) -> float:
    rows = max(1, sum(bins.values()))
    mean = sum(count * _size(loss) for loss, count in bins.items()) / rows
    return sum(count * (_size(loss) - mean) ** 2 for loss, count in bins.items()) / rows


def _added(bins: Bins, more: Iterable[tuple[int, int]]) -> dict[int, int]:
    made = dict(bins)
    for loss, rows in more:
        made[loss] = made.get(loss, 0) + rows
    return made


def _listed(bins: Bins) -> list[tuple[int, int]]:
    return sorted((loss, rows) for loss, rows in bins.items() if rows)


def _log_add(one: float, other: float) -> float:
    high, low = max(one, other), min(one, other)
    return high if low == -inf else high + log(1 + exp(low - high))
