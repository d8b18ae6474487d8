"""A model's own trees or coefficients, where their sums come to what it answers: they tell contributions exactly."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import domain, shapley, structure
from .domain import Array, Arrays, Focus, Method, Unit


@dataclass(frozen=True)
class Fitted:
    """One number of a model by its structure, on the scale of its sums."""

    method: Method
    scale: Unit
    value: Callable[[Array], float]
    """Of a row [columns]."""
    shares: Callable[[Array], shapley.Shares]
    """Of a row, against the background."""


def fitted(told: Arrays, focus: Focus, near: Array, theirs: Array, row: Array, value: float) -> Fitted | None:
    """By the structure that a model told, against the background `near` [m, columns] with its answers `theirs` [m]; its
    scale shows at one `row` with the answer `value`. None where it told none, or one whose sums are not its answers."""
    try:
        if "coefficients" in told:
            return _linear(told, focus, near, theirs, row, value)
        return _trees(told, focus, near, theirs, row, value) if "left" in told else None
    except structure.NotUsable:
        return None


def _trees(told: Arrays, focus: Focus, near: Array, theirs: Array, row: Array, value: float) -> Fitted | None:
    outputs = told["values"].shape[1]
    forests = [structure.forest(told, output, near.shape[1]) for output in range(outputs)]
    output = min(focus.output, outputs - 1)
    raw = np.array([forest.value(row) for forest in forests])
    if (scale := domain.scale_of(raw, output, focus, value)) is None:
        return None
    sums = np.array([[forest.value(other) for forest in forests] for other in near])
    if not domain.fits(sums, output, focus, scale, theirs):
        return None
    forest, sign = forests[output], domain.side_of(outputs, focus, scale)
    known = [forest.takes(other) for other in near]

    def shares(row: Array) -> shapley.Shares:
        return shapley.Shares(sign * shapley.of_forest(forest, row, near, known).contributions, None)

    return Fitted("trees", scale, lambda row: sign * forest.value(row), shares)


def _linear(told: Arrays, focus: Focus, near: Array, theirs: Array, row: Array, value: float) -> Fitted | None:
    outputs = len(told["base"])
    known = [structure.linear(told, output, near.shape[1]) for output in range(outputs)]
    output = min(focus.output, outputs - 1)
    raw = np.array([base + coefficients @ row for coefficients, base in known])
    if np.isnan(raw).any() or (scale := domain.scale_of(raw, output, focus, value)) is None:
        return None
    sums = np.array([base + near @ coefficients for coefficients, base in known]).T
    if not domain.fits(sums, output, focus, scale, theirs):
        return None
    (coefficients, base), sign = known[output], domain.side_of(outputs, focus, scale)
    return Fitted(
        "linear", scale, lambda row: sign * float(base + coefficients @ row),
        lambda row: shapley.of_linear(sign * coefficients, row, near),
    )  # fmt: skip
