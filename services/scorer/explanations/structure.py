"""What a model says of its trees or coefficients (`services.kit.models.nodes`), checked and walked to its leaves."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.kit.models.wire import Tensors

from .shapley import Forest

Array = NDArray[Any]

_MOST_CELLS = 50_000_000
_INTEGERS = ("left", "right", "column", "roots")


class NotUsable(ValueError):
    """These numbers are no trees: what came out of a sandbox is not believed."""


def forest(said: Tensors, output: int, columns: int) -> Forest:
    """The leaves of one output. Raises NotUsable for what is no forest over so many columns, or too large."""
    arrays = _checked(said, output, columns)
    leaves = [leaf for root in arrays["roots"].tolist() for leaf in _leaves(arrays, int(root), columns)]
    if len(leaves) * columns > _MOST_CELLS:
        raise NotUsable("the trees are too large to be walked")
    low, high, missing, at = zip(*leaves, strict=True)
    return Forest(
        np.array(low), np.array(high), np.array(missing), arrays["values"][list(at), output],
        float(arrays["base"][output]),
    )  # fmt: skip


def linear(said: Tensors, output: int, columns: int) -> tuple[Array, float]:
    """Coefficients [n] and base of one output. Raises NotUsable."""
    try:
        coefficients, base = said["coefficients"].astype(float), said["base"].astype(float)
        if coefficients.shape[1] != columns or len(base) != len(coefficients):
            raise NotUsable("the coefficients are of other columns")
        return coefficients[output], float(base[output])
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise NotUsable(f"no linear model: {type(error).__name__}") from None


def _checked(said: Tensors, output: int, columns: int) -> dict[str, Array]:
    try:
        arrays = {name: said[name].astype(np.int64 if name in _INTEGERS else float) for name in said}
        nodes = len(arrays["left"])
        aligned = all(len(arrays[name]) == nodes for name in ("right", "column", "threshold", "missing_left", "values"))
        inner = arrays["left"] >= 0
        asked = arrays["column"][inner]
        children = np.concatenate([arrays["left"][inner], arrays["right"][inner]])
        if not aligned or (len(asked) and (asked.min() < 0 or asked.max() >= columns)):
            raise NotUsable("the nodes do not fit together")
        if len(children) and (children.min() < 0 or children.max() >= nodes or len(set(children)) != len(children)):
            raise NotUsable("a node has no place, or two")
        if (
            not 0 <= output < arrays["values"].shape[1]
            or not 0 <= arrays["roots"].min() <= arrays["roots"].max() < nodes
        ):
            raise NotUsable("there is no such output or root")
        return arrays
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise NotUsable(f"no trees: {error}") from None


def _leaves(arrays: dict[str, Array], root: int, columns: int) -> Iterator[tuple[Array, Array, Array, int]]:
    """Each leaf's bounds and place. Nodes have one parent each, so this ends."""
    whole = np.full(columns, -np.inf), np.full(columns, np.inf), np.ones(columns, bool)
    waiting = [(root, *whole)]
    while waiting:
        node, low, high, missing = waiting.pop()
        left = int(arrays["left"][node])
        if left < 0:
            yield low, high, missing, node
            continue
        column, threshold = int(arrays["column"][node]), arrays["threshold"][node]
        to_left = bool(arrays["missing_left"][node])
        below, above, gone_left, gone_right = high.copy(), low.copy(), missing.copy(), missing.copy()
        below[column], above[column] = min(high[column], threshold), max(low[column], threshold)
        gone_left[column] &= to_left
        gone_right[column] &= not to_left
        waiting += [(left, low, below, gone_left), (int(arrays["right"][node]), above, high, gone_right)]
