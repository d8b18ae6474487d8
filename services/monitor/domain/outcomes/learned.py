"""What labelled rows say of scores and of predicted numbers: counts that merge exactly, and that a row leaves again."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from services.kit.groups import OTHER

from .apart import CLASSES_AT_MOST
from .labelled import Labelled, Task
from .sums import Moments
from .tally import score_bin

RIGHT, WRONG = "right", "wrong"
"""What is told apart where there are more than two classes: their score is the chance that the decision is right."""


def placed(row: Labelled, task: Task, cuts: Sequence[float]) -> Labelled:
    """The row with the place where it teaches something; None without a label, or without what could be calibrated."""
    if isinstance(row.prediction, float):
        place = None if row.label is None else ("", bisect_left(cuts, row.prediction))
    elif row.label is None or row.score is None or row.prediction is None:
        place = None
    else:
        name = str(row.label) if task == "binary" else RIGHT if row.prediction == row.label else WRONG
        place = name, score_bin(row.score)
    return replace(row, learned=place)


@dataclass
class Learned:
    """Rows by truth and bin of the score; of predicted numbers, the sizes of the errors by group."""

    scores: dict[str, dict[int, int]] = field(default_factory=dict[str, dict[int, int]])
    losses: dict[int, Moments] = field(default_factory=dict[int, Moments])

    def add(self, row: Labelled, sign: int = 1) -> Labelled:
        """Count a row, or (`sign` -1) take one out; answers it with its real place, should there be too many truths."""
        if row.learned is None:
            return row
        name, place = row.learned
        if isinstance(row.prediction, float) and isinstance(row.label, float):
            moments = self.losses.setdefault(place, Moments(4))
            moments.add(abs(row.prediction - row.label), sign)
            if not moments.rows:
                del self.losses[place]
            return row
        if sign > 0 and name not in self.scores and len(self.scores) >= CLASSES_AT_MOST:
            name = OTHER
        self._add_scores(name, place, sign)
        return replace(row, learned=(name, place))

    def _add_scores(self, name: str, place: int, rows: int) -> None:
        bins = self.scores.setdefault(name, {})
        bins[place] = bins.get(place, 0) + rows
        if not bins[place]:
            del bins[place]
        if not bins:
            del self.scores[name]

    def merge(self, other: "Learned") -> None:
        """Count what the other one has counted."""
        for name, bins in other.scores.items():
            for place, rows in bins.items():
                self._add_scores(name, place, rows)
        for place, moments in other.losses.items():
            self.losses.setdefault(place, Moments(4)).merge(moments)

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "s": {name: sorted(bins.items()) for name, bins in sorted(self.scores.items())},
            "l": [[place, moments.to_json()] for place, moments in sorted(self.losses.items())],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Learned":
        """What `to_json` wrote."""
        scores = {name: dict(bins) for name, bins in data["s"].items()}
        return cls(scores, {place: Moments.from_json(moments) for place, moments in data["l"]})
