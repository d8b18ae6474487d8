"""What an explanation is, of whom it may be asked, and which number of a model's answer is explained. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from contracts import ModelSchema
from services.kit.errors import Conflict, Invalid
from services.kit.models.feeding import texts_of

from .coding import Coding, Told

Array = NDArray[Any]
Arrays = dict[str, Array]
Method = Literal["trees", "linear", "exact", "sampled"]
Unit = Literal["probability", "log-odds", "value"]

PATH = "/v1/explanations"
"""Where an explanation is found, by its id below it."""
_CLOSE = 1e-3
_NAMED = 20
"""Decisions that are told to whoever names an unknown one."""


@dataclass(frozen=True)
class Contribution:
    """What one column added."""

    column: str
    value: Told
    contribution: float
    error: float | None
    """Standard error; none where the contribution is exact."""


@dataclass(frozen=True)
class Step:
    """A column as it is in a row that is decided otherwise."""

    column: str
    value: Told
    instead: Told


@dataclass(frozen=True)
class Explanation:
    """Why a row was decided as it was."""

    id: UUID
    inference_id: str
    row: int
    unit: str
    endpoint: str
    model: str
    version: int
    decided: float | str
    method: Method
    scale: Unit
    output: str
    """What is explained, as `probabilities[1]` names the score of the second class."""
    base: float
    """The mean over the background rows."""
    value: float
    """Of the decided row: the base and all contributions."""
    contributions: tuple[Contribution, ...]
    background: int
    counterfactual: tuple[Step, ...] | None
    counterfactual_decides: float | str | None
    no_counterfactual: str | None
    """Why there is none."""
    seconds: float
    asked_by: str
    asked_at: datetime
    explained: float | str | None = None
    """The decision that `output` speaks for: the one that was made, or that was named; None of a number, and of what
    was explained before it was told."""


@dataclass(frozen=True)
class Row:
    """A decided row that can be explained."""

    said: tuple[Told, ...]
    """By column, as it was recorded; a missing value is None."""
    decided: float | str


def row_of(decision: Mapping[str, Any], number: int, schema: ModelSchema) -> Row:
    """The row of a recorded decision. Raises Invalid or Conflict naming why it cannot be explained."""
    if not schema.columns:
        raise Conflict("the model's schema names no columns: there is nothing to attribute the decision to")
    if hidden := [column.name for column in schema.columns if column.sensitive]:
        raise Conflict(f"column {hidden[0]} is sensitive: the log holds no value of it, so nothing can be explained")
    row = next((each for each in decision["decided"] if each["row"] == number), None)
    if row is None:
        raise Invalid(f"row: the decision has {decision['rows']} rows; they count from 0", "row")
    if row["prediction"] is None or any(column.name not in row["features"] for column in schema.columns):
        raise Conflict("the log holds no readable payload of this decision")
    texts = texts_of(schema)
    for column in schema.columns:
        if isinstance(row["features"][column.name], str) != (column.name in texts):
            takes, holds = ("a text", "none") if column.name in texts else ("a number", "text")
            raise Conflict(f"column {column.name}: the model takes {takes}, and the log holds {holds}")
    return Row(tuple(row["features"][column.name] for column in schema.columns), row["prediction"])


@dataclass(frozen=True)
class Focus:
    """The number of an answer that is explained."""

    schema: ModelSchema
    decided: float | str
    output: int
    """Which class score; 0 where there is one number."""
    named: float | str | None = None
    """Another decision that is asked about: why not this one."""

    @property
    def explained(self) -> float | str | None:
        """The decision that is explained; None of a number."""
        return None if self.is_number else self.decided if self.named is None else self.named

    @property
    def is_number(self) -> bool:
        """A regression: the number itself is explained."""
        spec = next(each for each in self.schema.outputs if each.name == self.schema.prediction)
        return self.schema.score is None and spec.datatype in ("FP16", "FP32", "FP64")

    def of(self, answer: Arrays) -> Array:
        """[m]: the score of the class; the number; or, without either, whether the decision is the one explained."""
        if self.schema.score is not None:
            return answer[self.schema.score].astype(float).reshape(len(answer[self.schema.score]), -1)[:, self.output]
        if self.is_number:
            return answer[self.schema.prediction].astype(float).reshape(-1)
        return _are(decisions(answer, self.schema), self.explained).astype(float)

    def otherwise(self, answer: Arrays) -> Array:
        """[m]: whether a row is decided otherwise, as named where a decision is; a number: by more than half of what it
        is."""
        decided = decisions(answer, self.schema)
        if self.is_number:
            own = float(self.decided)
            return np.abs(decided.astype(float) - own) > max(abs(own) / 2, 1e-9)
        return ~_are(decided, self.decided) if self.named is None else _are(decided, self.named)


def _are(decided: Array, one: object) -> Array:
    return np.array([each == one for each in decided.tolist()], bool)


def decisions(answer: Arrays, schema: ModelSchema) -> Array:
    """[m] decisions, as the log has them: texts decoded, truth values as they are."""
    said = answer[schema.prediction].reshape(-1)
    return np.array([each.decode() if isinstance(each, bytes) else each for each in said.tolist()], object)


def focus_of(
    schema: ModelSchema, row: Row, answer: Arrays, others: Arrays, named: float | str | None = None
) -> Focus:  # fmt: skip
    """Of the answer to the row itself, asked once more, and of those to the reference rows; `named`: the decision that
    is asked about, where it is not the one that was made. Raises Conflict where the model decides otherwise today,
    Invalid for a decision that the model does not make."""
    decided = decisions(answer, schema)[0]
    if not _same(decided, row.decided):
        raise Conflict(f"the model decides {decided} today where the log says {row.decided}: not the same input")
    focus, known = Focus(schema, decided, 0), decisions(others, schema)
    if named is not None:
        about = _known(named, known, decided, is_number=focus.is_number)
        focus = focus if about == decided else replace(focus, named=about)
    if schema.score is None:
        return focus
    own = answer[schema.score].reshape(1, -1)[0]
    return replace(focus, output=_class_of(focus.explained, own, known, others[schema.score]))


def _known(named: float | str, known: Array, decided: float | str, *, is_number: bool) -> float | str:
    """The decision as the model makes it: a number may be named by its digits. Raises Invalid."""
    if is_number:
        raise Invalid("decision: the model answers a number, so there is no other decision to ask about", "decision")
    made = dict.fromkeys([*known.tolist(), decided])
    for each in made:
        if each == named or str(each) == str(named):
            return each
    some = ", ".join(sorted(map(str, made))[:_NAMED])
    raise Invalid(
        f"decision: the model decides {str(named)[:100]} of none of its reference rows; it decides {some}", "decision"
    )


def _class_of(decided: float | str | None, own: Array, decided_of: Array, scores_of: Array) -> int:
    """The class score [classes] that speaks for a decision: among the reference rows it is higher where the same was
    decided, by the most. A model with a threshold of its own does not decide for the highest."""
    same = np.array([each == decided for each in decided_of.tolist()], bool)
    scores = scores_of.astype(float).reshape(len(same), -1)
    if same.any() and not same.all():
        apart = scores[same].mean(axis=0) - scores[~same].mean(axis=0)
        if np.isfinite(apart).all() and apart.max() > 0:
            return int(np.argmax(apart))
    if isinstance(decided, int) and 0 <= decided < len(own):
        return int(decided)
    return int(np.argmax(own))


def _same(decided: Any, said: float | str) -> bool:
    if decided == said or isinstance(decided, str) or isinstance(said, str):
        return bool(decided == said)
    return bool(np.isclose(float(decided), said, rtol=_CLOSE if isinstance(decided, float) else 0.0))


def spaced(count: int, most: int) -> Array:
    """Places among so many rows, evenly spaced, at most `most` of them."""
    return np.linspace(0, count - 1, min(count, most)).astype(int)


def scale_of(raw: Array, output: int, focus: Focus, value: float) -> Unit | None:
    """The scale of a structure's own sums [outputs], told by what the model answers; None: it is none that we know."""
    if np.isclose(raw[output], value, rtol=_CLOSE, atol=_CLOSE):
        return "value" if focus.is_number else "probability"
    if focus.schema.score is None:
        return None
    said = _probabilities(raw[None, :], output, focus)[0]
    return "log-odds" if np.isclose(said, value, rtol=_CLOSE, atol=_CLOSE) else None


def fits(raw: Array, output: int, focus: Focus, scale: Unit, values: Array) -> bool:
    """Whether a structure's sums [m, outputs] over the background come to what the model answers there [m], on average:
    that both agree on one row may be chance."""
    said = _probabilities(raw, output, focus) if scale == "log-odds" else raw[:, output]
    return bool(abs(said.mean() - values.mean()) <= _CLOSE * (1 + np.abs(values).mean()))


def _probabilities(raw: Array, output: int, focus: Focus) -> Array:
    """[m] of log-odds [m, outputs]."""
    if raw.shape[1] > 2:
        shares = np.exp(raw - raw.max(axis=1, keepdims=True))
        return shares[:, output] / shares.sum(axis=1)
    sides = 1 / (1 + np.exp(-raw[:, output]))
    return 1 - sides if raw.shape[1] == 1 and focus.output == 0 else sides


def side_of(outputs: int, focus: Focus, scale: Unit) -> float:
    """-1 where a structure's one sum is of the second of two classes, and the first was decided."""
    return -1.0 if scale == "log-odds" and outputs == 1 and focus.output == 0 else 1.0


def output_of(schema: ModelSchema, focus: Focus) -> str:
    """What is explained, by its name in an answer."""
    return schema.prediction if schema.score is None else f"{schema.score}[{focus.output}]"


def timed(made: Explanation, seconds: float) -> Explanation:
    """With how long it took."""
    return replace(made, seconds=round(seconds, 3))


def contributions(coding: Coding, row: Array, shares: Array, errors: Array | None) -> tuple[Contribution, ...]:
    """The largest first."""
    made = [
        Contribution(
            column.name, coding.told(n, row[n]), float(shares[n]),
            None if errors is None else float(errors[n]) if np.isfinite(errors[n]) else None,
        )
        for n, column in enumerate(coding.columns)
    ]  # fmt: skip
    return tuple(sorted(made, key=lambda each: -abs(each.contribution)))


def steps(coding: Coding, row: Array, other: Array, changed: Sequence[int]) -> tuple[Step, ...]:
    """What differs."""
    return tuple(Step(coding.columns[n].name, coding.told(n, row[n]), coding.told(n, other[n])) for n in changed)


def may_change(schema: ModelSchema, immutable: Sequence[str]) -> Array:
    """[columns]: neither protected nor named. Raises Invalid for a name that is no column."""
    names = [column.name for column in schema.columns]
    for name in immutable:
        if name not in names:
            raise Invalid(f"immutable: the model has no column {name[:100]}", "immutable")
    return np.array([not column.protected and column.name not in immutable for column in schema.columns], bool)
