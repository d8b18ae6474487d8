"""A chunk's columns through the model: the rows that it takes, and why it does not take the others."""

from functools import partial
from typing import Any

import numpy as np

from contracts import ModelSchema
from services.kit.errors import Busy, Refusal, Unavailable

from ..dataplane import Served
from ..runtimes import Arrays
from ..v2 import Request
from .domain import Scored
from .sheet import Columns, is_matrix, tensor

Positions = np.ndarray[Any, Any]


async def score(columns: Columns, served: Served) -> Scored:
    """Every row through the model. Raises Busy or Unavailable; a row's own refusal is its own error."""
    rows = len(next(iter(columns.values())))
    errors: dict[int, str] = {}
    kept = await _score(np.arange(rows), columns, served, errors)
    good = np.concatenate([positions for positions, _ in kept]) if kept else np.arange(0)
    outputs = {name: np.concatenate([part[name] for _, part in kept]) for name in kept[0][1]} if kept else {}
    return Scored(outputs, good, errors)


async def _score(
    positions: Positions, columns: Columns, served: Served, errors: dict[int, str]
) -> list[tuple[Positions, Arrays]]:
    """All at once; where that is refused, halves, down to the single row that is wrong."""
    try:
        inputs = arrays({name: values[positions] for name, values in columns.items()}, served)
        return [(positions, await served.lane.run(inputs, len(positions)))]
    except (Busy, Unavailable):
        raise
    except Refusal as refusal:
        if len(positions) == 1:
            errors[int(positions[0])] = refusal.message[:300]
            return []
    half = partial(_score, columns=columns, served=served, errors=errors)
    middle = len(positions) // 2
    return await half(positions[:middle]) + await half(positions[middle:])


def arrays(columns: Columns, served: Served) -> Arrays:
    """The model's inputs of these columns. Raises a Refusal that names the column."""
    schema: ModelSchema = served.schema
    if is_matrix(schema):
        return {schema.inputs[0].name: served.codec.matrix(columns)}
    return {spec.name: tensor(spec, columns[spec.name]) for spec in schema.inputs}


def encode(columns: Columns, scored: Scored, served: Served, inference_id: str) -> tuple[bytes, bytes]:
    """The good rows as a V2 request and response, for the log."""
    inputs = arrays({name: values[scored.good] for name, values in columns.items()}, served)
    described = served.codec.describe(inputs, None, {})
    request = Request(inputs, len(scored.good), described)
    return described, served.codec.encode(request, scored.outputs, inference_id).logged
