"""Rows of a table as a model's input tensors, for whoever asks a model from outside its sandbox."""

from typing import Any

from numpy.typing import NDArray

from contracts import NUMPY_OF, Column, TensorSpec

from .wire import Tensors


def feed(inputs: tuple[TensorSpec, ...], columns: tuple[Column, ...], rows: NDArray[Any]) -> Tensors:
    """The tensors of rows [m, columns]: one matrix, or one tensor for each column."""
    if len(inputs) == 1 and len(inputs[0].shape) == 2:
        return {inputs[0].name: rows.astype(NUMPY_OF[inputs[0].datatype])}
    place = {column.name: index for index, column in enumerate(columns)}
    return {
        each.name: rows[:, place[each.name]].astype(NUMPY_OF[each.datatype]).reshape([-1] + [1] * (len(each.shape) - 1))
        for each in inputs
    }
