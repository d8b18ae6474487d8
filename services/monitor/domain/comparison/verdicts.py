"""Which of two versions was right about the same rows: counts that a revised row leaves again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..outcomes.labelled import Labelled, Task
from ..outcomes.sums import Moments


@dataclass
class Right:
    """Rows of known truth that both decided."""

    both: int = 0
    told: int = 0
    """Of which what callers were told alone was right."""
    said: int = 0
    """Of which the other version alone was right."""
    neither: int = 0
    told_error: Moments = field(default_factory=lambda: Moments(1))
    """Of numbers, the size of the error of what callers were told; and of the other version."""
    said_error: Moments = field(default_factory=lambda: Moments(1))
    more: Moments = field(default_factory=lambda: Moments(2))
    """By how much the other one's is larger, row by row."""

    @property
    def rows(self) -> int:
        """That are counted."""
        return self.both + self.told + self.said + self.neither + self.more.rows

    def add(self, told: str | float, said: str | float, truth: str | float, sign: int) -> None:
        """Count a row, or (`sign` -1) take one out that was counted."""
        if isinstance(told, float) and isinstance(said, float) and isinstance(truth, float):
            errors = abs(told - truth), abs(said - truth)
            self.told_error.add(errors[0], sign)
            self.said_error.add(errors[1], sign)
            self.more.add(errors[1] - errors[0], sign)
        elif told == truth:
            self.both, self.told = (self.both + sign, self.told) if said == truth else (self.both, self.told + sign)
        elif said == truth:
            self.said += sign
        else:
            self.neither += sign

    def merge(self, other: "Right") -> None:
        """Count what the other one has counted."""
        self.both += other.both
        self.told += other.told
        self.said += other.said
        self.neither += other.neither
        self.told_error.merge(other.told_error)
        self.said_error.merge(other.said_error)
        self.more.merge(other.more)

    def to_json(self) -> list[Any]:
        """As it is stored."""
        sums = [each.to_json() for each in (self.told_error, self.said_error, self.more)] if self.more.rows else []
        return [self.both, self.told, self.said, self.neither, *sums]

    @classmethod
    def from_json(cls, data: list[Any]) -> "Right":
        """What `to_json` wrote."""
        return cls(*data[:4], *map(Moments.from_json, data[4:]))


@dataclass
class Verdicts:
    """Of the rows of a window."""

    task: Task | None = None
    whole: Right = field(default_factory=Right)
    unknown: int = 0
    """Rows of known truth, of which not both decisions are known."""
    groups: dict[str, dict[str, Right]] = field(default_factory=dict[str, dict[str, Right]])
    """By segment and group, as the row was counted in its window."""

    def add(self, row: Labelled, task: Task, sign: int = 1) -> None:
        """Count a shadow's row with what callers were told of it, or take one out; others count for nothing."""
        if row.answered is None or row.label is None:
            return
        self.task = task
        told, said, truth = row.answered[1], row.prediction, row.label
        if told is None or said is None or len({type(each) for each in (told, said, truth)}) > 1:
            self.unknown += sign
            return
        self.whole.add(told, said, truth, sign)
        for segment, group in row.segments.items():
            groups = self.groups.setdefault(segment, {})
            mine = groups.setdefault(group, Right())
            mine.add(told, said, truth, sign)
            if not mine.rows:
                del groups[group]

    def merge(self, other: "Verdicts") -> None:
        """Count what the other one has counted."""
        self.task = self.task or other.task
        self.whole.merge(other.whole)
        self.unknown += other.unknown
        for segment, groups in other.groups.items():
            for name, right in groups.items():
                self.groups.setdefault(segment, {}).setdefault(name, Right()).merge(right)

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        groups = {
            s: {name: each.to_json() for name, each in sorted(of.items())} for s, of in sorted(self.groups.items())
        }
        return {"t": self.task, "w": self.whole.to_json(), "u": self.unknown, "g": groups}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Verdicts":
        """What `to_json` wrote."""
        groups = {s: {name: Right.from_json(each) for name, each in of.items()} for s, of in data["g"].items()}
        return cls(data["t"], Right.from_json(data["w"]), data["u"], groups)
