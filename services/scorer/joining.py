"""Requests put below one another for one call of a model, and its answer taken apart again."""

from collections.abc import Sequence

import numpy as np

from .runtimes import Arrays
from .runtimes.errors import ModelFailed


def alike(one: Arrays, other: Arrays) -> bool:
    """Whether two requests' rows have one shape."""
    return all(values.shape[1:] == other[name].shape[1:] for name, values in one.items())


def joined(inputs: Sequence[Arrays]) -> Arrays:
    """All rows in one request."""
    if len(inputs) == 1:
        return inputs[0]
    return {name: np.concatenate([one[name] for one in inputs]) for name in inputs[0]}


def refuse_other_rows(outputs: Arrays, rows: int) -> None:
    """Raise ModelFailed where the model did not answer every row: whose is which, then?"""
    for values in outputs.values():  # a plain loop: each request of the event loop passes here
        if values.ndim == 0 or len(values) != rows:
            raise ModelFailed("the model did not answer every row")


def split(outputs: Arrays, sizes: Sequence[int]) -> list[Arrays]:
    """Each request's own rows. Raises ModelFailed."""
    refuse_other_rows(outputs, sum(sizes))
    pieces: list[Arrays] = []
    at = 0
    for size in sizes:
        pieces.append({name: values[at : at + size] for name, values in outputs.items()})
        at += size
    return pieces
