"""A model's own trees or coefficients, where their sums come to what it answers: they tell contributions exactly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from . import domain, shapley, structure
from .domain import Array, Arrays, Focus, Method, Unit

_KEPT_CELLS = 100_000_000
"""Leaves, columns and background rows: what the leaves take of the background is a byte each."""


@dataclass(frozen=True)
class Fitted:
    """Some numbers of a model's answer by its structure, on the scale of its sums."""

    method: Method
    scale: Unit
    values: Callable[[Array], Array]
    """Of a row [columns]: by number."""
    shares: Callable[[Array, int], shapley.Shares]
    """Of a row and one of the numbers, against the background."""


@dataclass(frozen=True)
class _Sums:
    """What a structure makes of rows before it is told as an answer."""

    method: Method
    of: Callable[[Array], Array]
    """Of a row [columns]: [outputs]."""
    shares: Callable[[Array, int], shapley.Shares]
    """Of a row and an output, against the background."""
    near: Array
    """Of the background: [m, outputs]."""


def fitted(
    told: Arrays, foci: Sequence[Focus], near: Array, theirs: Array, row: Array, values: Array
) -> Fitted | None:  # fmt: skip
    """By the structure that a model told, against the background `near` [m, columns] with its answers `theirs`
    [foci, m]; its scale shows at one `row` with the answers `values` [foci]. None where it told none, or one whose sums
    are not its answers, on one scale."""
    try:
        sums = _linear(told, near) if "coefficients" in told else _trees(told, near) if "left" in told else None
    except structure.NotUsable:
        return None
    if sums is None or np.isnan(raw := sums.of(row)).any():
        return None
    scales: set[Unit | None] = {_scale(sums, raw, *each) for each in zip(foci, theirs, values.tolist(), strict=True)}
    if len(scales) > 1 or (scale := scales.pop()) is None:
        return None
    outputs = np.array([min(focus.output, len(raw) - 1) for focus in foci])
    signs = np.array([domain.side_of(len(raw), focus, scale) for focus in foci])

    def shares(row: Array, place: int) -> shapley.Shares:
        return shapley.Shares(signs[place] * sums.shares(row, int(outputs[place])).contributions, None)

    return Fitted(sums.method, scale, lambda row: signs * sums.of(row)[outputs], shares)


def _scale(sums: _Sums, raw: Array, focus: Focus, theirs: Array, value: float) -> Unit | None:
    output = min(focus.output, len(raw) - 1)
    scale = domain.scale_of(raw, output, focus, value)
    return scale if scale and domain.fits(sums.near, output, focus, scale, theirs) else None


def _trees(told: Arrays, near: Array) -> _Sums:
    forests = [structure.forest(told, output, near.shape[1]) for output in range(told["values"].shape[1])]
    known: dict[int, list[Array]] = {}

    def of(row: Array) -> Array:
        return np.array([forest.value(row) for forest in forests])

    def shares(row: Array, output: int) -> shapley.Shares:
        forest = forests[output]
        if output not in known and forest.low.size * len(near) * (len(known) + 1) <= _KEPT_CELLS:
            known[output] = [forest.takes(other) for other in near]
        return shapley.of_forest(forest, row, near, known.get(output))

    return _Sums("trees", of, shares, np.array([of(other) for other in near]))


def _linear(told: Arrays, near: Array) -> _Sums:
    known = [structure.linear(told, output, near.shape[1]) for output in range(len(told["base"]))]
    coefficients, bases = np.array([each for each, _ in known]), np.array([base for _, base in known])

    def of(row: Array) -> Array:
        return bases + coefficients @ row

    def shares(row: Array, output: int) -> shapley.Shares:
        return shapley.of_linear(coefficients[output], row, near)

    return _Sums("linear", of, shares, bases + near @ coefficients.T)
