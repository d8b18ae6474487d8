"""Groups of a column: classes by name, numbers by the quarters of the reference. Pure.

Whoever tells figures by group, or keeps counts of groups, groups alike.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from contracts import Column, NumericProfile
from contracts.profile import CategoricalProfile, ColumnProfile

GROUPS_AT_MOST = 20
"""Values of one segment that are told apart; the rest is `OTHER`."""
PAIRED_AT_MOST = 10
"""Of them so many are told apart where a segment is paired with another one."""
OTHER = "other"
_TEXT_AT_MOST = 80


@dataclass(frozen=True)
class Grouping:
    """Which group a value of a segment belongs to."""

    names: tuple[str, ...] = ()
    cuts: tuple[float, ...] = ()
    common: tuple[str, ...] = ()
    """Of the names the commonest, which are told apart in pairs of segments."""

    @classmethod
    def of(cls, column: Column, profile: ColumnProfile | None) -> "Grouping":
        """The declared categories, else the reference's commonest classes, else its quarters; else as they come."""
        rows: dict[str, int] = {}
        if isinstance(profile, CategoricalProfile):
            rows = dict(zip(map(class_name, profile.classes), profile.counts, strict=True))

        def common(names: Iterable[str]) -> tuple[str, ...]:
            return tuple(sorted(names, key=lambda name: -rows.get(name, 0)))

        if column.categories:
            names = tuple(map(class_name, column.categories))[:GROUPS_AT_MOST]
            return cls(names, common=common(names)[:PAIRED_AT_MOST])
        if isinstance(profile, CategoricalProfile):
            names = common(rows)[:GROUPS_AT_MOST]
            return cls(names, common=names[:PAIRED_AT_MOST])
        return cls(cuts=_quarters(profile)) if isinstance(profile, NumericProfile) else cls()

    @property
    def declared(self) -> bool:
        """Whether its groups are known before the first row: no others come, whatever the rows say."""
        return bool(self.names or self.cuts)

    @property
    def sizes(self) -> tuple[int, int]:
        """How many groups there are beside `OTHER`: by themselves, and in pairs."""
        spans = len(self.cuts) + 1 if self.cuts else 0
        return spans or len(self.names), spans or len(self.common)

    def group(self, value: float | str) -> str:
        """Its name: that of the class, or the span that holds a number."""
        if self.cuts and isinstance(value, float | int):
            below = sum(1 for cut in self.cuts if cut < value)
            return _spans(self.cuts)[below]
        name = class_name(value)
        return OTHER if self.names and name not in self.names else name

    def paired(self, group: str) -> str:
        """What one of its groups is called in pairs."""
        return group if self.cuts or group in self.common else OTHER


def _quarters(profile: NumericProfile) -> tuple[float, ...]:
    """Edges of the profile nearest to its quartiles."""
    total, passed, cuts = sum(profile.counts), 0, list[float]()
    for count, edge in zip(profile.counts, profile.edges, strict=False):
        before, passed = passed, passed + count
        if any(before < total * share <= passed for share in (0.25, 0.5, 0.75)):
            cuts.append(float(edge))
    return tuple(cuts)


def _spans(cuts: tuple[float, ...]) -> list[str]:
    inner = [f"{low:g} to {high:g}" for low, high in pairwise(cuts)]
    return [f"up to {cuts[0]:g}", *inner, f"over {cuts[-1]:g}"]


def class_name(value: float | str | bool) -> str:
    """The same for 1, 1.0 and "1": outsiders report a class as they like."""
    if isinstance(value, str):
        return value[:_TEXT_AT_MOST]
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))
