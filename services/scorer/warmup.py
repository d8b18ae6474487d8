"""Rows that a model can be warmed up with, made from its schema."""

from collections.abc import Mapping

import numpy as np

from contracts import Column, ModelSchema, TensorSpec

from .runtimes import Arrays
from .v2 import NUMPY


def joinable(schema: ModelSchema) -> bool:
    """Whether requests can be put below one another: every tensor's first dimension is the row."""
    return all(spec.shape[:1] == (-1,) for spec in (*schema.inputs, *schema.outputs))


def sample(schema: ModelSchema, rows: int) -> Arrays | None:
    """`rows` plausible rows; None where nothing says what texts a text input takes."""
    texts = {c.name: str(c.categories[0]).encode() for c in schema.columns if c.categories}
    if any(spec.datatype == "BYTES" and spec.name not in texts for spec in schema.inputs):
        return None
    return {spec.name: _tensor(spec, schema.columns, rows, texts) for spec in schema.inputs}


def _tensor(spec: TensorSpec, columns: tuple[Column, ...], rows: int, texts: Mapping[str, bytes]) -> np.ndarray:
    first = rows if spec.shape[:1] == (-1,) else None
    shape = [first if i == 0 and first else len(columns) or 1 if n == -1 else n for i, n in enumerate(spec.shape)]
    if spec.datatype == "BYTES":
        return np.full(shape, texts[spec.name], object)
    made = np.ones(shape, NUMPY[spec.datatype])
    if len(shape) == 2 and shape[1] == len(columns):
        made[:] = [_plausible(column) for column in columns]
    return made


def _plausible(column: Column) -> float:
    if column.categories:
        return float(column.categories[0])
    return next((bound for bound in (column.minimum, column.maximum) if bound is not None), 1.0)
