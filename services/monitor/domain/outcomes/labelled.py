"""One decided row with what followed, as it is counted: which class, which error, in which groups."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import isfinite
from typing import Any, Literal

from contracts import ModelSchema, OutcomeObserved, Profile
from contracts.profile import CategoricalProfile
from services.kit.groups import Grouping, class_name

from .apart import CLASSES_AT_MOST
from .numbers import cuts_of
from .sums import LARGEST

Task = Literal["binary", "classes", "regression"]
SEARCHED_AT_MOST = 8
"""Segments and protected attributes of a version whose pairs are counted: 28 pairs."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """What is remembered of a row: enough to count it, and to take it out again when its outcome is revised."""

    prediction: str | float | None
    """The name of a class; a number where numbers are predicted; None where the decision is not known."""
    label: str | float | None
    score: float | None = None
    value: float | None = None
    kpis: Mapping[str, float | None] = field(default_factory=dict[str, float | None])
    """By key; None where the expression has no value for this row."""
    segments: Mapping[str, str] = field(default_factory=dict[str, str])
    paired: Mapping[str, str] | None = None
    """The groups that it has in pairs of segments; None: it is in no slices."""
    learned: tuple[str, int] | None = None
    """What it was counted as where scores are calibrated (`learned.py`); None: it was not."""
    scored_in_groups: bool = True
    """Whether its groups counted its score; what was counted before they did has none there."""
    answered: tuple[int, str | float | None] | None = None
    """Of a shadow's row, which version callers were told of, and what that decided."""

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "p": self.prediction, "l": self.label, "s": self.score, "v": self.value, "k": dict(self.kpis),
            "g": dict(self.segments), "b": self.learned, "j": None if self.paired is None else dict(self.paired),
            "c": self.scored_in_groups,
        } | ({} if self.answered is None else {"a": self.answered})  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Labelled":
        """What `to_json` wrote. JSON of a database may give whole numbers back as integers."""
        learned, answered = data.get("b"), data.get("a")
        return cls(
            _told(data["p"]), _told(data["l"]), _number(data["s"]), _number(data["v"]), data["k"], data["g"],
            data.get("j"), None if learned is None else (learned[0], learned[1]), data.get("c", False),
            None if answered is None else (answered[0], _told(answered[1])),
        )  # fmt: skip

    def within(self, segments: Mapping[str, str]) -> "Labelled":
        """In these groups."""
        return replace(self, segments=segments)


@dataclass(frozen=True)
class Meaning:
    """How the outcomes of a version are to be read."""

    task: Task
    groupings: Mapping[str, Grouping]
    """Of segments and protected attributes."""
    segments: frozenset[str] = frozenset()
    """Those that are no protected attributes, and so none of fairness."""
    searched: tuple[str, ...] = ()
    """Those whose groups and pairs are searched for the worst slices."""
    cuts: tuple[float, ...] = ()
    """Of predicted numbers, between their groups."""
    classes: frozenset[str] = frozenset()
    """Of the baseline, the commonest: they are told apart."""

    @classmethod
    def of(cls, schema: ModelSchema | None, profile: Profile | None) -> "Meaning":
        """From what the version declares; without a schema, classes."""
        if schema is None:
            return cls("binary", {})
        columns = {column.name: column for column in profile.columns} if profile else {}
        grouped = [column for column in schema.columns if column.protected or column.segment]
        groupings = {c.name: Grouping.of(c, columns.get(c.name)) for c in grouped}
        segments_first = sorted(grouped, key=lambda column: not column.segment)
        searched = [column.name for column in segments_first if groupings[column.name].declared]
        return cls(
            _task(schema, profile), groupings, frozenset(column.name for column in grouped if not column.protected),
            tuple(searched[:SEARCHED_AT_MOST]), cuts_of(profile), _classes(profile),
        )  # fmt: skip

    def read(self, event: OutcomeObserved, kpis: Mapping[str, float | None]) -> Labelled:
        """The row of an outcome. Raises ValueError for a number that cannot be counted."""
        told = _as_number if self.task == "regression" else class_name
        groups = {name: self.groupings.get(name, Grouping()).group(v) for name, v in sorted(event.segments.items())}
        paired = {name: self.groupings[name].paired(groups[name]) for name in self.searched if name in groups}
        return Labelled(
            None if event.prediction is None else told(event.prediction),
            None if event.label is None else told(event.label), _share(event.score),
            None if event.value is None else _as_number(event.value), kpis, groups, paired if self.searched else None,
            answered=self._answered(event),
        )  # fmt: skip

    def _answered(self, event: OutcomeObserved) -> tuple[int, str | float | None] | None:
        """Of another task's version no decision is known: it decided about something else."""
        if event.answered is None:
            return None
        version, prediction = event.answered.version, event.answered.prediction
        if prediction is None or self.task != "regression":
            return version, None if prediction is None else class_name(prediction)
        try:
            return version, _as_number(prediction)
        except ValueError:
            return version, None


def _task(schema: ModelSchema, profile: Profile | None) -> Task:
    """Two classes, several, or a number: by the shape of the score, the reference's decisions, the output's type."""
    decided = next((c for c in profile.columns if c.role == "prediction"), None) if profile else None
    score = next((spec for spec in schema.outputs if spec.name == schema.score), None)
    if score is not None and len(score.shape) > 1 and score.shape[-1] > 0:
        return "binary" if score.shape[-1] <= 2 else "classes"
    if isinstance(decided, CategoricalProfile):
        return "binary" if len(decided.classes) <= 2 else "classes"
    kind = next((spec.datatype for spec in schema.outputs if spec.name == schema.prediction), "FP64")
    if score is not None or kind in ("BYTES", "BOOL"):
        return "binary"
    return "regression" if decided is not None or kind.startswith("FP") else "binary"


def _classes(profile: Profile | None) -> frozenset[str]:
    """The commonest of what the baseline's rows decided and were."""
    rows = Counter[str]()
    decided = next((c for c in profile.columns if c.role == "prediction"), None) if profile else None
    for column in (decided, profile.label if profile else None):
        if isinstance(column, CategoricalProfile):
            rows.update(dict(zip(map(class_name, column.classes), column.counts, strict=True)))
    return frozenset(sorted(rows, key=lambda name: (-rows[name], name))[:CLASSES_AT_MOST])


def in_order(classes: Iterable[str]) -> list[str]:
    """Ascending, as numbers where all of them are: the order that a model numbers its probabilities in."""
    given = set(classes)
    try:
        return sorted(given, key=float)
    except ValueError:
        return sorted(given)


def kpi_key(name: str, expression: str) -> str:
    """By which a KPI is summed: one that is defined otherwise is another one."""
    return f"{name} = {expression}"


def window_of(event: OutcomeObserved, length_s: float) -> tuple[float, float]:
    """Start and end of the window of the decision, seconds since the epoch."""
    at = _seconds(event.received_at)
    return at // length_s * length_s, at // length_s * length_s + length_s


def _seconds(at: datetime) -> float:
    return at.timestamp()


def _as_number(value: float | str) -> float:
    number = float(value)
    if not isfinite(number) or abs(number) > LARGEST:
        raise ValueError(f"{value!r} is no number that can be counted")
    return number


def _share(score: float | None) -> float | None:
    """A probability, or None: margins and the like are no scores that can be calibrated."""
    return score if score is not None and 0.0 <= score <= 1.0 else None


def _told(value: str | float | None) -> str | float | None:
    return value if value is None or isinstance(value, str) else float(value)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
