"""Which classes a tally tells apart: known before the first row, or by name, so that no split of the rows matters."""

from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.kit.groups import OTHER

CLASSES_AT_MOST = 30
"""Classes that are told apart; rows of all others are known as right or wrong alone."""
REST = "\0rest"
"""Stands for any class that is not told apart; no class has a name like it."""
_WRONG, _UNKNOWN = "\0wrong", "\0unknown"
"""In place of the label, where neither class is told apart: another one, or it is not known which (the first
release counted such rows as `OTHER` alone)."""

Place = tuple[str, str]


@dataclass
class Apart:
    """Those of the baseline, and of all others the first ones by name that ever came, as far as there is place."""

    declared: frozenset[str] = frozenset()
    others: list[str] = field(default_factory=list[str])
    """In order, one more than there is place for: whatever is merged in which order, the first ones are the same."""
    old: bool = False
    """There are rows that the first release counted, which knew some classes as `OTHER` alone."""

    @property
    def _at_most(self) -> int:
        return max(0, CLASSES_AT_MOST - len(self.declared))

    @property
    def full(self) -> bool:
        """Not all classes that came are told apart."""
        return self.old or len(self.others) > self._at_most

    def tells(self, name: str) -> bool:
        """Whether a class that came is told apart."""
        return name in self.declared or name in self.others[: self._at_most]

    def see(self, names: Iterable[str]) -> bool:
        """Take note of classes; whether one that was told apart no longer is."""
        before = set(self.others[: self._at_most])
        for name in names:
            known = name in self.declared or name in self.others or (self.old and name == OTHER)
            if not known and not name.startswith("\0"):
                insort(self.others, name)
                del self.others[self._at_most + 1 :]
        return bool(before.difference(self.others[: self._at_most]))

    def place(self, prediction: str, label: str) -> Place:
        """The cell of a row; whether it is right can be read from it: both names are the same then."""
        if self.old and prediction == label == OTHER:
            return REST, _UNKNOWN
        decided, true = self._of(prediction), self._of(label)
        return (REST, _WRONG) if decided == true == REST and prediction != label else (decided, true)

    def _of(self, name: str) -> str:
        return name if name.startswith("\0") or self.tells(name) else REST

    def merge(self, other: "Apart") -> bool:
        """What both know; whether a class that was told apart no longer is. One version's tallies have the same classes
        declared, or are too old to have any."""
        before = self.others[: self._at_most]
        self.declared |= other.declared
        self.old |= other.old
        seen = {*self.others, *other.others} - self.declared
        self.others = sorted(seen)[: self._at_most + 1]
        return not all(map(self.tells, before))

    def to_json(self) -> list[Any]:
        """As it is stored; as long as there is place for all, the cells name them."""
        return [sorted(self.declared), self.others if self.full else [], self.old]

    @classmethod
    def from_json(cls, data: list[Any], names: set[str]) -> "Apart":
        """What `to_json` wrote, with the names in cells."""
        made = cls(frozenset(data[0]), list(data[1]), data[2])
        made.see(names)
        return made

    @classmethod
    def of_first_release(cls, names: set[str]) -> "Apart":
        """Of the names in cells alone: where there were too many, all further ones had become `OTHER`."""
        old = len(names) > CLASSES_AT_MOST and OTHER in names
        return cls(frozenset(), sorted(names - {OTHER} if old else names)[: CLASSES_AT_MOST + 1], old)


def is_known(place: Place) -> bool:
    """Whether the rows of a cell are known to be right or wrong."""
    return place[1] != _UNKNOWN


def told(place: Place) -> set[str]:
    """The classes that a cell names."""
    return {name for name in place if not name.startswith("\0")}


def rest_of(rows: Mapping[Place, int]) -> int:
    """Rows of cells that do not name both classes."""
    return sum(count for place, count in rows.items() if any(name.startswith("\0") for name in place))
