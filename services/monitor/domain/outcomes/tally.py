"""Exact counts of labelled rows that merge, and that a revised row leaves again: what every figure is made from."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log
from typing import Any

import orjson

from services.kit.groups import GROUPS_AT_MOST, OTHER

from .apart import Apart, told
from .labelled import Labelled
from .sums import Moments, fixed

GROUPS = 10
"""Calibration compares score and truth in so many groups of scores of equal width."""
FINE, FAR = 32, 12
"""Scores are binned in log-odds: so many bins a unit, and so many units to either side of evens."""
_COARSE = 8
"""Of groups, which are many, so many bins make one."""
_NEAR_NONE = 1e-15
"""Logarithms of a score are taken no nearer to 0 and 1 than this."""


def score_bin(score: float) -> int:
    """1/32 wide in log-odds, so that rare classes with small scores are told apart, too."""
    inner = min(max(score, 1e-6), 1 - 1e-6)
    return max(-FAR * FINE, min(FAR * FINE, round(log(inner / (1 - inner)) * FINE)))


@dataclass
class Scores:
    """Of the rows of one cell that have a score."""

    score: Moments = field(default_factory=lambda: Moments(4))
    log_score: Moments = field(default_factory=lambda: Moments(2))
    log_rest: Moments = field(default_factory=lambda: Moments(2))
    """Of the logarithm of one minus the score."""
    bins: dict[int, int] = field(default_factory=dict[int, int])
    groups: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    """By group of calibration: rows, and the sum of their scores."""

    def add(self, score: float, sign: int, *, coarse: bool = False) -> None:
        """Count a score, or take it out; in `coarse` bins an eighth as many."""
        self.score.add(score, sign)
        self.log_score.add(log(max(score, _NEAR_NONE)), sign)
        self.log_rest.add(log(max(1 - score, _NEAR_NONE)), sign)
        place = score_bin(score)
        _count(self.bins, round(place / _COARSE) * _COARSE if coarse else place, sign)
        group = self.groups.setdefault(min(GROUPS - 1, int(score * GROUPS)), [0, 0])
        group[0] += sign
        group[1] += sign * fixed(score)

    def merge(self, other: "Scores") -> None:
        """Count what the other one has counted."""
        self.score.merge(other.score)
        self.log_score.merge(other.log_score)
        self.log_rest.merge(other.log_rest)
        for place, rows in other.bins.items():
            _count(self.bins, place, rows)
        for place, (rows, total) in other.groups.items():
            group = self.groups.setdefault(place, [0, 0])
            group[0] += rows
            group[1] += total

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        groups = [[place, rows, f"{total:x}"] for place, (rows, total) in sorted(self.groups.items()) if rows]
        return {
            "s": self.score.to_json(), "l": self.log_score.to_json(), "r": self.log_rest.to_json(),
            "b": sorted(self.bins.items()), "g": groups,
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Scores":
        """What `to_json` wrote."""
        groups = {place: [rows, int(total, 16)] for place, rows, total in data["g"]}
        score, log_score, log_rest = (Moments.from_json(data[name]) for name in "slr")
        return cls(score, log_score, log_rest, dict(data["b"]), groups)


@dataclass
class Cell:
    """Rows of one prediction and one label."""

    rows: int = 0
    scores: Scores = field(default_factory=Scores)


@dataclass
class Errors:
    """Of predicted numbers: prediction minus truth, its size, and the truth itself."""

    error: Moments = field(default_factory=lambda: Moments(4))
    size: Moments = field(default_factory=lambda: Moments(2))
    truth: Moments = field(default_factory=lambda: Moments(4))

    def add(self, prediction: float, label: float, sign: int) -> None:
        """Count a row, or take it out."""
        self.error.add(prediction - label, sign)
        self.size.add(abs(prediction - label), sign)
        self.truth.add(label, sign)

    def merge(self, other: "Errors") -> None:
        """Count what the other one has counted."""
        self.error.merge(other.error)
        self.size.merge(other.size)
        self.truth.merge(other.truth)


@dataclass
class Tally:
    """What is known of some rows with an outcome."""

    rows: int = 0
    cells: dict[tuple[str, str], Cell] = field(default_factory=dict[tuple[str, str], Cell])
    """By prediction and label, where classes are predicted."""
    errors: Errors = field(default_factory=Errors)
    value: Moments = field(default_factory=lambda: Moments(2))
    """What the outcomes said that the decisions were worth."""
    kpis: dict[str, Moments] = field(default_factory=dict[str, Moments])
    untold: dict[str, int] = field(default_factory=dict[str, int])
    """By KPI, rows that its expression has no value for."""
    apart: Apart = field(default_factory=Apart)
    """Which classes have cells of their own."""
    undecided: int = 0
    """Rows whose decision is not known: of them the value and the KPIs are counted alone."""

    @classmethod
    def of(cls, classes: frozenset[str]) -> "Tally":
        """Of a version whose baseline has these classes."""
        return cls(apart=Apart(classes))

    def tells(self, name: str) -> bool:
        """Whether rows of a class can be told from those of others."""
        return not self.apart.full or self.apart.tells(name)

    @property
    def labelled(self) -> int:
        """Rows whose decision and truth are known."""
        return sum(cell.rows for cell in self.cells.values()) + self.errors.error.rows

    def add(self, row: Labelled, sign: int = 1, *, in_group: bool = False) -> None:
        """Count a row, or (`sign` -1) take one out that was counted; as one of a group its score coarsely."""
        self.rows += sign
        if row.prediction is None:
            self.undecided += sign
        elif isinstance(row.prediction, str) and isinstance(row.label, str):
            score = row.score if row.scored_in_groups or not in_group else None
            self._add_cell(row.prediction, row.label, score, sign, coarse=in_group)
        elif isinstance(row.prediction, float) and isinstance(row.label, float):
            self.errors.add(row.prediction, row.label, sign)
        if row.value is not None:
            self.value.add(row.value, sign)
        for key, value in row.kpis.items():
            if value is None:
                _count(self.untold, key, sign)
            else:
                self.kpis.setdefault(key, Moments(2)).add(value, sign)

    def _add_cell(self, prediction: str, label: str, score: float | None, sign: int, *, coarse: bool) -> None:
        if self.apart.see((prediction, label)):
            self._fold()
        place = self.apart.place(prediction, label)
        cell = self.cells.setdefault(place, Cell())
        cell.rows += sign
        if score is not None:
            cell.scores.add(score, sign, coarse=coarse)
        if not cell.rows:
            del self.cells[place]

    def _fold(self) -> None:
        """Put cells together whose classes are no longer told apart."""
        cells, self.cells = self.cells, {}
        for key, cell in cells.items():
            self._merge_cell(key, cell)

    def _merge_cell(self, key: tuple[str, str], cell: Cell) -> None:
        mine = self.cells.setdefault(self.apart.place(*key), Cell())
        mine.rows += cell.rows
        mine.scores.merge(cell.scores)

    def merge(self, other: "Tally") -> None:
        """Count what the other one has counted; what it counted and took out is nothing."""
        self.rows += other.rows
        if self.apart.merge(other.apart):
            self._fold()
        self.undecided += other.undecided
        for key, cell in other.cells.items():
            self._merge_cell(key, cell)
        self.errors.merge(other.errors)
        self.value.merge(other.value)
        for key, moments in other.kpis.items():
            self.kpis.setdefault(key, Moments(2)).merge(moments)
        for key, rows in other.untold.items():
            _count(self.untold, key, rows)

    def to_json(self) -> dict[str, Any]:
        """As it is stored; what is not there is left out."""
        said: dict[str, Any] = {"n": self.rows}
        if self.cells:
            said["c"] = [[*key, cell.rows, _scores(cell)] for key, cell in sorted(self.cells.items())]
            said["a"] = self.apart.to_json()
        if self.errors.error.rows:
            said["e"] = [each.to_json() for each in (self.errors.error, self.errors.size, self.errors.truth)]
        if self.value.rows:
            said["v"] = self.value.to_json()
        if kpis := {key: moments.to_json() for key, moments in sorted(self.kpis.items()) if moments.rows}:
            said["k"] = kpis
        if self.untold:
            said["u"] = dict(sorted(self.untold.items()))
        if self.undecided:
            said["d"] = self.undecided
        return said

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, scores: bool = True) -> "Tally":
        """What `to_json` wrote, with its scores or without."""
        cells = {
            (prediction, label): Cell(rows, Scores.from_json(told) if told and scores else Scores())
            for prediction, label, rows, told in data.get("c", ())
        }
        made = cls(data["n"], cells, untold=dict(data.get("u", {})), undecided=data.get("d", 0))
        names = {name for place in cells for name in told(place)}
        if "a" in data:
            made.apart = Apart.from_json(data["a"], names)
        elif cells:
            made.apart = Apart.of_first_release(names)
            made._fold()
        if "e" in data:
            made.errors = Errors(*(Moments.from_json(each) for each in data["e"]))
        if "v" in data:
            made.value = Moments.from_json(data["v"])
        made.kpis = {key: Moments.from_json(each) for key, each in data.get("k", {}).items()}
        return made


Groups = dict[str, dict[str, Tally]]
"""By segment and group."""


def add_to_groups(
    groups: Groups, row: Labelled, sign: int = 1, classes: frozenset[str] = frozenset()
) -> Labelled:  # fmt: skip
    """Count a row in its groups; answers it with the groups that it really is in, where there were too many. `classes`
    are those of the baseline."""
    kept: dict[str, str] = {}
    for segment, given in row.segments.items():
        known = groups.setdefault(segment, {})
        name = given if given in known or len(known) < GROUPS_AT_MOST or sign < 0 else OTHER
        known.setdefault(name, Tally.of(classes)).add(row, sign, in_group=True)
        kept[segment] = name
        if not known[name].rows:
            del known[name]
    return row.within(kept)


def merge_groups(into: Groups, other: Groups) -> None:
    """Count what the other ones have counted."""
    for segment, groups in other.items():
        mine = into.setdefault(segment, {})
        for name, tally in groups.items():
            mine.setdefault(name, Tally()).merge(tally)


def packed(data: Any) -> bytes:
    """JSON, compressed."""
    return zlib.compress(orjson.dumps(data), 1)


def unpacked(data: bytes) -> Any:
    """What `packed` wrote."""
    return orjson.loads(zlib.decompress(data))


def groups_to_json(groups: Groups) -> dict[str, Any]:
    """As they are stored."""
    return {s: {name: tally.to_json() for name, tally in sorted(each.items())} for s, each in sorted(groups.items())}


def groups_from_json(data: Mapping[str, Any], *, scores: bool = True) -> Groups:
    """What `groups_to_json` wrote, with the scores or without."""
    return {
        segment: {name: Tally.from_json(tally, scores=scores) for name, tally in each.items()}
        for segment, each in data.items()
    }


def _scores(cell: Cell) -> dict[str, Any] | None:
    return cell.scores.to_json() if cell.scores.score.rows else None


def _count(counts: dict[Any, int], key: Any, rows: int) -> None:
    counts[key] = counts.get(key, 0) + rows
    if not counts[key]:
        del counts[key]
