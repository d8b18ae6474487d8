"""What two versions said of the same requests, whatever became of it: counts that merge."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.kit.groups import Grouping, class_name

from ..latency import LatencyCounts
from ..outcomes.apart import Apart
from ..outcomes.labelled import Task
from .near import Near, Spread, known

Array = NDArray[Any]
Cells = dict[tuple[str, str], int]
"""Rows by what callers were told and what the other version said."""

_KINDS = 20
"""Kinds of failure that are told apart."""
_OTHER = "other"


@dataclass
class Group:
    """Rows of one group of a segment."""

    rows: int = 0
    equal: int = 0
    """Classes alone."""
    size: Spread = field(default_factory=Spread)
    """Of the differences of numbers."""

    def merge(self, other: "Group") -> None:
        """Count what the other one has counted."""
        self.rows += other.rows
        self.equal += other.equal
        self.size.merge(other.size)


Groups = dict[str, dict[str, Group]]
"""By segment and group; only of segments whose groups are known before the first row."""


@dataclass
class Answers:
    """Of the requests that callers were answered and the other version got, too."""

    task: Task | None = None
    """None while no row could be compared."""
    requests: int = 0
    """That both answered."""
    unknown: int = 0
    """Rows that both answered, but not both decisions are known, or they are no decisions about the same thing."""
    failed: dict[str, int] = field(default_factory=dict[str, int])
    """By kind of refusal, rows that the other version did not answer."""
    cells: Cells = field(default_factory=Cells)
    apart: Apart = field(default_factory=Apart)
    near: Near = field(default_factory=Near)
    """Of numbers, or of the scores of two classes."""
    groups: Groups = field(default_factory=Groups)
    told_ms: LatencyCounts = field(default_factory=lambda: LatencyCounts({}))
    said_ms: LatencyCounts = field(default_factory=lambda: LatencyCounts({}))

    @property
    def rows(self) -> int:
        """That were compared."""
        return self.near.rows if self.task == "regression" else sum(self.cells.values())

    @property
    def equal(self) -> int:
        """Of them those of which both decided the same class."""
        return sum(rows for (told, said), rows in self.cells.items() if told == said)

    @property
    def failures(self) -> int:
        """Rows that the other version did not answer."""
        return sum(self.failed.values())

    def fail(self, kind: str, rows: int) -> None:
        """Rows that it did not answer."""
        kind = kind if kind in self.failed or len(self.failed) < _KINDS else _OTHER
        self.failed[kind] = self.failed.get(kind, 0) + rows

    def count_classes(
        self,
        task: Task,
        told: Array,
        said: Array,
        scores: tuple[Array, Array] | None,
        groups: Mapping[str, Sequence[Any]],
    ) -> None:
        """Rows of which both decided a class; `groups` by segment, of each row, None where it is in none."""
        self.task = task
        pairs = list(zip(names(told), names(said), strict=True))
        found = Counter((one, other) for one, other in pairs if one is not None and other is not None)
        self.unknown += len(pairs) - found.total()
        self._add(found, moved=self.apart.see(sorted({name for pair in found for name in pair})))
        if scores is not None:
            there = known(*scores)
            self.near.merge(Near.of(scores[0][there], scores[1][there]))
        for segment, of_rows in groups.items():
            mine = self.groups.setdefault(segment, {})
            for (group, same), rows in Counter(
                (group, one == other) for group, (one, other) in zip(of_rows, pairs, strict=True)
                if group is not None and one is not None and other is not None
            ).items():  # fmt: skip
                mine.setdefault(group, Group()).merge(Group(rows, rows if same else 0))

    def count_numbers(self, told: Array, said: Array, groups: Mapping[str, Sequence[Any]]) -> None:
        """Rows of which both predicted a number."""
        self.task = "regression"
        there = known(told, said)
        self.unknown += int((~there).sum())
        self.near.merge(Near.of(told[there], said[there]))
        size = np.abs(said - told)
        for segment, of_rows in groups.items():
            mine = self.groups.setdefault(segment, {})
            column = np.array([each or "" for each in of_rows], object)
            for group in {each for each in of_rows if each is not None}:
                spread = Spread.of(size[there & (column == group)])
                mine.setdefault(group, Group()).merge(Group(spread.rows, 0, spread))

    def _add(self, cells: Mapping[tuple[str, str], int], *, moved: bool) -> None:
        """`moved`: other classes are held apart than were so far."""
        if moved:
            before, self.cells = self.cells, {}
            self._place(before)
        self._place(cells)

    def _place(self, cells: Mapping[tuple[str, str], int]) -> None:
        for pair, rows in cells.items():
            place = self.apart.place(*pair)
            self.cells[place] = self.cells.get(place, 0) + rows

    def merge(self, other: "Answers") -> None:
        """Count what the other one has counted."""
        self.task = self.task or other.task
        self.requests += other.requests
        self.unknown += other.unknown
        for kind, rows in other.failed.items():
            self.fail(kind, rows)
        self._add(other.cells, moved=self.apart.merge(other.apart))
        self.near.merge(other.near)
        for segment, groups in other.groups.items():
            for name, group in groups.items():
                self.groups.setdefault(segment, {}).setdefault(name, Group()).merge(group)
        self.told_ms, self.said_ms = self.told_ms.merge(other.told_ms), self.said_ms.merge(other.said_ms)

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "t": self.task, "n": self.requests, "u": self.unknown, "f": self.failed,
            "c": [[*pair, rows] for pair, rows in sorted(self.cells.items())], "a": self.apart.to_json(),
            "d": self.near.to_json(), "l": [sorted(each.buckets.items()) for each in (self.told_ms, self.said_ms)],
            "g": {segment: {name: [each.rows, each.equal, each.size.to_json()] for name, each in sorted(groups.items())}
                  for segment, groups in sorted(self.groups.items())},
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Answers":
        """What `to_json` wrote."""
        cells = {(told, said): rows for told, said, rows in data["c"]}
        told_ms, said_ms = (LatencyCounts(dict(each)) for each in data["l"])
        groups = {
            segment: {name: Group(rows, equal, Spread.from_json(size)) for name, (rows, equal, size) in each.items()}
            for segment, each in data["g"].items()
        }
        apart = Apart.from_json(data["a"], {name for pair in cells for name in pair})
        return cls(
            data["t"], data["n"], data["u"], dict(data["f"]), cells, apart, Near.from_json(data["d"]), groups, told_ms,
            said_ms,
        )  # fmt: skip


def names(values: Array) -> list[str | None]:
    """Of decided classes; None of what is none."""
    return _each(values, class_name)


def groups_of(grouping: Grouping, values: Array) -> list[str | None]:
    """The group of each row's value; None where there is no value."""
    return _each(values, grouping.group)


def _each(values: Iterable[Any], name: Any) -> list[str | None]:
    """There are few values and many rows."""
    known: dict[Any, str | None] = {}
    found: list[str | None] = []
    for value in values.tolist() if isinstance(values, np.ndarray) else values:
        if value not in known:
            known[value] = name(value) if _is_there(value) else None
        found.append(known[value])
    return found


def _is_there(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, int | float) and abs(value) < float("inf"))
