"""A challenger against what the champion decided: the same recorded rows, and the truth where it is known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from .comparison import Answers, Comparison, Incomparable, compare, texts

_NEEDED = 20
"""Labelled rows, below which an interval says nothing."""


@dataclass(frozen=True)
class Recorded:
    """Rows of a snapshot as callers were answered."""

    predictions: np.ndarray
    """[rows], numbers or texts."""
    scores: np.ndarray
    """[rows], the probability of the last of two classes; NaN where none was recorded."""
    labels: np.ndarray
    """[rows], numbers (NaN where the truth is not known) or texts (empty where it is not)."""

    @property
    def labelled(self) -> np.ndarray:
        """[rows], whether the truth is known."""
        return self.labels != "" if self.labels.dtype.kind == "U" else ~np.isnan(self.labels)


@dataclass(frozen=True)
class Replayed:
    """How a replay ended."""

    state: Literal["replayed", "failed"]
    reason: str
    snapshot_digest: str | None = None
    rows: int = 0
    labelled: int = 0
    by_version: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many of the rows each version had decided."""
    agreement: float | None = None
    """The share of rows that both decide alike; of numbers, None."""
    difference: float | None = None
    """Of numbers: the mean absolute difference of the two."""
    comparison: Comparison | None = None
    """On the rows whose truth is known; the challenger is the candidate."""


def replayed(
    recorded: Recorded, challenger: Answers, by_version: Mapping[str, int], snapshot: str, *,
    regression: bool, confidence: float, seed: str,
) -> Replayed:  # fmt: skip
    """Compare row by row. Raises Incomparable."""
    rows, known = len(recorded.predictions), recorded.labelled
    predictions = challenger.predictions.reshape(-1)
    if len(predictions) != rows:
        raise Incomparable(f"{len(predictions)} answers to {rows} rows")
    agreement = difference = None
    if regression:
        difference = _difference(recorded.predictions, predictions)
    else:
        agreement = round(float((texts(recorded.predictions) == texts(predictions)).mean()), 4)
    judged = None
    if known.sum() >= _NEEDED:
        was = Answers(recorded.predictions[known], _probabilities(recorded.scores[known], challenger.scores))
        now = Answers(predictions[known], None if challenger.scores is None else challenger.scores[known])
        judged = compare(recorded.labels[known], was, now, regression=regression, confidence=confidence, seed=seed)
    reason = _told(rows, int(known.sum()), agreement, difference, judged)
    return Replayed(
        "replayed", reason, snapshot, rows, int(known.sum()), by_version, agreement, difference, judged
    )  # fmt: skip


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    if "U" in (one.dtype.kind, other.dtype.kind) or not np.isfinite(other).all():
        raise Incomparable("the challenger answers no numbers")
    return round(float(np.abs(one.astype(np.float64) - other.astype(np.float64)).mean()), 6)


def _probabilities(scores: np.ndarray, others: np.ndarray | None) -> np.ndarray | None:
    """What was recorded is one number a row: of two classes it tells both, of more it does not."""
    if others is None or others.ndim != 2 or others.shape[1] != 2 or not np.isfinite(scores).all():
        return None
    return np.column_stack([1 - scores, scores])


def _told(
    rows: int, labelled: int, agreement: float | None, difference: float | None, judged: Comparison | None
) -> str:
    apart = (
        f"both decide alike in {agreement:.2%}"
        if agreement is not None
        else f"they differ by {difference:g} in the mean"
    )
    truth = f"the challenger has {judged.told()}" if judged else f"the truth is known of {labelled}: too few to judge"
    return f"{rows} recorded rows: {apart}; {truth}"
