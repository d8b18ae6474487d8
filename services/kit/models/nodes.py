"""Trees and linear models as arrays that say what the model does, for whoever explains its answers.

    left, right      [nodes] the places of the children; -1 in leaves
    column           [nodes] the column that is asked about
    threshold        [nodes] a value goes left where it is at most this
    missing_left     [nodes] whether a missing value does
    values           [nodes, outputs] what a leaf adds
    roots            [trees] the places of the roots
    base             [outputs] what is added to all
or
    coefficients     [outputs, columns]
    base             [outputs]
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .wire import Array, Tensors


class Nodes:
    """Trees that are put together node by node, the children before their parent."""

    def __init__(self, outputs: int) -> None:
        self._outputs = outputs
        self._inner: list[tuple[int, int, int, float, bool]] = []
        self._values: list[Sequence[float]] = []
        self._roots: list[int] = []

    def leaf(self, value: float, output: int = 0) -> int:
        """A leaf that adds to one output; its place."""
        values = [0.0] * self._outputs
        values[output] = value
        return self._add((-1, -1, 0, 0.0, False), values)

    def split(self, column: int, at_most: float, left: int, right: int, *, missing_left: bool) -> int:
        """A node that asks; its place."""
        return self._add((left, right, column, at_most, missing_left), [0.0] * self._outputs)

    def root(self, place: int) -> None:
        """A tree is complete."""
        self._roots.append(place)

    def arrays(self, base: Sequence[float]) -> Tensors:
        """All of them."""
        left, right, column, threshold, missing_left = zip(*self._inner, strict=True)
        return {
            "left": np.array(left), "right": np.array(right), "column": np.array(column),
            "threshold": np.array(threshold, float), "missing_left": np.array(missing_left),
            "values": np.array(self._values, float), "roots": np.array(self._roots), "base": np.array(base, float),
        }  # fmt: skip

    def _add(self, inner: tuple[int, int, int, float, bool], values: Sequence[float]) -> int:
        self._inner.append(inner)
        self._values.append(values)
        return len(self._inner) - 1


def below(threshold: float) -> float:
    """The largest FP32 under a threshold: `x < threshold` as `x <= …`."""
    return float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))


def rounded(thresholds: Array) -> Array:
    """Thresholds of a model that compares its values as FP32, for values that are no such: the largest double that
    rounds to an FP32 under or at each."""
    low = thresholds.astype(np.float32)
    low = np.where(low > thresholds, np.nextafter(low, np.float32(-np.inf)), low)
    halfway = (low.astype(float) + np.nextafter(low, np.float32(np.inf)).astype(float)) / 2
    return np.where(halfway.astype(np.float32) <= thresholds, halfway, np.nextafter(halfway, -np.inf))


def linear(coefficients: Any, intercept: Any) -> Tensors:
    """A linear model; one with a single output where its coefficients are one row."""
    weights, base = np.atleast_2d(np.asarray(coefficients, float)), np.atleast_1d(np.asarray(intercept, float))
    return {"coefficients": weights, "base": base}
