"""Rows of a table as a model's input tensors, for whoever asks a model from outside its sandbox."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts import NUMPY_OF, ModelSchema, TensorSpec

from .wire import Tensors

Columns = Mapping[str, NDArray[Any]]
"""By name, in the order of the model's columns: numbers [rows], or texts as bytes [rows]."""


def matrix_of(schema: ModelSchema) -> TensorSpec | None:
    """The one input whose columns the schema names, as wide as these are many; None of a model that takes a tensor for
    each column, or whose columns nobody named."""
    one = schema.inputs[0] if len(schema.inputs) == 1 else None
    if one is None or len(one.shape) != 2 or not schema.columns or one.shape[1] not in (-1, len(schema.columns)):
        return None
    return one.model_copy(update={"shape": (one.shape[0], len(schema.columns))})


def text_columns(inputs: tuple[TensorSpec, ...], names: tuple[str, ...]) -> frozenset[str]:
    """Which columns a model takes as texts: those of a matrix of BYTES, or with a tensor of BYTES of their own."""
    if len(inputs) == 1 and len(inputs[0].shape) == 2:
        return frozenset(names if inputs[0].datatype == "BYTES" else ())
    return frozenset(each.name for each in inputs if each.datatype == "BYTES")


def texts_of(schema: ModelSchema) -> frozenset[str]:
    """The same of a registered model."""
    return text_columns(schema.inputs, tuple(column.name for column in schema.columns))


def feed(inputs: tuple[TensorSpec, ...], columns: Columns) -> Tensors:
    """The tensors of rows: one matrix, or one tensor for each column."""
    if len(inputs) == 1 and len(inputs[0].shape) == 2:
        matrix = np.column_stack(list(columns.values())) if columns else np.empty((0, 0))
        return {inputs[0].name: matrix.astype(NUMPY_OF[inputs[0].datatype])}
    return {
        each.name: columns[each.name].astype(NUMPY_OF[each.datatype]).reshape([-1] + [1] * (len(each.shape) - 1))
        for each in inputs
    }
