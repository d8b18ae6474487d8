"""How decisions keep business rules: counts that merge, and whether a rule is broken.

A rule that nothing may break is broken by one row. One with a tolerance needs evidence, since windows are small: the
e-detector of `quality` for one share, against "no more than the tolerance".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from heapq import nsmallest
from math import exp, log, log1p
from typing import Any, Literal, NamedTuple, get_args

from contracts import Rule, RuleExample, RuleReport

EXAMPLES = 3
_BETS = (0.02, 0.06, 0.2, 0.5, 0.9)
"""Of the way from the tolerance to 1."""
_CLEAN, _BLIND = 3, 3
"""Windows in a row that must keep a rule until it is over, or of which no row was looked at, or could be evaluated,
until that is told."""
_MOST = 1e4
Why = Literal["", "unseen", "blind", "broken"]
"""Of an alert: there was time for no row, no row could be evaluated, or rows break it. What is further on is worse."""
_WORSE: tuple[Why, ...] = get_args(Why)


class Key(NamedTuple):
    """A rule; one that says something else is another one."""

    name: str
    must: str


class Evidence(NamedTuple):
    """A decision that broke a rule, the earliest first."""

    at_s: float
    inference_id: str
    row: int


@dataclass(frozen=True)
class Tally:
    """Rows that were looked at, that broke it, that it has no truth for; and the first decisions that broke it."""

    rows: int = 0
    broken: int = 0
    undecided: int = 0
    first: tuple[Evidence, ...] = ()

    @classmethod
    def of(cls, rows: int, broken: int, undecided: int, evidence: Iterable[Evidence]) -> "Tally":
        """Of evidence in any order, one row of a decision."""
        return cls(rows, broken, undecided, tuple(nsmallest(EXAMPLES, evidence)))

    def merge(self, other: "Tally") -> "Tally":
        """Of the rows of both: the same whichever way rows were split."""
        return Tally.of(
            self.rows + other.rows, self.broken + other.broken, self.undecided + other.undecided,
            (*self.first, *other.first),
        )  # fmt: skip

    @property
    def decided(self) -> int:
        """Rows that kept or broke it."""
        return self.rows - self.undecided

    def to_json(self) -> list[Any]:
        """As it is stored."""
        return [self.rows, self.broken, self.undecided, [list(each) for each in self.first]]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> "Tally":
        """What `to_json` wrote."""
        rows, broken, undecided, first = data
        return cls(rows, broken, undecided, tuple(Evidence(*each) for each in first))


@dataclass(frozen=True)
class Rules:
    """What was counted of each rule."""

    by: Mapping[Key, Tally] = field(default_factory=dict[Key, Tally])

    def merge(self, other: "Rules") -> "Rules":
        """Of the rows of both."""
        if not self.by or not other.by:
            return self if self.by else other
        none = Tally()
        every = {**self.by, **other.by}
        return Rules({key: self.by.get(key, none).merge(other.by.get(key, none)) for key in every})

    def reports(self) -> tuple[RuleReport, ...]:
        """In words of the contract."""
        return tuple(
            RuleReport(
                name=key.name, must=key.must, rows=tally.rows, broken=tally.broken, undecided=tally.undecided,
                examples=examples(tally.first),
            )
            for key, tally in self.by.items()
        )  # fmt: skip

    @classmethod
    def reported(cls, reports: Iterable[RuleReport]) -> "Rules":
        """What `reports` told."""
        made: dict[Key, Tally] = {}
        for each in reports:
            first = [Evidence(e.received_at.timestamp(), e.inference_id, e.row) for e in each.examples]
            made[Key(each.name, each.must)] = Tally.of(each.rows, each.broken, each.undecided, first)
        return cls(made)

    def to_json(self) -> list[Any]:
        """As it is stored."""
        return [[*key, tally.to_json()] for key, tally in self.by.items()]

    @classmethod
    def from_json(cls, data: Iterable[Any] | None) -> "Rules":
        """What `to_json` wrote; of a part that was stored before there were rules, none."""
        return cls({Key(name, must): Tally.from_json(tally) for name, must, tally in data or ()})


def examples(first: Iterable[Evidence]) -> tuple[RuleExample, ...]:
    """As they are told."""
    return tuple(
        RuleExample(inference_id=each.inference_id, row=each.row, received_at=datetime.fromtimestamp(each.at_s, UTC))
        for each in first
    )


@dataclass(frozen=True)
class Keeping:
    """Where the watch of one rule stands."""

    must: str
    tolerance: float
    why: Why = ""
    """What its alert tells; nothing where none is open."""
    severity: str = "warning"
    """Of the alert."""
    since_s: float = 0.0
    """Where the first window began that is in `seen`."""
    seen: Tally = field(default_factory=Tally)
    """Rows since the rule began to be broken, or since evidence of it gathers."""
    clean: int = 0
    blind: int = 0
    unseen: int = 0
    last_s: float = 0.0
    """The start of the last window that was counted as clean, blind or unseen: several versions may answer in one."""
    log_m: tuple[float, ...] = ()
    """Evidence that more than the tolerance break it, one for each bet."""

    @property
    def told(self) -> bool:
        """Whether its alert is open."""
        return bool(self.why)

    def is_of(self, rule: Rule) -> bool:
        """Whether it is of this rule as it is now, whatever the severity of its alert."""
        return (self.must, self.tolerance) == (rule.must, rule.tolerance)

    def is_news(self, before: "Keeping") -> bool:
        """Whether its alert must be raised: for the first time, or since it tells of what is worse, or with another
        severity."""
        return self.told and (_WORSE.index(self.why) > _WORSE.index(before.why) or self.severity != before.severity)

    def observe(self, tally: Tally, start_s: float, budget_rows: int) -> "Keeping":
        """After one more window, or rows that came after one was closed. Falsely told no more often than once in a
        budget of rows, whatever share below the tolerance breaks it."""
        if not tally.rows:
            return self._overlooked(start_s)
        log_m = _won(self.log_m, tally, self.tolerance) if self.tolerance and tally.decided else self.log_m
        evidence = _mean(log_m)
        broken, blind = tally.broken > self.tolerance * tally.decided, not tally.decided
        gathers = self.told or broken or blind or (bool(log_m) and evidence > log(max(1, tally.decided)) + 1e-9)
        # What could not be looked at is told no longer once rows can be: what they say begins with them.
        before = Tally() if self.why in ("unseen", "blind") and not blind and not self.seen.decided else self.seen
        after = replace(
            self, log_m=log_m, seen=before.merge(tally) if gathers else Tally(),
            since_s=start_s if not before.rows and not (self.told and blind) else self.since_s,
            last_s=max(self.last_s, start_s), unseen=0,
            clean=self._counted(self.clean, start_s, counts=not broken and not blind),
            blind=self._counted(self.blind, start_s, counts=blind),
        )  # fmt: skip
        sure = tally.broken > 0 if not self.tolerance else evidence >= log(budget_rows)
        if self.told and after.clean >= _CLEAN:
            return Keeping(self.must, self.tolerance, severity=self.severity, last_s=after.last_s)
        return after._telling("broken" if sure else "blind" if after.blind >= _BLIND else "")

    def _overlooked(self, start_s: float) -> "Keeping":
        """After a window whose rows there was no time for: it neither keeps the rule nor breaks it."""
        unseen = self._counted(self.unseen, start_s, counts=True)
        since_s = start_s if not self.told and not self.seen.rows and not self.unseen else self.since_s
        after = replace(self, unseen=unseen, since_s=since_s, last_s=max(self.last_s, start_s))
        return after._telling("unseen" if unseen >= _BLIND else "")

    def _telling(self, why: Why) -> "Keeping":
        return replace(self, why=max(why, self.why, key=_WORSE.index))

    def _counted(self, before: int, start_s: float, *, counts: bool) -> int:
        if not counts:
            return 0
        return before + (start_s > self.last_s or not before)

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return asdict(self) | {"seen": self.seen.to_json(), "log_m": list(self.log_m)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Keeping":
        """What `to_json` wrote."""
        plain: dict[str, Any] = {**data, "seen": Tally.from_json(data["seen"]), "log_m": tuple(data["log_m"])}
        if plain.pop("told", False):  # stored before it was known why
            plain["why"] = "broken" if plain["seen"].broken else "blind"
        return cls(**plain)


def _won(log_m: Sequence[float], tally: Tally, tolerance: float) -> tuple[float, ...]:
    """What bettors on larger shares hold: `M <- e (M + n)` of a window of n rows."""
    kept, made = tally.decided - tally.broken, list[float]()
    for bet, before in zip(_BETS, log_m or (None,) * len(_BETS), strict=True):
        share = tolerance + (1 - tolerance) * bet
        # (1 - share) / (1 - tolerance) is 1 - bet, which stays above 0 where the tolerance is next to 1.
        won = tally.broken * (log(share) - log(tolerance)) + kept * log1p(-bet)
        start = log(tally.decided)
        held = start if before is None else max(before, start) + log1p(exp(-abs(before - start)))
        made.append(max(-_MOST, min(_MOST, won + held)))
    return tuple(made)


def _mean(log_m: Sequence[float]) -> float:
    if not log_m:
        return -_MOST
    most = max(log_m)
    return most + log(sum(exp(each - most) for each in log_m) / len(log_m))
